use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wickie_testbench::{Fault, Receiver};

/// The status, or `None` when the connection broke.
async fn post(receiver: &Receiver, body: &'static str, signature: &str) -> Option<u16> {
    let stream = TcpStream::connect(receiver.addr()).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = hyper::Request::post("/hook").header("host", "receiver").header("x-signature", signature);
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).expect("a request")).await.ok()?;
    Some(answer.status().as_u16())
}

#[tokio::test]
async fn it_keeps_order_and_headers_and_what_it_refused_was_not_taken() {
    let receiver = Receiver::start().expect("starts");
    // HMAC-SHA256 of `{"id":1}` under `key`, by openssl dgst.
    let signature = "sha256=c95c6a7c2c7c761e984c68cf64b4bca93f07242900aafdbb328d3bb75ab0dcb0";
    assert_eq!(post(&receiver, r#"{"id":1}"#, signature).await, Some(200));
    receiver.inject(Fault::answer(503).retry_after(1).once());
    assert_eq!(post(&receiver, r#"{"id":2}"#, "").await, Some(503));
    receiver.inject(Fault::Lose.once());
    assert_eq!(post(&receiver, r#"{"id":2}"#, "").await, None);
    receiver.down();
    assert_eq!(post(&receiver, r#"{"id":3}"#, "").await, None);
    receiver.up();
    assert_eq!(post(&receiver, r#"{"id":2}"#, "").await, Some(200));
    let ids: Vec<_> =
        receiver.deliveries().iter().map(|delivery| delivery.json().expect("JSON")["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 2], "what was lost on its way back was taken");
    let first = &receiver.deliveries()[0];
    assert!(first.signed_with(b"key") && !first.signed_with(b"other"));
    assert_eq!(first.uri, "/hook");
}
