//! `wickie status` as people see it, on a terminal of 80 columns and on a narrow one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wickie_model::{
    Cause, Digest, Event, Health, ObjectId, Resource, ResourceKind, Revision, Severity, condition_type, reason,
};
use wickie_trust::Floor;

use super::*;
use crate::cli::golden;
use crate::report::Sending;
use crate::serve::view::{self, AgentView};
use crate::serve::{
    BudgetLive, ClusterLive, Counts, DayLive, HeldLive, KustomizationLive, Live, Problem, SourceLive, TrafficLive,
};
use crate::store::{Batch, Changes, DataDir, Delivery, Evidence, NewSnapshot, Origin, Record, Run, Store};

fn now() -> Timestamp {
    "2026-03-01T03:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn name(name: &str) -> ResourceName {
    ResourceName::new("flux-system", name)
}

fn record(kind: ResourceKind, of: &str, status: Value) -> Record {
    Record {
        resource: Resource::new(kind, name(of)),
        origin: Origin::File,
        spec: Digest::of(b"spec"),
        generation: 1,
        suspended: false,
        released: false,
        status: status.into(),
        seen: None,
    }
}

fn ready(status: &str, reason: &str, message: &str, since: Timestamp) -> Value {
    json!([{"type": condition_type::READY, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}])
}

const OLD: &str = "main@sha1:2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4";
const NEW: &str = "main@sha1:99aa12ffb07e4f0a9f3c8a1b5e6d7f8091a2b3c4";

fn run(of: &str, cause: Cause, ended: i64, changes: Changes) -> Run {
    let (reason, message) = (reason::RECONCILIATION_SUCCEEDED.to_owned(), String::new());
    let (started_at, ended_at) = (ago(ended + 2), ago(ended));
    Run { name: name(of), revision: OLD.to_owned(), cause, started_at, ended_at, reason, message, changes }
}

fn event(id: &str, provider: &str) -> (Event, Vec<Delivery>) {
    let event = Event {
        id: id.to_owned(),
        about: Resource::new(ResourceKind::Kustomization, name("shop")),
        uid: String::new(),
        severity: Severity::Info,
        at: ago(187_200),
        reason: reason::PROGRESSING.to_owned(),
        message: "applied".to_owned(),
        metadata: BTreeMap::new(),
    };
    (event.clone(), vec![Delivery { provider: name(provider), event }])
}

/// Has `fleet` accept a revision.
async fn accept(store: &Store, revision: &str, signer: Option<&str>) {
    let revision: Revision = revision.parse().unwrap();
    let commit = revision.commit();
    let (signer, accepted_at) = (signer.map(str::to_owned), ago(11_600));
    let snapshot = NewSnapshot { revision, tag: None, signer, bytes: 1_000, accepted_at, extent: Default::default() };
    let floor = Floor { track: "main".to_owned(), commit, tag: None, version: None };
    let (evidence, moved) = (Evidence::default(), Default::default());
    store.accept_snapshot(&name("fleet"), snapshot, floor, evidence, moved, 5).await.unwrap();
}

/// A night in which several things went wrong.
async fn a_bad_night(dir: &DataDir) -> Store {
    let store = Store::open(dir, now()).unwrap().0;
    let shop = json!({"lastAppliedRevision": OLD, "lastAttemptedRevision": OLD,
        "conditions": ready("True", reason::RECONCILIATION_SUCCEEDED, "applied", ago(11_520))});
    let till = json!({"lastAppliedRevision": OLD, "lastAttemptedRevision": NEW,
        "conditions": ready("False", reason::HEALTH_CHECK_FAILED, "2 of 12 objects are not healthy after 2m0s", ago(720))});
    let fleet = json!({"conditions": ready("False", reason::GIT_OPERATION_FAILED, "asking https://git.example/fleet for its references: connection timed out", ago(5_400))});
    let mut suspended =
        record(ResourceKind::Kustomization, "monitoring-with-a-rather-long-name-for-a-kustomization", json!({}));
    suspended.suspended = true;
    let records = vec![
        record(ResourceKind::Kustomization, "shop", shop),
        record(ResourceKind::Kustomization, "till", till),
        suspended,
        record(ResourceKind::GitRepository, "fleet", fleet),
        record(ResourceKind::Provider, "ci", json!({})),
        record(ResourceKind::Provider, "chat", json!({})),
        record(
            ResourceKind::Alert,
            "all",
            json!({"conditions": ready("False", reason::INVALID_SPEC,
            "spec.eventSeverity: \"warn\" is neither info nor error", ago(90))}),
        ),
    ];
    let runs = vec![run("shop", Cause::Drift, 300, Changes { repaired: 1, unchanged: 40, ..Changes::default() })];
    let mut events: Vec<_> = ["a", "b", "c"].map(|id| event(id, "ci")).into();
    events.push(event("d", "gone"));
    store.commit(Batch { records, runs, events, ..Batch::default() }).await.unwrap();
    accept(&store, NEW, Some("SHA256:x8dW0fQk1m6rXv kari@example.no")).await;
    store
}

fn traffic() -> TrafficLive {
    let day = |day: &str, received| DayLive { day: day.parse().unwrap(), received, sent: 2_048, requests: 12 };
    let days = vec![day("2026-03-01", 419_840), day("2026-02-28", 1_000)];
    let renews = "2026-03-02T00:00:00Z".parse().unwrap();
    TrafficLive { days, budget: Some(BudgetLive { budget: "5Mi/day".into(), bytes: 5 << 20, spent: 421_888, renews }) }
}

fn live() -> (AgentView, Live) {
    let agent = AgentView { pid: 4711, version: "0.1.0".to_owned(), since: ago(273_600) };
    let problem = |name: &str, health, message: &str| Problem {
        object: ObjectId::new("apps", "Deployment", "shop", name),
        health: Some(health),
        message: message.to_owned(),
    };
    let till = KustomizationLive {
        phase: Phase::Waiting,
        next_run: None,
        held: None,
        cluster: Some(ClusterLive { server: "https://edge:6443/".into(), reachable: false, since: ago(90), why: None }),
        objects: Some(Counts { total: 12, in_progress: 1, failed: 1 }),
        problems: vec![
            problem("till", Health::Failed, "container till: ImagePullBackOff: registry.example/till:1.2.3 not found"),
            problem("scale", Health::InProgress, "1 of 3 replicas ready"),
        ],
    };
    let shop = KustomizationLive { objects: Some(Counts { total: 41, ..Counts::default() }), ..Default::default() };
    let live = Live {
        cluster: Some(ClusterLive {
            server: "https://10.0.0.1:6443".into(),
            reachable: true,
            since: ago(9),
            why: None,
        }),
        sources: [(
            name("fleet"),
            SourceLive { last_contact: Some(ago(5_442)), next_poll: Some(ago(-18)), held: None, traffic: traffic() },
        )]
        .into(),
        kustomizations: [(name("shop"), shop), (name("till"), till)].into(),
        providers: [
            (name("chat"), Sending { idle: true, last_sent: Some(ago(300)), ..Sending::default() }),
            (
                name("ci"),
                Sending {
                    failing: Some("503 Service Unavailable: down for maintenance".into()),
                    next_try: Some(ago(-180)),
                    ..Sending::default()
                },
            ),
        ]
        .into(),
        starting: vec![],
        stands_by: None,
        api_requests: vec![],
    };
    (agent, live)
}

fn look(width: usize) -> Look {
    Look { color: false, width, now: now() }
}

fn is_within(text: &str, width: usize) {
    for line in text.lines() {
        assert!(text::width(line) <= width, "{} columns: {line}", text::width(line));
        assert_eq!(line.trim_end(), line, "blanks at the end");
    }
}

#[tokio::test]
async fn a_bad_night_fits_80_columns_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = a_bad_night(&DataDir::new(dir.path())).await;
    let status = view::status(&store, Some(live())).await.unwrap();
    assert!(!status.ok);
    let shown = render(&status, &look(80));
    is_within(&shown, 80);
    golden("status-bad-night", &shown);
    for width in [40, 60, 120] {
        is_within(&render(&status, &look(width)), width);
    }
}

#[tokio::test]
async fn without_an_agent_the_last_word_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let store = a_bad_night(&DataDir::new(dir.path())).await;
    let status = view::status(&store, None).await.unwrap();
    let shown = render(&status, &look(80));
    is_within(&shown, 80);
    golden("status-no-agent", &shown);
}

#[tokio::test]
async fn a_good_night_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(dir.path()), now()).unwrap().0;
    let shop = json!({"lastAppliedRevision": NEW, "lastAttemptedRevision": NEW,
        "conditions": ready("True", reason::RECONCILIATION_SUCCEEDED, "applied", ago(600))});
    let fleet = json!({"conditions": ready("True", reason::SUCCEEDED, "stored", ago(600))});
    let records = vec![
        record(ResourceKind::Kustomization, "shop", shop),
        record(ResourceKind::GitRepository, "fleet", fleet),
        record(ResourceKind::Provider, "chat", json!({})),
    ];
    let runs = vec![run("shop", Cause::Revision, 600, Changes { created: 41, ..Changes::default() })];
    store.commit(Batch { records, runs, ..Batch::default() }).await.unwrap();
    accept(&store, NEW, None).await;
    let (agent, mut live) = live();
    live.providers.remove(&name("ci"));
    let status = view::status(&store, Some((agent, live))).await.unwrap();
    assert!(status.ok, "{status:?}");
    golden("status-good-night", &render(&status, &look(80)));
    let json = serde_json::to_string_pretty(&status).unwrap();
    golden("status-json", &json);
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}

#[tokio::test]
async fn what_waits_for_its_window_says_until_when() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(dir.path()), now()).unwrap().0;
    let fleet = json!({"conditions": ready("True", reason::SUCCEEDED, "stored", ago(600))});
    let waits = format!(
        "revision {NEW} with 2 to create, 1 to change waits until 2026-03-01T21:00:00Z; the apply window is 22:00-04:00 Europe/Oslo"
    );
    let mut conditions = ready("True", reason::RECONCILIATION_SUCCEEDED, "applied", ago(600));
    conditions.as_array_mut().unwrap().push(json!({"type": condition_type::APPLY_HELD, "status": "True",
        "reason": reason::OUTSIDE_WINDOW, "message": waits, "lastTransitionTime": ago(60)}));
    let shop = json!({"lastAppliedRevision": OLD, "lastAttemptedRevision": OLD, "conditions": conditions});
    let records =
        vec![record(ResourceKind::GitRepository, "fleet", fleet), record(ResourceKind::Kustomization, "shop", shop)];
    store.commit(Batch { records, ..Batch::default() }).await.unwrap();
    accept(&store, NEW, None).await;
    let (agent, mut live) = live();
    live.providers.clear();
    let message = "nothing is asked of the network until 2026-03-01T21:00:00Z; its fetch window is Mon-Sun 22:00-04:00 Europe/Oslo";
    let held = HeldLive { reason: "OutsideWindow".into(), message: message.into(), until: Some(ago(-64_800)) };
    let source = live.sources.get_mut(&name("fleet")).unwrap();
    (source.held, source.next_poll) = (Some(held), None);
    let held = HeldLive { reason: "OutsideWindow".into(), message: waits, until: Some(ago(-64_800)) };
    live.kustomizations.remove(&name("till"));
    live.kustomizations.get_mut(&name("shop")).unwrap().held = Some(held);
    let status = view::status(&store, Some((agent, live))).await.unwrap();
    assert!(status.ok, "to wait is no trouble: {status:?}");
    let shown = render(&status, &look(80));
    is_within(&shown, 80);
    golden("status-held", &shown);

    // The agent has the last word; what is written down stands in where there is none.
    let (agent, live) = self::live();
    let status = view::status(&store, Some((agent, live))).await.unwrap();
    assert_eq!(status.kustomizations[0].held, None, "written after the agent was asked");
    let written = view::status(&store, None).await.unwrap().kustomizations[0].held.clone().unwrap();
    assert_eq!((written.reason.as_str(), written.until), ("OutsideWindow", None));
}

#[test]
fn nothing_to_keep_is_said() {
    let status = Status {
        api_version: view::API_VERSION.to_owned(),
        ok: true,
        agent: Some(live().0),
        cluster: None,
        stands_by: None,
        sources: vec![],
        kustomizations: vec![],
        providers: vec![],
        others: vec![],
    };
    assert!(render(&status, &look(80)).contains("told of nothing to keep"));
}
