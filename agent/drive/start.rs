//! From the start of the process to the loop: what is opened and remembered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use wickie_model::{Inventory, ResourceKind, ResourceName, Trial};
use wickie_plan::course::Course;

use super::announce::Announcer;
use super::claims::Claims;
use super::clock::Clock;
use super::kustomizations::KustomizationState;
use super::lease::Role;
use super::run::Shared;
use super::supervise::Pulse;
use super::targets::{Aim, NoTarget, Targets};
use super::tasks::Tasks;
use super::{
    Drive, DriveError, Ended, Event, QUEUE, Settings, floors, inputs, lease, link, records, run as runs, values,
};
use crate::cluster::{Cluster, Fence};
use crate::config::{Files, KubeConfigRef, NodeConfig};
use crate::report::Reporter;
use crate::serve::{self, Hooks, Metrics, Served, Supervisor};
use crate::source::Git;
use crate::store::{Batch, Store};

/// Runs the agent until it is told to stop.
pub async fn run(settings: Settings) -> Result<(), DriveError> {
    let mut supervisor = Supervisor::of_process()?;
    let ended = run_here(settings, &mut supervisor).await;
    if let Err(error) = &ended {
        // Without its causes: they may quote what stands in a kubeconfig.
        supervisor.status(&format!("failed: {error}"));
    }
    ended
}

async fn run_here(settings: Settings, supervisor: &mut Supervisor) -> Result<(), DriveError> {
    // A large one on a slow disk is read for minutes.
    supervisor.status("starting: the store is being checked");
    settings.data_dir.create()?;
    let _lock = settings.data_dir.lock()?;
    let (store, aside) = Store::open_within(&settings.data_dir, settings.bounds, Timestamp::now())?;
    if let Some(path) = aside {
        tracing::error!(set_aside = %path.display(), "the store was damaged: it lies aside, and is built again from Git and the cluster");
    }
    let mut pulse = Pulse::new(supervisor, store.clone());
    let fence = settings.lease.map(|_| Fence::default());
    let (cluster, server) = settings.connection.cluster(&settings.node, fence.clone()).await?;
    let (commands, mut orders) = mpsc::channel(16);
    let _socket = serve::serve(&settings.data_dir, store.clone(), commands.clone(), Timestamp::now())?;
    let (hooks, metrics) = (Hooks::default(), Metrics::default());
    let _listener = match settings.listen {
        Some(address) => {
            let (hooks, metrics, store) = (hooks.clone(), metrics.clone(), store.clone());
            Some(serve::listen(address, Served { commands, store, hooks, metrics, since: Timestamp::now() }).await?)
        }
        None => None,
    };
    let mut role = lease::standing(&settings, &cluster, fence);
    let mut anew = false;
    loop {
        let (events, inbox) = mpsc::channel(QUEUE);
        let now = match role.borrow_and_update().clone() {
            Role::Writes { others, restored } => {
                anew |= restored;
                Role::Writes { others: others || anew, restored }
            }
            now => now,
        };
        let (settings, cluster, server) = (settings.clone(), cluster.clone(), server.clone());
        let mut drive = pulse.during(Drive::new(settings, now, store.clone(), cluster, server, events)).await?;
        (drive.hooks, drive.metrics, drive.anew) = (hooks.clone(), metrics.clone(), anew);
        drive.start();
        let ended = drive.turn(inbox, &mut orders, &mut role, &mut pulse).await;
        // What it has begun ends with it: whoever comes to write again begins as after a start.
        drive.tasks.end().await;
        match ended? {
            Ended::Stopped => return Ok(()),
            // What was to be looked at anew may not all have been yet.
            Ended::Role => {}
            Ended::SetBack => anew = true,
        }
    }
}

impl Drive {
    async fn new(
        settings: Settings,
        role: Role,
        store: Store,
        cluster: Cluster,
        server: String,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, DriveError> {
        let records = store.records().await?;
        let remembered = store.floors().await?.into_iter().map(|own| own.kept.source).collect();
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
        let tasks = Tasks::default();
        let targets = Targets::new(cluster.clone(), server, &events, &tasks, settings.by_namespace);
        let announcer = Announcer::new(cluster.clone(), settings.node.clone(), tasks.clone());
        let shared = Shared {
            git: Rc::new(git),
            claims: Rc::new(RefCell::new(claims)),
            announcer: Rc::new(RefCell::new(announcer)),
            spent: Rc::default(),
            building: Rc::new(Semaphore::new(runs::BUILDS)),
            namespace: settings.namespace.clone(),
            store: store.clone(),
            cluster,
        };
        let reporter = Reporter::new(store, &settings.node);
        let mut kustomizations: BTreeMap<_, _> = inventories
            .into_iter()
            .map(|(owner, inventory)| (owner, Box::new(KustomizationState::remembered(inventory))))
            .collect();
        // Until it is declared, what one has elsewhere is not looked for here.
        for record in records.iter().filter(|record| record.resource.kind == ResourceKind::Kustomization) {
            if let Some(state) = kustomizations.get_mut(&record.resource.name)
                && let Some(reference) = KubeConfigRef::in_record(record)
            {
                state.aim = Aim::Nowhere(NoTarget::Unread(reference.secret));
            }
        }
        for (name, trials) in trials {
            let state = kustomizations
                .entry(name)
                .or_insert_with(|| Box::new(KustomizationState::remembered(Inventory::new())));
            state.course = Course::new(trials);
        }
        Ok(Self {
            node: NodeConfig::default(),
            clock: Clock::new(),
            events,
            tasks,
            files: Files::default(),
            files_seen: Vec::new(),
            cluster_input: inputs::ClusterInput::default(),
            cluster_floors: floors::ClusterFloors::default(),
            declared: BTreeMap::new(),
            records: records.into_iter().map(|record| (record.resource.clone(), record)).collect(),
            sources: BTreeMap::new(),
            shared_sources: HashMap::new(),
            kustomizations,
            providers: BTreeMap::new(),
            values: values::WatchedValues::default(),
            reporter,
            targets,
            waiters: Vec::new(),
            releasing: Vec::new(),
            forgotten: Vec::new(),
            statuses: records::Statuses::default(),
            ledger,
            receivers: BTreeMap::new(),
            hooks: Hooks::default(),
            metrics: Metrics::default(),
            batch: Batch::default(),
            turning: Vec::new(),
            moved: BTreeSet::new(),
            store_trouble: None,
            live_stale: true,
            set_back: false,
            anew: false,
            settings,
            role,
            remembered,
            shared,
        })
    }
}
