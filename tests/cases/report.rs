//! The outbox against a receiver that fails on the wire.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use wickie::config::SecretData;
use wickie::config::notification::{Form, Provider};
use wickie::report::{EVENT_ID_HEADER, EVENT_ID_KEY, Endpoint, Reporter};
use wickie::store::{Batch, DataDir, Delivery, Store};
use wickie_model::{Event, Resource, ResourceKind, ResourceName, Severity};
use wickie_testbench::{Fault, Receiver, eventually};

const LONG: Duration = Duration::from_secs(120);

fn ci() -> ResourceName {
    ResourceName::new("flux-system", "ci")
}

fn endpoint(receiver: &Receiver, ca: Option<&str>) -> Endpoint {
    let provider = Provider {
        name: ci(),
        form: Form::GenericHmac,
        address: Some(receiver.url()),
        secret: None,
        cert_secret: None,
        timeout: Duration::from_secs(15),
        suspend: false,
    };
    let data = |key: &str, value: &str| SecretData::new([(key.to_owned(), value.as_bytes().to_vec())].into());
    let certificates = ca.map(|pem| data("ca.crt", pem));
    Endpoint::new(&provider, Some(&data("token", "key")), certificates.as_ref()).unwrap()
}

async fn report(store: &Store, ids: std::ops::Range<usize>) {
    let events = ids.map(|id| {
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
        (event.clone(), vec![Delivery { provider: ci(), event }])
    });
    store.commit(Batch { events: events.collect(), ..Batch::default() }).await.unwrap();
}

fn ids(receiver: &Receiver) -> Vec<String> {
    let id_of = |delivery: &wickie_testbench::Delivery| {
        let id = delivery.header(&EVENT_ID_HEADER.to_lowercase()).unwrap().to_owned();
        assert!(delivery.signed_with(b"key"));
        assert_eq!(delivery.json().unwrap()["metadata"][EVENT_ID_KEY], id.as_str());
        id
    };
    receiver.deliveries().iter().map(id_of).collect()
}

fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap().0, dir)
}

#[tokio::test]
async fn down_for_the_whole_run_it_gets_everything_afterwards() {
    let (store, dir) = store();
    let receiver = Receiver::start_tls().unwrap();
    receiver.down();
    let mut reporter = Reporter::new(store.clone(), "node-7");
    reporter.serve([endpoint(&receiver, receiver.ca())]).unwrap();
    report(&store, 0..30).await;
    reporter.wake();
    eventually("an attempt has failed", LONG, || async { reporter.states()[&ci()].failing.clone().ok_or("not yet") })
        .await;
    drop((reporter, store));

    receiver.up();
    let store = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap().0;
    let mut reporter = Reporter::new(store.clone(), "node-7");
    reporter.serve([endpoint(&receiver, receiver.ca())]).unwrap();
    assert!(reporter.flush(LONG).await);
    assert_eq!(ids(&receiver), (0..30).map(|id| format!("e{id}")).collect::<Vec<_>>());
    assert_eq!(store.outbox().await.unwrap(), []);
}

#[tokio::test]
async fn a_lost_answer_brings_the_same_id_again_and_nothing_overtakes_it() {
    let (store, _dir) = store();
    let receiver = Receiver::start().unwrap();
    receiver.inject(Fault::Lose.once().skip(1));
    receiver.inject(Fault::Redirect("http://127.0.0.1:1{path}".to_owned()).once().skip(2));
    report(&store, 0..4).await;
    let mut reporter = Reporter::new(store.clone(), "node-7");
    reporter.serve([endpoint(&receiver, None)]).unwrap();
    assert!(reporter.flush(LONG).await);
    assert_eq!(ids(&receiver), ["e0", "e1", "e1", "e2", "e3"]);
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_gets_nothing() {
    let (store, _dir) = store();
    let receiver = Receiver::start_tls().unwrap();
    report(&store, 0..1).await;
    let mut reporter = Reporter::new(store.clone(), "node-7");
    reporter.serve([endpoint(&receiver, None)]).unwrap();
    let why = eventually("an attempt has failed", LONG, || async {
        reporter.states()[&ci()].failing.clone().ok_or("not yet")
    })
    .await;
    assert!(why.contains("certificate") && !why.contains("/hook"), "{why}");
    assert_eq!(ids(&receiver), Vec::<String>::new());
    assert_eq!(store.outbox().await.unwrap()[0].waiting, 1);
}
