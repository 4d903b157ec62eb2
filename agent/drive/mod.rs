//! The loop: the only place where effects happen. What happened comes back as events.
//!
//! ```text
//!   files ─┐                         ┌─► source: poll, load
//!   CRDs ──┼─► inputs ─► events ─► Drive ─► kustomization: build, run, wait   (wickie_plan::cycle decides when)
//!   watches┘                 ▲       ├─► store: one batch a step
//!                            └───────┴─► reporter, control socket, service manager
//! ```
//!
//! Everything runs on one thread. Work that takes time runs in tasks of its own and answers with an `Event`; the loop
//! itself never waits for the network. What a step changes is written in one batch; a batch that cannot be written is
//! kept, and written with the next.

mod announce;
mod claims;
mod clock;
mod command;
mod diff;
mod floors;
mod freshness;
mod inputs;
mod kustomizations;
mod lease;
mod link;
mod live;
mod noticed;
mod providers;
mod receivers;
mod records;
mod release;
mod rollback;
mod run;
mod settings;
mod sources;
mod start;
mod supervise;
mod targets;
mod tasks;
mod usage;
mod values;
mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use wickie_model::{Gvk, Resource, ResourceKind, ResourceName, Revision};

use crate::cluster::watch::Seen;
use crate::config::git::GitSource;
use crate::config::{Declared, Files, NodeConfig, Secrets, ValuesName};
use crate::report::Reporter;
use crate::serve::{self, Command, Hooks, Metrics};
use crate::source::{Polled, Snapshot, SourceError, Verified};
use crate::store::{Batch, Record, StoreError};
use clock::Clock;
pub use lease::parse_lease;
pub use settings::{DriveError, Settings};
pub use start::run;

use kustomizations::{Built, KustomizationState, Reported};
use lease::Role;
use live::OnItsWay;
use noticed::Noticed;
use run::{BuildKey, Shared};
use sources::SourceState;
use supervise::Pulse;
use targets::Targets;
use tasks::Tasks;

/// What comes back to the loop.
enum Event {
    /// A CRD of one of our kinds.
    Definitions(Seen),
    /// An object of one of our kinds in the cluster.
    Resource(ResourceKind, Seen),
    /// An object that we keep, or may keep, in the cluster of this connection, seen by the watch of this kind and namespace.
    Live(u64, Gvk, String, Seen<Option<Noticed>>, OnItsWay),
    /// Whether a Flux controller is active; nothing where that could not be found out.
    FluxActive(Result<bool, String>),
    /// A ConfigMap or Secret that Kustomizations take values from.
    Values(ValuesName, Seen),
    /// The Secrets that a declared object names.
    Secrets(Resource, Result<Secrets, String>),
    /// The last accepted snapshot of a source, verified again.
    Loaded(ResourceName, u64, Result<Option<Verified<Snapshot>>, SourceError>),
    /// A source was asked for news.
    Polled(ResourceName, u64, Polled),
    /// The copy of the trust floors in the cluster was brought up to date, or could not be.
    FloorsSynced(Result<Box<floors::Synced>, (BTreeSet<ResourceName>, floors::SyncError)>),
    /// The manifests of a Kustomization are built.
    Built(ResourceName, BuildKey, Built),
    /// A plan was carried out.
    Reported(ResourceName, Box<Reported>),
    /// The health of objects that carry no label of ours.
    Health(ResourceName, kustomizations::Foreign),
    /// The stored snapshots of a source that somebody wants to go back to.
    Stored(rollback::Order, Result<Vec<Revision>, StoreError>, Result<wickie_trust::Signers, String>),
    /// A status was written to the cluster, or could not be.
    StatusWritten(Resource, Result<(), String>),
}

/// How many events may wait before whoever has the next one does.
const QUEUE: usize = 1024;

/// How often the configuration files are looked at.
const FILES: Duration = Duration::from_secs(5);

struct Drive {
    settings: Settings,
    role: Role,
    /// The sources that the store knew when the agent came to its role: what was applied from them stands in it, too.
    remembered: BTreeSet<ResourceName>,
    node: NodeConfig,
    clock: Clock,
    shared: Shared,
    events: mpsc::Sender<Event>,
    tasks: Tasks,
    files: Files,
    files_seen: Vec<(PathBuf, u64, Option<std::time::SystemTime>)>,
    cluster_input: inputs::ClusterInput,
    cluster_floors: floors::ClusterFloors,
    declared: BTreeMap<Resource, Arc<Declared>>,
    records: BTreeMap<Resource, Record>,
    sources: BTreeMap<ResourceName, SourceState>,
    /// Sources as builds take them, for as long as one event is dealt with: see [`Drive::shared_source`].
    shared_sources: HashMap<ResourceName, Rc<GitSource>>,
    kustomizations: BTreeMap<ResourceName, Box<KustomizationState>>,
    providers: BTreeMap<ResourceName, providers::ProviderState>,
    values: values::WatchedValues,
    reporter: Reporter,
    targets: Targets,
    waiters: Vec<command::Waiter>,
    releasing: Vec<release::Releasing>,
    forgotten: Vec<tokio::sync::oneshot::Sender<serve::Asked<()>>>,
    statuses: records::Statuses,
    ledger: link::Ledger,
    receivers: BTreeMap<ResourceName, receivers::ReceiverState>,
    hooks: Hooks,
    metrics: Metrics,
    batch: Batch,
    /// Kustomizations that go on when the batch is written.
    turning: Vec<ResourceName>,
    /// Kustomizations of which something has changed that an expression of another may look at.
    moved: BTreeSet<ResourceName>,
    store_trouble: Option<String>,
    /// The kinds to watch may be others now.
    live_stale: bool,
    /// A cluster was seen that is at an earlier version than it was.
    set_back: bool,
    /// The loop before this one has ended for that.
    anew: bool,
}

/// Why the loop has ended.
enum Ended {
    /// It was told to.
    Stopped,
    /// This agent has come to write, or may no longer.
    Role,
    /// A cluster is not as this agent left it, and has forgotten that it was: nothing that is in memory counts.
    SetBack,
}

impl Drive {
    fn start(&mut self) {
        self.cluster_floors.begin();
        self.read_files();
        self.remember_alerts();
        self.watch_definitions();
        self.watch_live();
    }

    async fn turn(
        &mut self,
        mut inbox: mpsc::Receiver<Event>,
        orders: &mut mpsc::Receiver<Command>,
        role: &mut watch::Receiver<Role>,
        pulse: &mut Pulse<'_>,
    ) -> Result<Ended, DriveError> {
        let mut stop = std::pin::pin!(stopped());
        let mut files = tokio::time::interval(FILES);
        let written = self.shared.announcer.borrow().written.clone();
        let mut news = true;
        loop {
            self.tick();
            pulse.during(self.write()).await;
            self.answer_releasing();
            self.answer_forgotten();
            if self.settings.once && self.is_settled() {
                return self.end_once().await.map(|()| Ended::Stopped);
            }
            if self.set_back {
                return Ok(self.leave(Ended::SetBack).await);
            }
            if pulse.turned(news) {
                pulse.status(&self.standing().line());
            }
            let wake = self.clock.instant(self.next_wake());
            news = tokio::select! {
                () = &mut stop => {
                    tracing::info!("stopping");
                    pulse.stopping();
                    self.ledger.write_to(&mut self.batch);
                    self.write().await;
                    // What is written down is sent at the next start; a moment is given to what could go now.
                    self.reporter.flush(Duration::from_secs(2)).await;
                    return Ok(Ended::Stopped);
                }
                Ok(()) = role.changed() => {
                    let now = role.borrow_and_update().clone();
                    if now.writes() || self.role.writes() {
                        return Ok(self.leave(Ended::Role).await);
                    }
                    // It stands by as before, and knows better why.
                    self.role = now;
                    true
                }
                Some(event) = inbox.recv() => {
                    self.take(event);
                    // What is there already is taken in the same step, and written in the same batch.
                    for _ in 0..QUEUE {
                        let Ok(event) = inbox.try_recv() else { break };
                        self.take(event);
                    }
                    true
                }
                Some(order) = orders.recv() => {
                    self.obey(order);
                    true
                }
                () = written.notified() => {
                    self.reporter.wake();
                    false
                }
                _ = files.tick() => self.look_at_files(),
                () = tokio::time::sleep_until(wake) => true,
                () = pulse.due() => {
                    pulse.beat();
                    false
                }
            };
        }
    }

    async fn leave(&mut self, why: Ended) -> Ended {
        self.ledger.write_to(&mut self.batch);
        self.write().await;
        why
    }

    fn take(&mut self, event: Event) {
        self.shared_sources.clear();
        match event {
            Event::Definitions(seen) => self.definitions_seen(seen),
            Event::Resource(kind, seen) => self.resource_seen(kind, seen),
            Event::Live(target, gvk, namespace, seen, on_its_way) => {
                self.live_seen(target, &gvk, namespace, seen);
                drop(on_its_way);
            }
            Event::FluxActive(answer) => self.flux_active(answer),
            Event::Values(name, seen) => self.values_seen(&name, seen),
            Event::Secrets(resource, answer) => self.secrets_found(&resource, answer),
            Event::Loaded(name, order, answer) => self.loaded(&name, order, answer),
            Event::Polled(name, order, polled) => self.polled(&name, order, polled),
            Event::FloorsSynced(answer) => self.floors_synced(answer),
            Event::Built(name, key, built) => self.built(&name, &key, built),
            Event::Reported(name, reported) => self.reported(&name, *reported),
            Event::Health(name, foreign) => self.foreign_health(&name, foreign),
            Event::Stored(order, revisions, signers) => self.order_found(order, revisions, signers),
            Event::StatusWritten(resource, answer) => self.status_written(&resource, answer),
        }
    }

    /// Does all that is due.
    fn tick(&mut self) {
        let now = self.clock.now();
        self.shared_sources.clear();
        self.forget_undeclared();
        self.route_early();
        self.tick_inputs(now);
        self.count_spent();
        self.tick_floors(now);
        self.tick_sources(now);
        self.tick_providers(now);
        self.tick_receivers(now);
        self.tick_kustomizations(now);
        self.look_at_dependencies();
        self.tick_statuses(now);
        // Once for all that was declared and reported in this step.
        self.watch_live();
        self.attend();
    }

    /// Tells the watches whether somebody is at work or waits, and hears of everything.
    fn attend(&self) {
        let attended = !self.kustomizations.values().all(|state| state.is_at_rest());
        self.targets.all().for_each(|target| target.live.borrow_mut().attended = attended);
    }

    fn next_wake(&self) -> Duration {
        let sources = self.sources.values().filter_map(SourceState::wake);
        let kustomizations = self.kustomizations.values().filter_map(|state| state.wake());
        let rest = [
            self.cluster_input.wake(),
            self.cluster_floors.wake(),
            self.statuses.wake(),
            self.retry_wake(),
            self.providers_wake(),
            self.receivers_wake(),
        ];
        sources.chain(kustomizations).chain(rest.into_iter().flatten()).min().unwrap_or(Duration::MAX)
    }

    /// Sends an answer of a task back to the loop.
    fn answer(&self, work: impl Future<Output = Event> + 'static) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            // Where nobody listens any more, the agent is stopping.
            let _ = events.send(work.await).await;
        });
    }

    /// Whether everything declared has been through a run, with `--once`.
    fn is_settled(&self) -> bool {
        let read = self.cluster_input.is_read();
        read && self.sources.values().all(SourceState::is_settled)
            && self.kustomizations.values().all(|state| state.is_settled())
    }

    async fn end_once(&mut self) -> Result<(), DriveError> {
        self.ledger.write_to(&mut self.batch);
        self.write().await;
        self.reporter.flush(Duration::from_secs(10)).await;
        if self.sources.is_empty() && self.kustomizations.is_empty() {
            return Err(DriveError::Nothing);
        }
        let of_ours =
            |resource: &&Resource| matches!(resource.kind, ResourceKind::GitRepository | ResourceKind::Kustomization);
        let ready = self.declared.keys().filter(of_ours).all(|resource| self.is_ready(resource));
        if ready { Ok(()) } else { Err(DriveError::NotReady) }
    }
}

/// Waits until the process is told to stop.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
