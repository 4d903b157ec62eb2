//! The loop: the only place where effects happen. What happened comes back as events.
//!
//! ```text
//!   files ─┐                         ┌─► source: poll, load
//!   CRDs ──┼─► inputs ─► events ─► Drive ─► kustomization: build, run, wait   (wickie_plan::cycle decides when)
//!   watches┘                 ▲       ├─► store: one batch a step
//!                            └───────┴─► reporter, control socket
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
mod link;
mod live;
mod providers;
mod receivers;
mod records;
mod rollback;
mod run;
mod sources;
mod usage;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use wickie_model::{Gvk, Inventory, Resource, ResourceKind, ResourceName, Revision, Trial};
use wickie_plan::course::Course;

use crate::apply::Executor;
use crate::cluster::watch::Seen;
use crate::cluster::{Cluster, ConnectError, Connection};
use crate::config::{Declared, Files, NodeConfig, Secrets, ValuesName};
use crate::report::Reporter;
use crate::serve::{self, Command, Hooks, Metrics, ServeError, Served};
use crate::source::{Git, Polled, Snapshot, SourceError, Verified};
use crate::store::{Batch, Bounds, DataDir, Record, Store, StoreError};
use announce::Announcer;
use claims::Claims;
use clock::Clock;
use kustomizations::{Built, KustomizationState, Reported};
use live::Live;
use run::{BuildKey, Shared};
use sources::SourceState;

/// How the agent is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its state is.
    pub data_dir: DataDir,
    /// Configuration files and folders.
    pub config: Vec<PathBuf>,
    /// Which cluster.
    pub connection: Connection,
    /// Where metrics, probes and webhooks are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// How large the store may grow.
    pub bounds: Bounds,
    /// Whether to end when everything declared has been through one run.
    pub once: bool,
    /// Whether objects in the cluster are taken without the label that opts them in, where the CRDs are not ours.
    pub all: bool,
    /// Whether to take over from a Flux that is active.
    pub takeover: bool,
    /// The node's name, for reports.
    pub node: String,
    /// The namespace that wickie lives in.
    pub namespace: String,
}

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The cluster's address or credentials.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control socket.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// With `--once`: something did not become ready.
    #[error("not everything is ready; see wickie status")]
    NotReady,
    /// With `--once`: nothing was declared.
    #[error("nothing is declared: --config names no GitRepository or Kustomization, and the cluster has none")]
    Nothing,
}

/// What comes back to the loop.
enum Event {
    /// A CRD of one of our kinds.
    Definitions(Seen),
    /// An object of one of our kinds in the cluster.
    Resource(ResourceKind, Seen),
    /// An object that we keep, or may keep.
    Live(Gvk, Seen),
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
    node: NodeConfig,
    clock: Clock,
    shared: Shared,
    events: mpsc::Sender<Event>,
    files: Files,
    files_seen: Vec<(PathBuf, u64, Option<std::time::SystemTime>)>,
    cluster_input: inputs::ClusterInput,
    cluster_floors: floors::ClusterFloors,
    declared: BTreeMap<Resource, Declared>,
    records: BTreeMap<Resource, Record>,
    sources: BTreeMap<ResourceName, SourceState>,
    kustomizations: BTreeMap<ResourceName, KustomizationState>,
    providers: BTreeMap<ResourceName, providers::ProviderState>,
    values: values::WatchedValues,
    reporter: Reporter,
    reachable: records::Reachable,
    waiters: Vec<command::Waiter>,
    statuses: records::Statuses,
    ledger: link::Ledger,
    receivers: BTreeMap<ResourceName, receivers::ReceiverState>,
    hooks: Hooks,
    metrics: Metrics,
    batch: Batch,
    /// Kustomizations that go on when the batch is written.
    turning: Vec<ResourceName>,
    store_trouble: Option<String>,
}

/// Runs the agent until it is told to stop.
pub async fn run(settings: Settings) -> Result<(), DriveError> {
    tokio::task::LocalSet::new().run_until(run_here(settings)).await
}

async fn run_here(settings: Settings) -> Result<(), DriveError> {
    settings.data_dir.create()?;
    let _lock = settings.data_dir.lock()?;
    let (store, aside) = Store::open_within(&settings.data_dir, settings.bounds, Timestamp::now())?;
    if let Some(path) = aside {
        tracing::error!(set_aside = %path.display(), "the store was damaged: it lies aside, and is built again from Git and the cluster");
    }
    let (client, server) = settings.connection.client().await?;
    let cluster = Cluster::new(client);
    let (events, inbox) = mpsc::channel(QUEUE);
    let (commands, orders) = mpsc::channel(16);
    let _socket = serve::serve(&settings.data_dir, store.clone(), commands.clone(), Timestamp::now())?;
    let (hooks, metrics) = (Hooks::default(), Metrics::default());
    let _listener = match settings.listen {
        Some(address) => {
            let (hooks, metrics, store) = (hooks.clone(), metrics.clone(), store.clone());
            Some(serve::listen(address, Served { commands, store, hooks, metrics, since: Timestamp::now() }).await?)
        }
        None => None,
    };
    let mut drive = Drive::new(settings, store, cluster, server, events).await?;
    (drive.hooks, drive.metrics) = (hooks, metrics);
    drive.start();
    drive.turn(inbox, orders).await
}

impl Drive {
    async fn new(
        settings: Settings,
        store: Store,
        cluster: Cluster,
        server: String,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, DriveError> {
        let records = store.records().await?;
        let inventories = store.inventories().await?;
        let ledger = link::Ledger::new(store.traffic().await?);
        let mut claims = Claims::default();
        for (owner, inventory) in &inventories {
            claims.have(owner, inventory.keys());
        }
        let (git, trouble) = Git::new(store.clone()).with_file(settings.data_dir.floors()).await;
        if let Some(why) = trouble {
            tracing::error!("the copy of the trust floors beside the store {why}; it is written again");
        }
        let mut trials: BTreeMap<ResourceName, Vec<Trial>> = BTreeMap::new();
        for trial in store.all_trials().await? {
            trials.entry(trial.name.clone()).or_default().push(trial);
        }
        let announcer = Announcer::new(cluster.clone(), settings.node.clone());
        let shared = Shared {
            git: Rc::new(git),
            executor: Executor::new(cluster.clone()),
            live: Rc::new(RefCell::new(Live::new(cluster.clone(), events.clone()))),
            seen: Rc::new(Notify::new()),
            claims: Rc::new(RefCell::new(claims)),
            announcer: Rc::new(RefCell::new(announcer)),
            spent: Rc::default(),
            store: store.clone(),
            cluster,
        };
        let reporter = Reporter::new(store, &settings.node);
        let mut kustomizations: BTreeMap<_, _> = inventories
            .into_iter()
            .map(|(owner, inventory)| (owner, KustomizationState::remembered(inventory)))
            .collect();
        for (name, trials) in trials {
            let state = kustomizations.entry(name).or_insert_with(|| KustomizationState::remembered(Inventory::new()));
            state.course = Course::new(trials);
        }
        Ok(Self {
            node: NodeConfig::default(),
            clock: Clock::new(),
            events,
            files: Files::default(),
            files_seen: Vec::new(),
            cluster_input: inputs::ClusterInput::default(),
            cluster_floors: floors::ClusterFloors::default(),
            declared: BTreeMap::new(),
            records: records.into_iter().map(|record| (record.resource.clone(), record)).collect(),
            sources: BTreeMap::new(),
            kustomizations,
            providers: BTreeMap::new(),
            values: values::WatchedValues::default(),
            reporter,
            reachable: records::Reachable::new(server),
            waiters: Vec::new(),
            statuses: records::Statuses::default(),
            ledger,
            receivers: BTreeMap::new(),
            hooks: Hooks::default(),
            metrics: Metrics::default(),
            batch: Batch::default(),
            turning: Vec::new(),
            store_trouble: None,
            settings,
            shared,
        })
    }

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
        mut orders: mpsc::Receiver<Command>,
    ) -> Result<(), DriveError> {
        let mut stop = std::pin::pin!(stopped());
        let mut files = tokio::time::interval(FILES);
        let written = self.shared.announcer.borrow().written.clone();
        loop {
            self.tick();
            self.write().await;
            if self.settings.once && self.is_settled() {
                return self.end_once().await;
            }
            let wake = self.clock.instant(self.next_wake());
            tokio::select! {
                () = &mut stop => {
                    tracing::info!("stopping");
                    self.ledger.write_to(&mut self.batch);
                    self.write().await;
                    // What is written down is sent at the next start; a moment is given to what could go now.
                    self.reporter.flush(Duration::from_secs(2)).await;
                    return Ok(());
                }
                Some(event) = inbox.recv() => {
                    self.take(event);
                    // What is there already is taken in the same step, and written in the same batch.
                    for _ in 0..QUEUE {
                        let Ok(event) = inbox.try_recv() else { break };
                        self.take(event);
                    }
                }
                Some(order) = orders.recv() => self.obey(order),
                () = written.notified() => self.reporter.wake(),
                _ = files.tick() => self.look_at_files(),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Definitions(seen) => self.definitions_seen(seen),
            Event::Resource(kind, seen) => self.resource_seen(kind, seen),
            Event::Live(gvk, seen) => self.live_seen(&gvk, seen),
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
        self.forget_undeclared();
        self.route_early();
        self.tick_inputs(now);
        self.count_spent();
        self.tick_floors(now);
        self.tick_sources(now);
        self.tick_providers(now);
        self.tick_receivers(now);
        self.tick_kustomizations(now);
        self.tick_statuses(now);
    }

    fn next_wake(&self) -> Duration {
        let sources = self.sources.values().filter_map(SourceState::wake);
        let kustomizations = self.kustomizations.values().filter_map(KustomizationState::wake);
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
        tokio::task::spawn_local(async move {
            // Where nobody listens any more, the agent is stopping.
            let _ = events.send(work.await).await;
        });
    }

    /// Whether everything declared has been through a run, with `--once`.
    fn is_settled(&self) -> bool {
        let read = self.cluster_input.is_read();
        read && self.sources.values().all(SourceState::is_settled)
            && self.kustomizations.values().all(KustomizationState::is_settled)
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

    /// The kinds to watch: those of every inventory, whole where health is waited for.
    fn watch_live(&mut self) {
        let mut wanted: HashMap<(String, String), (String, bool)> = HashMap::new();
        for kustomization in self.kustomizations.values() {
            let whole = kustomization.waits_for_all();
            for (id, entry) in &kustomization.inventory {
                let kind =
                    wanted.entry((id.group.clone(), id.kind.clone())).or_insert_with(|| (entry.version.clone(), false));
                kind.1 |= whole || kustomization.checks(id);
            }
        }
        self.shared.live.borrow_mut().watch(&wanted);
    }

    fn live_seen(&mut self, gvk: &Gvk, seen: Seen) {
        self.reachable.note(&seen, gvk);
        let concerned = self.shared.live.borrow_mut().take(gvk, seen);
        self.shared.seen.notify_waiters();
        let mut checked = BTreeSet::new();
        for (owner, object) in concerned {
            match object {
                Some(id) => self.look_for_drift(&owner, Some(&id)),
                None => self.look_for_drift(&owner, None),
            }
            if checked.insert(owner.clone()) {
                self.look_at_health(&owner);
            }
        }
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
