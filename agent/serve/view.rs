//! What `wickie status` shows, as data: made by one function from the store and, where an agent runs, from what it tells.
//!
//! This is the JSON of `wickie status -o json`. Fields are added, never renamed or taken away within one `apiVersion`;
//! what is not known is left out; times are RFC 3339 in UTC.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wickie_model::{ConditionStatus, ResourceKind, ResourceName, Trial, condition_type, reason};

use super::advice;
use super::{ClusterLive, Counts, DayLive, HeldLive, KustomizationLive, Live, Phase, Problem, SourceLive, TrafficLive};
use crate::report::Sending;
use crate::store::{Origin, Record, Run, SnapshotRow, Store, StoreError, Waiting};

/// Days of traffic that are shown of a source.
const DAYS: usize = 7;

/// The version of this JSON.
pub const API_VERSION: &str = "cli.wickie.dev/v1";

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Whether everything is as it should be: an agent runs, all that is not suspended is ready, every report is taken.
    pub ok: bool,
    /// The running agent; left out where none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentView>,
    /// The cluster, where the agent has had a word with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterLive>,
    /// Why this agent does not write to the cluster, where another one does. How the Kustomizations stand is known there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_by: Option<String>,
    /// GitRepositories, by name.
    pub sources: Vec<SourceView>,
    /// Kustomizations, by name.
    pub kustomizations: Vec<KustomizationView>,
    /// Providers, by name, and whatever reports wait for.
    pub providers: Vec<ProviderView>,
    /// Other objects that cannot be followed: Alerts, Receivers.
    pub others: Vec<OtherView>,
}

/// The agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started.
    pub since: Timestamp,
}

/// How an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyView {
    /// `True`, `False` or `Unknown`; `Unknown` where nothing was said yet.
    pub status: ConditionStatus,
    /// Flux's reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A GitRepository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
    /// Where it stands.
    pub origin: Origin,
    /// Whether it is left alone.
    pub suspended: bool,
    /// How it is.
    pub ready: ReadyView,
    /// What is to be known of it although it is ready: how old its newest commit is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The snapshot that is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotView>,
    /// The way there.
    #[serde(flatten)]
    pub live: SourceLive,
}

/// An accepted snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotView {
    /// As Flux writes it.
    pub revision: String,
    /// Who signed it; left out where it was taken unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// A Kustomization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KustomizationView {
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
    /// Where it stands.
    pub origin: Origin,
    /// Whether it is left alone.
    pub suspended: bool,
    /// How it is.
    pub ready: ReadyView,
    /// The revision that was last applied in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_revision: Option<String>,
    /// The revision that was last tried, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempted_revision: Option<String>,
    /// Where it is in its run; left out where no agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When it runs next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Timestamp>,
    /// What waits, where its window for changes is shut; until when, only where an agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldLive>,
    /// The cluster that it is for, where that is not the agent's own; left out where no agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterLive>,
    /// How many of its objects are how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Counts>,
    /// The objects that are not well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Run>,
}

/// What became of a Kustomization's revisions, and how its runs ended; both the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Revisions.
    pub revisions: Vec<Trial>,
    /// Runs.
    pub runs: Vec<Run>,
}

/// The history of a Kustomization, at most `limit` of each.
pub(super) async fn history(store: &Store, name: ResourceName, limit: usize) -> Result<History, StoreError> {
    Ok(History { revisions: store.trials(name.clone(), limit).await?, runs: store.runs(name, limit).await? })
}

/// A Provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderView {
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
    /// Whether the agent is told of it; reports may wait for one that is gone.
    pub known: bool,
    /// Whether it gets nothing.
    pub suspended: bool,
    /// How it is, where something was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadyView>,
    /// How many reports wait for it.
    pub waiting: u64,
    /// When the oldest of them happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// How many its receiver would not have.
    pub set_aside: u64,
    /// How many were dropped because the outbox was full.
    pub dropped: u64,
    /// How it goes with sending; left out where no agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending: Option<Sending>,
}

/// Any other object that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherView {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
    /// How it is.
    pub ready: ReadyView,
}

/// How everything stands, by the store and, where an agent runs, by what it tells.
pub async fn status(store: &Store, running: Option<(AgentView, Live)>) -> Result<Status, StoreError> {
    let (agent, mut live) = running.unzip();
    let (cluster, stands_by) =
        live.as_mut().map(|live| (live.cluster.take(), live.stands_by.take())).unwrap_or_default();
    let (mut sources, mut kustomizations, mut providers, mut others) = (vec![], vec![], vec![], vec![]);
    for view in views(store, live).await? {
        match view {
            View::Source(mut view) => {
                view.snapshot = store.snapshots(&view.name, 1).await?.pop().map(SnapshotView::from);
                sources.push(*view);
            }
            // How they stand is known to the agent that writes.
            View::Kustomization(view) if stands_by.is_none() => kustomizations.push(*view),
            View::Provider(view) => providers.push(*view),
            View::Other(view) if view.ready.status == ConditionStatus::False => others.push(*view),
            View::Kustomization(_) | View::Other(_) => {}
        }
    }
    add_written(store, &mut kustomizations).await?;
    for waiting in store.outbox().await? {
        add_waiting(&mut providers, waiting);
    }
    let mut status = Status {
        api_version: API_VERSION.to_owned(),
        ok: false,
        agent,
        cluster,
        stands_by,
        sources,
        kustomizations,
        providers,
        others,
    };
    status.ok = status.agent.is_some() && status.troubles() == 0;
    Ok(status)
}

/// How one object stands.
enum View {
    Source(Box<SourceView>),
    Kustomization(Box<KustomizationView>),
    Provider(Box<ProviderView>),
    Other(Box<OtherView>),
}

/// How each object stands, by its record and what the agent told of it. Of a thousand Kustomizations the records are not
/// in memory beside their views, nor is what was told.
async fn views(store: &Store, mut live: Option<Live>) -> Result<Vec<View>, StoreError> {
    let mut traffic: BTreeMap<ResourceName, Vec<DayLive>> = BTreeMap::new();
    for day in store.traffic().await? {
        traffic.entry(day.name.clone()).or_default().insert(0, day.into());
    }
    let view = move |record: Record| {
        let name = &record.resource.name;
        match record.resource.kind {
            ResourceKind::GitRepository => {
                let live = match &mut live {
                    Some(live) => live.sources.remove(name).unwrap_or_default(),
                    None => {
                        let mut days = traffic.remove(name).unwrap_or_default();
                        days.truncate(DAYS);
                        SourceLive { traffic: TrafficLive { days, budget: None }, ..SourceLive::default() }
                    }
                };
                View::Source(Box::new(source(&record, live)))
            }
            ResourceKind::Kustomization => {
                let live = live.as_mut().and_then(|live| live.kustomizations.remove(name));
                View::Kustomization(Box::new(kustomization(&record, live)))
            }
            ResourceKind::Provider => {
                let sending = live.as_mut().and_then(|live| live.providers.remove(name));
                View::Provider(Box::new(provider(&record, sending)))
            }
            kind @ (ResourceKind::Alert | ResourceKind::Receiver) => {
                let ready = ready(&record);
                View::Other(Box::new(OtherView { kind, name: record.resource.name, ready }))
            }
        }
    };
    store.map_records(view).await
}

impl Status {
    /// Leaves out what is in another namespace.
    pub fn only(&mut self, namespace: &str) {
        self.sources.retain(|source| source.name.namespace == namespace);
        self.kustomizations.retain(|one| one.name.namespace == namespace);
        self.providers.retain(|provider| provider.name.namespace == namespace);
        self.others.retain(|other| other.name.namespace == namespace);
        self.ok = self.agent.is_some() && self.troubles() == 0;
    }

    /// How many things are not as they should be, beside that no agent may run.
    pub fn troubles(&self) -> usize {
        let objects = self.sources.iter().map(|source| (source.suspended, &source.ready));
        let objects = objects.chain(self.kustomizations.iter().map(|one| (one.suspended, &one.ready)));
        objects.filter(|(suspended, ready)| !suspended && ready.status != ConditionStatus::True).count()
            + self.providers.iter().filter(|provider| provider.is_in_trouble()).count()
            + self.others.len()
            + usize::from(self.cluster.as_ref().is_some_and(|cluster| !cluster.reachable))
    }
}

impl ProviderView {
    /// Whether reports do not reach it as they should.
    pub fn is_in_trouble(&self) -> bool {
        let failing = self.sending.as_ref().is_some_and(|sending| sending.failing.is_some());
        let refused = self.ready.as_ref().is_some_and(|ready| ready.status == ConditionStatus::False);
        !self.suspended && (failing || refused || !self.known || self.set_aside > 0 || self.dropped > 0)
    }
}

impl From<SnapshotRow> for SnapshotView {
    fn from(SnapshotRow { snapshot, .. }: SnapshotRow) -> Self {
        Self { revision: snapshot.revision.to_string(), signer: snapshot.signer, accepted_at: snapshot.accepted_at }
    }
}

/// A source; its snapshot is read apart.
fn source(record: &Record, live: SourceLive) -> SourceView {
    SourceView {
        name: record.resource.name.clone(),
        origin: record.origin,
        suspended: is_suspended(record),
        ready: ready(record),
        warnings: warnings(record),
        snapshot: None,
        live,
    }
}

/// What holds a Kustomization, as it was written down.
fn held(record: &Record) -> Option<HeldLive> {
    let conditions = record.conditions();
    let said = conditions.get(condition_type::APPLY_HELD)?;
    Some(HeldLive { reason: said.reason.clone(), message: said.message.clone(), until: None })
}

/// A Kustomization; see [`add_written`] for the rest of it.
fn kustomization(record: &Record, live: Option<KustomizationLive>) -> KustomizationView {
    let phase = live.as_ref().map(|live| live.phase);
    let known = live.is_some();
    let KustomizationLive { next_run, held: waits, objects, problems, cluster, .. } = live.unwrap_or_default();
    // The agent's own word, and nothing beside it: the record is read after it, and knows of no time.
    let held = if known { waits } else { held(record) };
    let applied_revision = text(record, "/lastAppliedRevision");
    let attempted_revision = text(record, "/lastAttemptedRevision").filter(|it| Some(it) != applied_revision.as_ref());
    let mut ready = ready(record);
    if let Some(problem) = problems.first().filter(|_| ready.reason == reason::HEALTH_CHECK_FAILED) {
        ready.next = Some(advice::look_at(&problem.object));
    }
    KustomizationView {
        name: record.resource.name.clone(),
        origin: record.origin,
        suspended: is_suspended(record),
        ready,
        applied_revision,
        attempted_revision,
        phase,
        next_run,
        held,
        cluster,
        objects,
        problems,
        last_run: None,
    }
}

/// What is written down of Kustomizations beside their records, read after these: a run and what its record says of it are
/// written together.
async fn add_written(store: &Store, kustomizations: &mut [KustomizationView]) -> Result<(), StoreError> {
    if kustomizations.is_empty() {
        return Ok(());
    }
    let mut last_runs = store.last_runs().await?;
    kustomizations.iter_mut().for_each(|view| view.last_run = last_runs.remove(&view.name));
    // A running agent has told them.
    if kustomizations.iter().any(|view| view.objects.is_none()) {
        let sizes = store.inventory_sizes().await?;
        for view in kustomizations.iter_mut().filter(|view| view.objects.is_none()) {
            let size = sizes.get(&view.name).copied();
            view.objects = size.map(|size| Counts { total: size.try_into().unwrap_or(u32::MAX), ..Counts::default() });
        }
    }
    Ok(())
}

fn provider(record: &Record, sending: Option<Sending>) -> ProviderView {
    ProviderView {
        sending,
        ready: Some(ready(record)).filter(|ready| ready.since.is_some()),
        suspended: is_suspended(record),
        known: true,
        ..ProviderView::unknown(record.resource.name.clone())
    }
}

impl ProviderView {
    fn unknown(name: ResourceName) -> Self {
        Self {
            name,
            known: false,
            suspended: false,
            ready: None,
            waiting: 0,
            oldest: None,
            set_aside: 0,
            dropped: 0,
            sending: None,
        }
    }
}

fn add_waiting(providers: &mut Vec<ProviderView>, more: Waiting) {
    let Waiting { provider, waiting, oldest, set_aside, dropped } = more;
    let at = providers.iter().position(|view| view.name == provider).unwrap_or_else(|| {
        providers.push(ProviderView::unknown(provider));
        providers.len() - 1
    });
    let view = &mut providers[at];
    (view.waiting, view.oldest, view.set_aside, view.dropped) = (waiting, oldest, set_aside, dropped);
}

/// The Ready condition of a record, with the next step where it is not well.
fn ready(record: &Record) -> ReadyView {
    let conditions = record.conditions();
    let Some(ready) = conditions.get(condition_type::READY) else {
        return ReadyView {
            status: ConditionStatus::Unknown,
            reason: String::new(),
            message: "nothing has been said of it yet".to_owned(),
            since: None,
            next: None,
        };
    };
    let suspended = is_suspended(record);
    let wants_a_step = suspended || ready.status != ConditionStatus::True;
    let step = || advice::next_step(record.resource.kind, &record.resource.name, &ready.reason, suspended);
    ReadyView {
        status: ready.status,
        reason: ready.reason.clone(),
        message: ready.message.clone(),
        since: Some(ready.last_transition_time),
        next: wants_a_step.then(step).flatten(),
    }
}

/// What a source's own conditions say that is not well.
fn warnings(record: &Record) -> Vec<String> {
    let conditions = record.conditions();
    let fresh = conditions.get(condition_type::FRESH).filter(|fresh| fresh.status == ConditionStatus::False);
    fresh.map(|fresh| fresh.message.clone()).into_iter().collect()
}

/// Suspended by `wickie suspend`, or by the spec as it was last seen.
fn is_suspended(record: &Record) -> bool {
    let suspend = || record.seen.as_ref()?.pointer("/suspend");
    record.suspended || record.released || suspend() == Some(serde_json::Value::Bool(true))
}

fn text(record: &Record, pointer: &str) -> Option<String> {
    record.status.text(pointer).filter(|text| !text.is_empty())
}
