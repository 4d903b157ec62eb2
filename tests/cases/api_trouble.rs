//! A Kubernetes API in trouble: the agent recovers alone, and never with a burst.

use std::time::{Duration, Instant};

use anyhow::ensure;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use wickie_testbench::{Agent, ApiProxy, ControlPlane, Fault, Fleet, Options, Receiver, Request, eventually};

use crate::heard::*;
use crate::node::*;

/// How many objects Git holds.
const OBJECTS: usize = 30;

/// A node behind a proxy of its own; its repository holds [`OBJECTS`] ConfigMaps whose value is 1.
struct Node {
    fleet: Fleet,
    maps: Api<ConfigMap>,
    proxy: ApiProxy,
    receiver: Receiver,
    first: String,
}

impl Node {
    async fn new(name: &str, control_plane: &ControlPlane) -> Self {
        let namespace = control_plane.namespace(name).await.unwrap();
        let maps = Api::namespaced(control_plane.client().await, &namespace);
        let proxy = ApiProxy::start(control_plane).unwrap();
        let fleet = Fleet::new(name, env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace).unwrap();
        let receiver = Receiver::start().unwrap();
        report_to(&fleet, &receiver);
        fleet.follow("1s").unwrap();
        fleet.keep("apps", "").unwrap();
        let mut node = Self { fleet, maps, proxy, receiver, first: String::new() };
        node.first = node.commit("1");
        node
    }

    /// A commit in which every object has this value.
    fn commit(&self, value: &str) -> String {
        for index in 0..OBJECTS {
            self.fleet.write_map(&format!("{index}.yaml"), &format!("a{index}"), value).unwrap();
        }
        self.fleet.commit(value).unwrap()
    }

    /// Starts the agent, and waits until all objects are there and the watches on them are open.
    async fn settled(&self) -> Agent {
        let agent = self.fleet.start().unwrap();
        applied(&agent, &self.first).await;
        self.is_watched().await;
        agent
    }

    async fn is_watched(&self) {
        eventually("the objects are watched", LONG, || async {
            ensure!(self.proxy.count(|request| is_watch(request) && request.path.ends_with("/configmaps")) > 0, "no");
            Ok(())
        })
        .await;
    }

    async fn values(&self) -> Vec<String> {
        let list = self.maps.list(&ListParams::default()).await.unwrap();
        let value = |map: ConfigMap| map.data.and_then(|mut data| data.remove("value"));
        list.items.into_iter().filter_map(value).collect()
    }

    /// How often each object was sent, and taken.
    fn applies(&self) -> usize {
        self.proxy.count(|request| is_apply(request) && request.status == Some(200))
            + self.proxy.count(|request| is_apply(request) && request.status == Some(201))
    }
}

fn is_apply(request: &Request) -> bool {
    // The copy of the floors is the agent's own.
    request.method == "PATCH" && !request.path.ends_with("/wickie-floors")
}

fn is_watch(request: &Request) -> bool {
    request.query.contains("watch=")
}

fn is_list(request: &Request) -> bool {
    request.path.ends_with("/configmaps") && request.method == "GET" && !is_watch(request)
}

#[tokio::test]
async fn an_api_that_is_away_at_start_is_waited_for() {
    let node = Node::new("away", ControlPlane::shared().await).await;
    node.proxy.down();
    let agent = node.fleet.start().unwrap();
    let status = status_becomes(&agent, "the API is said to be away", |status| {
        kustomization(status, "apps")["ready"]["status"] == "False"
    })
    .await;
    // What does not need the cluster goes on.
    assert_eq!(status["sources"][0]["ready"]["status"], "True", "{status:#}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    node.proxy.up();
    applied(&agent, &node.first).await;
    assert_eq!(node.values().await, ["1"; OBJECTS]);
    assert_eq!(node.applies(), OBJECTS);
    let heard = everything_is_heard(&agent, &node.receiver).await;
    let errors: Vec<_> = heard.iter().filter(|heard| heard.severity == "error").collect();
    assert!(errors.len() <= 1, "an outage is told once: {errors:#?}");
}

#[tokio::test]
async fn an_api_that_goes_away_for_a_minute_is_found_again() {
    let node = Node::new("minute", ControlPlane::shared().await).await;
    let mut agent = node.settled().await;
    node.proxy.down();
    node.fleet.write_map("0.yaml", "a0", "2").unwrap();
    let second = node.fleet.commit("second").unwrap();
    change_by_hand(&node.maps, "a1", "by hand").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    node.proxy.forget();
    node.proxy.up();
    applied(&agent, &second).await;
    value_becomes(&mut agent, &node.maps, "a0", Some("2")).await;
    value_becomes(&mut agent, &node.maps, "a1", Some("1")).await;
    // The change, and the repair: sent without force, refused, and taken back.
    eventually("the repair is done", LONG, || async {
        let sent = node.proxy.requests_where(is_apply);
        ensure!(sent.len() >= 3 && sent.iter().all(|sent| sent.status.is_some()), "{sent:#?}");
        Ok(())
    })
    .await;
    let sent = node.proxy.requests_where(is_apply);
    assert!(
        sent.len() == 3 && sent.iter().all(|sent| sent.path.ends_with("/a0") || sent.path.ends_with("/a1")),
        "{sent:#?}"
    );
    let heard = everything_is_heard(&agent, &node.receiver).await;
    let errors: Vec<_> = heard.iter().filter(|heard| heard.severity == "error").collect();
    assert!(errors.len() <= 1, "an outage is told once: {errors:#?}");
}

#[tokio::test]
async fn a_busy_api_is_left_alone_for_as_long_as_it_asks() {
    const PAUSE: Duration = Duration::from_secs(6);
    let node = Node::new("busy", ControlPlane::shared().await).await;
    let agent = node.settled().await;
    let before = node.applies();
    // As API priority and fairness refuses: in plain text. The watches break, too, and want to be opened again.
    let busy =
        Fault::Answer { status: 429, retry_after: Some(6), body: "Too many requests, please try again later.".into() };
    node.proxy.inject(busy);
    node.proxy.down();
    node.proxy.forget();
    node.proxy.up();
    let second = node.commit("2");
    let refused: Vec<Request> = eventually("three pauses are over", LONG, || async {
        let refused = node.proxy.requests();
        let span = refused.first().map_or(Duration::ZERO, |first: &Request| first.at.elapsed());
        ensure!(span > 3 * PAUSE, "{span:?}");
        Ok(refused)
    })
    .await;
    node.proxy.heal();
    let begin = refused[0].at;
    for pause in 0..3u32 {
        let (from, to) = (begin + pause * PAUSE, begin + (pause + 1) * PAUSE);
        let sent: Vec<_> = refused.iter().filter(|sent| (from..to).contains(&sent.at)).collect();
        let shown: Vec<_> = sent.iter().map(|sent| (sent.at - begin, &sent.method, &sent.path)).collect();
        assert!(sent.len() <= 12, "{} requests in a pause: {shown:#?}", sent.len());
    }
    applied(&agent, &second).await;
    assert_eq!(node.values().await, ["2"; OBJECTS]);
    assert_eq!(node.applies() + before, 2 * OBJECTS, "the log was emptied in between");
}

#[tokio::test]
async fn after_an_expired_watch_nothing_is_sent_that_is_right() {
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let node = Node::new("expired", &control_plane).await;
    let mut agent = node.settled().await;
    let begin = Instant::now();
    node.proxy.forget();
    control_plane.expire_resource_versions().await.unwrap();
    // It lists again: the watch was not merely opened where it had ended.
    eventually("the objects are listed again", LONG, || async {
        ensure!(node.proxy.count(|request| is_list(request) && request.status == Some(200)) > 0, "no");
        Ok(())
    })
    .await;
    change_by_hand(&node.maps, "a1", "by hand").await;
    value_becomes(&mut agent, &node.maps, "a1", Some("1")).await;
    let sent = node.proxy.requests();
    let applies: Vec<_> = sent.iter().filter(|request| is_apply(request)).collect();
    assert!(applies.iter().all(|request| request.path.ends_with("/a1")), "{applies:#?}");
    let shown: Vec<_> = sent.iter().map(|sent| (sent.at - begin, &sent.method, &sent.path, sent.status)).collect();
    assert!(sent.len() <= 40, "{} requests: {shown:#?}", sent.len());
    assert_eq!(node.values().await, ["1"; OBJECTS]);
}
