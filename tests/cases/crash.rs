//! SIGKILL at any request of a first apply: whatever the moment, the next start finishes the work and loses nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams};
use rusqlite::Connection;
use wickie_testbench::{
    Agent, ApiProxy, ControlPlane, Fleet, Options, Receiver, Request, When, agent, eventually, manifests,
};

use crate::heard::*;
use crate::node::*;

/// How many objects the first commit has, and how many of them the second takes out.
const OBJECTS: usize = 200;
const LEAVE: usize = 60;

/// How many crashes are tried where WICKIE_CRASHES does not say.
const CRASHES: usize = 12;

/// What else happens.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The first commit is finished, then the second comes.
    Second,
    /// The second commit comes while the agent is dead.
    SecondWhileDead,
    /// The second commit comes to a running agent, which is killed again at this of its deletions.
    KilledInPrune(usize, When),
}

#[tokio::test]
async fn killed_at_any_request_it_converges_and_leaks_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    let crashes = number("WICKIE_CRASHES").map_or(CRASHES, |count| usize::try_from(count).unwrap());
    let seed: u64 = number("WICKIE_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let mut random = fastrand::Rng::with_seed(seed);
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let begin = Instant::now();
    let mut tried = Vec::new();
    for index in 0..crashes {
        // One of each equal part of the whole, so that few crashes are spread as well as many.
        let part = |index: usize| index * OBJECTS / crashes;
        let nth = 1 + random.usize(part(index)..part(index + 1).max(part(index) + 1));
        let when = |later: bool| if later { When::After } else { When::Before };
        let then = match index % 3 {
            0 => Then::Second,
            1 => Then::SecondWhileDead,
            _ => Then::KilledInPrune(1 + random.usize(..LEAVE), when(random.bool())),
        };
        let when = when(random.bool());
        eprintln!("crash {index}: {when:?} request {nth}, then {then:?} (WICKIE_SEED={seed})");
        crash(&control_plane, &mut random, nth, when, then).await;
        tried.push(nth);
    }
    tried.dedup();
    eprintln!("{crashes} crashes at {} values of N in {:.0?}", tried.len(), begin.elapsed());
    assert_eq!(tried.len(), crashes.min(OBJECTS));
}

#[tokio::test]
async fn a_commit_that_was_accepted_and_not_yet_told_is_told_at_the_next_start() {
    let (fleet, client) = fleet("untold").await;
    let receiver = Receiver::start().unwrap();
    report_to(&fleet, &receiver);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps(&fleet, &client), "a", Some("1")).await;
    applied(&agent, &first).await;
    agent.stop().await.unwrap();

    // The moment between the snapshot's transaction and the event's is too short to be hit from outside: the store is
    // put back to it.
    let store = Connection::open(fleet.data_dir().join("wickie.db")).unwrap();
    store.execute_batch("DELETE FROM event; DELETE FROM outbox; DELETE FROM resource; DELETE FROM inventory").unwrap();
    drop(store);
    let before = heard(&receiver).0.len();
    fleet.git.down();
    agent.restart().unwrap();
    applied(&agent, &first).await;
    eventually("it is told", LONG, || async {
        let heard = heard(&receiver).0;
        ensure!(heard.get(before).is_some_and(|heard| heard.reason == "NewArtifact"), "{heard:#?}");
        Ok(())
    })
    .await;
    agent.stop().await.unwrap();
}

async fn crash(control_plane: &ControlPlane, random: &mut fastrand::Rng, nth: usize, when: When, then: Then) {
    let namespace = control_plane.namespace("crash").await.unwrap();
    let client = control_plane.client().await;
    let proxy = ApiProxy::start(control_plane).unwrap();
    let fleet = Fleet::new("crash", env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace.clone()).unwrap();
    let receiver = Receiver::start().unwrap();
    report_to(&fleet, &receiver);
    let files = manifests::many(OBJECTS, Some(&namespace));
    fleet.repo.write_all(&files).unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let all: BTreeSet<String> = (0..OBJECTS).map(|index| object(index, &namespace)).collect();
    let leaving: Vec<usize> = random.choose_multiple(0..OBJECTS, LEAVE);
    let gone: BTreeSet<String> = leaving.iter().map(|index| object(*index, &namespace)).collect();
    let second = || {
        leaving.iter().for_each(|index| fleet.repo.remove(&files[*index].0).unwrap());
        fleet.commit("second").unwrap()
    };

    let mut agent = killed_at(&proxy, nth, when, |_| true, || fleet.start().unwrap()).await;
    integrity(&copy(&fleet));
    let mut second_commit = None;
    if let Then::SecondWhileDead = then {
        second_commit = Some(second());
    } else {
        agent.restart().unwrap();
        applied(&agent, &first).await;
        assert_eq!(live(&client, &namespace).await, all);
        assert_eq!(pruned(&receiver), BTreeSet::new());
    }
    let there = live(&client, &namespace).await;
    if let Then::KilledInPrune(nth, when) = then {
        agent = killed_at(
            &proxy,
            nth,
            when,
            |request| request.method == "DELETE",
            || {
                second_commit = Some(second());
                agent
            },
        )
        .await;
        integrity(&copy(&fleet));
    }
    agent.restart().unwrap();
    let second_commit = second_commit.unwrap_or_else(second);
    applied(&agent, &second_commit).await;

    // Exactly what left Git is gone, and each deletion is told once; also one that only the API server knew of.
    let rest: BTreeSet<String> = all.difference(&gone).cloned().collect();
    assert_eq!(live(&client, &namespace).await, rest);
    let heard = everything_is_heard(&agent, &receiver).await;
    let deleted = pruned(&receiver);
    let wrong: Vec<_> = deleted.difference(&gone).collect();
    assert!(wrong.is_empty(), "deleted, and still in Git: {wrong:?}");
    let had_to_go: BTreeSet<String> = there.intersection(&gone).cloned().collect();
    let untold: Vec<_> = had_to_go.difference(&deleted).collect();
    assert!(untold.is_empty(), "deleted and never told: {untold:?}");
    let told = told(&heard, &[" created", " configured"]);
    assert!(rest.iter().all(|object| told.contains(object)), "applied and never told");
    the_one(&heard, |heard| heard.reason == "ReconciliationSucceeded" && heard.revision.ends_with(&second_commit));
    assert!(heard.iter().all(|heard| heard.severity == "info"), "{heard:#?}");
    assert_eq!(agent.stop().await.unwrap(), 0);

    let store = Connection::open(fleet.data_dir().join("wickie.db")).unwrap();
    integrity(&store);
    let inventory: i64 =
        store.query_row("SELECT count(*) FROM inventory WHERE state = 'applied'", [], |row| row.get(0)).unwrap();
    let entries: i64 = store.query_row("SELECT count(*) FROM inventory", [], |row| row.get(0)).unwrap();
    assert_eq!((inventory, entries), (rest.len() as i64, rest.len() as i64));
    let mut snapshots = store.prepare("SELECT revision FROM snapshot ORDER BY id").unwrap();
    for revision in snapshots.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        let revision = revision.unwrap();
        the_one(&heard, |heard| heard.reason == "NewArtifact" && heard.revision == revision);
    }
    for kind in KINDS {
        let api = objects(&client, &namespace, kind);
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    }
}

/// Kills the agent that `start` gives at the `nth` request like these; returns when it is dead.
async fn killed_at(
    proxy: &ApiProxy,
    nth: usize,
    when: When,
    matches: impl Fn(&Request) -> bool + Send + 'static,
    start: impl FnOnce() -> Agent,
) -> Agent {
    let pid = Arc::new(AtomicU32::new(0));
    let victim = pid.clone();
    proxy.at_request(nth, when, matches, move || {
        // The request may be faster than the answer to who sends it.
        let pid = loop {
            match victim.load(Ordering::SeqCst) {
                0 => std::thread::sleep(Duration::from_millis(1)),
                pid => break pid,
            }
        };
        agent::kill9(pid);
    });
    let mut agent = start();
    pid.store(agent.pid(), Ordering::SeqCst);
    let agent_cell = std::cell::RefCell::new(&mut agent);
    eventually(&format!("the agent is killed at request {nth}"), LONG, || async {
        let code = agent_cell.borrow_mut().exit_code();
        ensure!(code == Some(128 + 9), "it ended with {code:?}\n{}", tail(&agent_cell.borrow().log()));
        Ok(())
    })
    .await;
    agent
}

/// A copy of the store as the crash has left it: looking at the thing itself would mend it.
fn copy(fleet: &Fleet) -> Connection {
    let aside = fleet.scratch.folder(&format!("crashed-{}", fastrand::u32(..)));
    for file in ["wickie.db", "wickie.db-wal"] {
        let from = fleet.data_dir().join(file);
        if Path::exists(&from) {
            std::fs::copy(&from, aside.join(file)).unwrap();
        }
    }
    Connection::open(aside.join("wickie.db")).unwrap()
}

fn integrity(store: &Connection) {
    let answer: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(answer, "ok");
}

/// What [`manifests::many`] makes, in its order.
const KINDS: [(&str, &str, &str); 4] = [
    ("", "ConfigMap", "configmaps"),
    ("", "Service", "services"),
    ("apps", "Deployment", "deployments"),
    ("", "ServiceAccount", "serviceaccounts"),
];

/// As reports name it.
fn object(index: usize, namespace: &str) -> String {
    format!("{}/{namespace}/app-{index:04}", KINDS[index % 4].1)
}

fn objects(client: &Client, namespace: &str, (group, kind, plural): (&str, &str, &str)) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Every object of these kinds in the namespace.
async fn live(client: &Client, namespace: &str) -> BTreeSet<String> {
    let mut live = BTreeSet::new();
    for kind in KINDS {
        let list = objects(client, namespace, kind).list(&ListParams::default()).await;
        let list = list.with_context(|| format!("list {kind:?}")).unwrap();
        live.extend(
            list.items
                .into_iter()
                .map(|item| format!("{}/{namespace}/{}", kind.1, item.metadata.name.unwrap_or_default())),
        );
    }
    live
}

/// The objects that reports name with one of these endings.
fn told(heard: &[Heard], endings: &[&str]) -> BTreeSet<String> {
    let lines = heard.iter().filter(|heard| heard.reason == "Progressing").flat_map(|heard| heard.message.lines());
    lines.filter_map(|line| endings.iter().find_map(|ending| line.strip_suffix(ending))).map(str::to_owned).collect()
}

/// The objects whose deletion was told, each once.
fn pruned(receiver: &Receiver) -> BTreeSet<String> {
    let heard = heard(receiver).0;
    let pruned = told(&heard, &[" deleted"]);
    let lines = heard.iter().flat_map(|heard| heard.message.lines()).filter(|line| line.ends_with(" deleted")).count();
    assert_eq!(lines, pruned.len(), "a deletion is told twice: {heard:#?}");
    pruned
}
