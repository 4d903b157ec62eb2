use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wickie_testbench::{Fault, Receiver, When};

/// All bytes of the answer, or what came until the connection broke or `patience` was over.
async fn get(receiver: &Receiver, path: &str, patience: Duration) -> String {
    let mut stream = TcpStream::connect(receiver.addr()).await.expect("is up");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("is up");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(patience, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn rules_strike_what_they_match_as_often_as_they_say() {
    let receiver = Receiver::start().expect("starts");
    receiver.inject(Fault::answer(500).on(|request| request.path == "/a").skip(1).times(2));
    let mut statuses = Vec::new();
    for path in ["/a", "/b", "/a", "/a", "/a"] {
        statuses.push(get(&receiver, path, LONG).await[9..12].to_owned());
    }
    assert_eq!(statuses, ["200", "200", "500", "500", "200"]);
    assert_eq!(receiver.count(|request| request.status == Some(500)), 2);
}

#[tokio::test]
async fn a_retry_after_is_said() {
    let receiver = Receiver::start().expect("starts");
    receiver.inject(Fault::answer(429).retry_after(7));
    assert!(get(&receiver, "/", LONG).await.contains("retry-after: 7"));
    receiver.heal();
    assert!(get(&receiver, "/", LONG).await.contains("200 OK"));
}

#[tokio::test]
async fn a_halted_body_leaves_the_connection_open() {
    let receiver = Receiver::start().expect("starts");
    receiver.inject(Fault::Halt { after: 1 });
    let mut stream = TcpStream::connect(receiver.addr()).await.expect("is up");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("is up");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\no") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("open"), 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(receiver.requests()[0].response_bytes, 1);
    assert_eq!(receiver.requests()[0].took, None);
}

#[tokio::test]
async fn hooks_run_at_their_request_before_or_after_it_was_served() {
    let receiver = Arc::new(Receiver::start().expect("starts"));
    let (before, after) = (Arc::new(AtomicUsize::new(9)), Arc::new(AtomicUsize::new(9)));
    for (when, seen) in [(When::Before, before.clone()), (When::After, after.clone())] {
        let inner = Arc::downgrade(&receiver);
        receiver.at_request(
            2,
            when,
            |request| request.path == "/a",
            move || {
                seen.store(inner.upgrade().map_or(0, |receiver| receiver.deliveries().len()), Ordering::SeqCst);
            },
        );
    }
    for path in ["/a", "/b", "/a", "/a"] {
        get(&receiver, path, LONG).await;
    }
    assert_eq!((before.load(Ordering::SeqCst), after.load(Ordering::SeqCst)), (2, 3));
}
