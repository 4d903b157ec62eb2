//! The outbox against a receiver over HTTP.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use super::*;
use crate::config::SecretData;
use crate::config::notification::{Form, Provider};
use crate::report::{EVENT_ID_HEADER, EVENT_ID_KEY};
use crate::store::{Batch, DataDir, Delivery, EventFilter};

const QUICK: Pace = Pace { first: Duration::from_millis(1), most: Duration::from_millis(5) };

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Reply {
    Status(u16),
    /// Takes it, and never answers.
    Silence,
}

/// A receiver that follows a script, and says 200 when it has come to its end.
#[derive(Clone, Default)]
struct Receiver {
    script: Arc<Mutex<VecDeque<Reply>>>,
    taken: watch::Sender<Vec<(StatusCode, HeaderMap, Bytes)>>,
}

impl Receiver {
    async fn start(script: impl IntoIterator<Item = Reply>) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        (Self::on(listener, script), url)
    }

    fn on(listener: tokio::net::TcpListener, script: impl IntoIterator<Item = Reply>) -> Self {
        let receiver =
            Self { script: Arc::new(Mutex::new(script.into_iter().collect())), taken: watch::Sender::default() };
        let router = Router::new().route("/hook", post(Self::take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let reply = receiver.script.lock().unwrap().pop_front().unwrap_or(Reply::Status(200));
        let status = match reply {
            Reply::Status(code) => StatusCode::from_u16(code).unwrap(),
            Reply::Silence => StatusCode::CONTINUE,
        };
        receiver.taken.send_modify(|taken| taken.push((status, headers, body)));
        if status == StatusCode::CONTINUE {
            std::future::pending::<()>().await;
        }
        status
    }

    async fn wait_for(&self, count: usize) {
        self.taken.subscribe().wait_for(|taken| taken.len() >= count).await.unwrap();
    }

    /// The ids that came, with what was answered.
    fn ids(&self) -> Vec<(String, u16)> {
        let id = |headers: &HeaderMap| headers[EVENT_ID_HEADER].to_str().unwrap().to_owned();
        self.taken.borrow().iter().map(|(status, headers, _)| (id(headers), status.as_u16())).collect()
    }
}

fn provider() -> ResourceName {
    ResourceName::new("flux-system", "ci")
}

fn endpoint(url: &str) -> Endpoint {
    let provider = Provider {
        name: provider(),
        form: Form::GenericHmac,
        address: Some(url.to_owned()),
        secret: None,
        cert_secret: None,
        timeout: LONG,
        suspend: false,
    };
    let secret = SecretData::new([("token".to_owned(), b"key".to_vec())].into());
    Endpoint::new(&provider, Some(&secret), None).unwrap()
}

fn open(dir: &std::path::Path) -> Store {
    Store::open(&DataDir::new(dir), Timestamp::UNIX_EPOCH).unwrap().0
}

async fn add(store: &Store, ids: impl IntoIterator<Item = usize>) {
    let events = ids.into_iter().map(|id| {
        let event = Event {
            id: format!("e{id}"),
            about: Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop")),
            uid: String::new(),
            severity: Severity::Info,
            at: Timestamp::UNIX_EPOCH,
            reason: "Progressing".to_owned(),
            message: "applied".to_owned(),
            metadata: BTreeMap::new(),
        };
        (event.clone(), vec![Delivery { provider: provider(), event }])
    });
    store.commit(Batch { events: events.collect(), ..Batch::default() }).await.unwrap();
}

fn reporter(store: &Store, url: &str) -> Reporter {
    let mut reporter = Reporter::with_pace(store.clone(), "node-7", QUICK);
    reporter.serve([endpoint(url)]).unwrap();
    reporter
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_receiver_that_was_down_gets_everything_in_order_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let reporter = reporter(&store, &format!("http://{address}/hook"));
    for id in 0..20 {
        add(&store, [id]).await;
        reporter.wake();
    }
    reporter.states.subscribe().wait_for(|states| states[&provider()].failing.is_some()).await.unwrap();
    let receiver = Receiver::on(tokio::net::TcpListener::bind(address).await.unwrap(), []);
    assert!(reporter.flush(LONG).await);
    let want: Vec<_> = (0..20).map(|id| (format!("e{id}"), 200)).collect();
    assert_eq!(receiver.ids(), want);
    assert_eq!(store.outbox().await.unwrap(), []);
    let taken = receiver.taken.borrow();
    let (_, headers, body) = &taken[0];
    assert_eq!(headers["gotk-component"], "wickie");
    assert!(headers["x-signature"].to_str().unwrap().starts_with("sha256="));
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["metadata"][EVENT_ID_KEY], "e0");
    assert_eq!(reporter.states()[&provider()].failing, None);
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_with_the_same_id_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (receiver, url) = Receiver::start([503, 429, 404, 401, 302].map(Reply::Status)).await;
    add(&store, [0, 1]).await;
    let reporter = reporter(&store, &url);
    assert!(reporter.flush(LONG).await);
    let ids = receiver.ids();
    assert_eq!(ids[..5].iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["e0"; 5]);
    assert_eq!(ids[5..], [("e0".to_owned(), 200), ("e1".to_owned(), 200)]);
}

#[tokio::test]
async fn what_its_receiver_cannot_read_is_set_aside_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (receiver, url) = Receiver::start([Reply::Status(422); REFUSED_TRIES as usize]).await;
    add(&store, [0, 1]).await;
    let reporter = reporter(&store, &url);
    assert!(reporter.flush(LONG).await);
    assert_eq!(receiver.ids().last().unwrap(), &("e1".to_owned(), 200));
    let waiting = &store.outbox().await.unwrap()[0];
    assert_eq!((waiting.waiting, waiting.set_aside), (0, 1));
    let about = EventFilter { kind: Some(ResourceKind::Provider), ..EventFilter::default() };
    let said = store.events(about, 9).await.unwrap();
    assert_eq!((said.len(), said[0].reason.as_str()), (1, REPORT_REFUSED));
    assert!(said[0].message.contains("e0") && said[0].message.contains("422"), "{}", said[0].message);
}

#[tokio::test]
async fn a_provider_that_is_no_longer_served_keeps_its_reports() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (receiver, url) = Receiver::start([]).await;
    let mut reporter = reporter(&store, &url);
    assert!(reporter.flush(LONG).await);
    reporter.serve([]).unwrap();
    add(&store, [0]).await;
    reporter.wake();
    assert!(reporter.flush(LONG).await, "nobody is left to wait for");
    assert_eq!((receiver.ids(), store.outbox().await.unwrap()[0].waiting), (vec![], 1));
    reporter.serve([endpoint(&url)]).unwrap();
    assert!(reporter.flush(LONG).await);
    assert_eq!(receiver.ids(), [("e0".to_owned(), 200)]);
}

/// The part of [`killed_between_sending_and_taking_out`] that is killed.
const KILLED: &str = "WICKIE_TEST_SENDER";

#[tokio::test]
async fn killed_between_sending_and_taking_out() {
    if let Ok(told) = std::env::var(KILLED) {
        let (dir, url) = told.split_once('|').unwrap();
        let _reporter = reporter(&open(dir.as_ref()), url);
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let (receiver, url) = Receiver::start([Reply::Status(200), Reply::Silence]).await;
    let store = open(dir.path());
    add(&store, [0, 1, 2]).await;
    let mut sender = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "report::drain::tests::killed_between_sending_and_taking_out"])
        .env(KILLED, format!("{}|{url}", dir.path().display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    receiver.wait_for(2).await;
    sender.kill().unwrap();
    sender.wait().unwrap();
    let reporter = reporter(&store, &url);
    assert!(reporter.flush(LONG).await);
    let ids: Vec<_> = receiver.ids().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["e0", "e1", "e1", "e2"], "the one in flight comes again with its id, no other does");
}
