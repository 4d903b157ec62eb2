//! One run of a Kustomization: build, look, plan, write down what is meant to happen, do it, write down what did.
//!
//! ```text
//! snapshot ─► build ─► look at what is there ─► plan ─► intent (store) ─► waves ─► outcomes (store)
//! ```
//!
//! Guarantees: nothing is sent to the cluster before the store holds that it will be; an object leaves the inventory
//! only when the API server has confirmed that it is gone. A process that is killed anywhere in between finds, when it
//! starts again, every object it may have made.

mod gather;
mod lost;
mod observe;
mod still;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use wickie_model::{
    Digest, Entry, EntryState, Hasher, Inventory, ObjectId, ObjectMap, Resource, ResourceKind, ResourceName, Revision,
    Severity, reason,
};
use wickie_plan::{Action, Checked, Desired, Observed, Plan, Policy, Refusal, Request, Wave, Withheld, plan};

use super::announce::{Announcer, Said};
use super::claims::Claims;
use super::targets::{NoTarget, Target};
use super::values::Trouble;
use crate::apply::{Done, Failure, Outcome};
use crate::cluster::{ApiError, Class, Cluster, FieldConflict};
use crate::config::Kustomization;
use crate::config::git::GitSource;
use crate::render::{self, Built, Inputs, Packed, RenderError, Seal};
use crate::source::{Git, SourceError, SourceErrorClass, Traffic};
use crate::store::{Batch, Changes, InventoryChange, Store, StoreError};
use gather::{Gathered, Trace};
use observe::Seen;

pub(super) use gather::reach;
pub(super) use lost::Lost;
pub(super) use still::Still;

/// What every run shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) git: Rc<Git>,
    /// The agent's own cluster: what it is told by.
    pub(super) cluster: Cluster,
    pub(super) claims: Rc<RefCell<Claims>>,
    pub(super) announcer: Rc<RefCell<Announcer>>,
    /// What builds have cost on the network, until it is counted.
    pub(super) spent: Rc<RefCell<Vec<(ResourceName, Traffic)>>>,
    /// Leave to build: each build holds its files and objects in memory.
    pub(super) building: Rc<Semaphore>,
    /// The namespace that the agent lives in.
    pub(super) namespace: String,
}

/// What Git wants: what plans need to know of it, and the manifests themselves, packed.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What it was built from.
    pub(super) key: BuildKey,
    pub(super) desired: ObjectMap<Desired>,
    pub(super) manifests: Rc<Packed>,
    /// Files that could not be read.
    pub(super) broken: Vec<render::Broken>,
    pub(super) held_back: Vec<ObjectId>,
    /// Objects that hold secret values, and the key for their digests.
    pub(super) secret: BTreeSet<ObjectId>,
    pub(super) seal: Option<Seal>,
    /// What the build looked at.
    trace: Trace,
}

impl Wanted {
    /// Nothing at all: what a deleted Kustomization wants.
    pub(super) fn nothing(key: BuildKey) -> Self {
        Self {
            key,
            desired: ObjectMap::default(),
            manifests: Rc::default(),
            broken: Vec::new(),
            held_back: Vec::new(),
            secret: BTreeSet::new(),
            seal: None,
            trace: Trace::default(),
        }
    }

    /// The key for the digests of an object, where it has one.
    pub(super) fn seal(&self, id: &ObjectId) -> Option<&Seal> {
        self.seal.as_ref().filter(|_| self.secret.contains(id))
    }
}

/// All that a build depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildKey {
    pub(super) revision: Revision,
    /// Of the spec, the source and the inputs.
    rest: Digest,
}

impl BuildKey {
    /// `inputs` is [`Inputs::digest`].
    pub(super) fn new(revision: Revision, spec: Digest, source: Digest, inputs: Digest) -> Self {
        let mut rest = Hasher::default();
        [spec, source, inputs].iter().for_each(|part| rest.field(part.as_bytes()));
        Self { revision, rest: rest.finish() }
    }

    /// That of a build of another revision that is made from the same otherwise.
    pub(super) fn at(&self, revision: Revision) -> Self {
        Self { revision, rest: self.rest }
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("the snapshot cannot be loaded")]
    Source(#[from] SourceError),
    #[error("the snapshot of {0} at {1} is no longer in the store")]
    NoSnapshot(ResourceName, Revision),
    #[error("the build needs {paths}, of which {revision} was not fetched; it could not be fetched now")]
    NotFetched { paths: String, revision: String, source: Box<SourceError> },
    #[error("the build reached for further files {rounds} times and found no end; name fewer of them")]
    Endless { rounds: usize },
    #[error("{0}")]
    Values(#[from] Trouble),
    #[error("{0}")]
    Render(#[from] RenderError),
    #[error("{0}")]
    Target(#[from] NoTarget),
    #[error("{at} cannot be looked at")]
    Look {
        at: String,
        #[source]
        error: ApiError,
    },
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("what is to be done cannot be written down, so nothing was done")]
    Store(#[from] StoreError),
}

impl RunError {
    /// Whether it may well work in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Look { error, .. } => error.class.is_transient(),
            Self::Target(why) => why.is_transient(),
            Self::Store(_) => true,
            Self::Values(trouble) => trouble.is_transient(),
            Self::NotFetched { source, .. } => source.class() == SourceErrorClass::Transient,
            _ => false,
        }
    }
}

/// Builds at a time, of all Kustomizations.
pub(super) const BUILDS: usize = 2;

/// How often more is fetched for one build.
const WIDENINGS: usize = 16;

/// What a Kustomization wants, and whether it was built anew for that: what was built `before` serves as long as it would
/// come out the same.
pub(super) async fn wanted(
    shared: &Shared,
    kustomization: &Kustomization,
    inputs: &Inputs,
    source: &GitSource,
    expected: &BuildKey,
    before: Option<&Wanted>,
) -> Result<(Rc<Wanted>, bool), RunError> {
    // It is never closed.
    let _leave = shared.building.acquire().await;
    // A build is large even before it begins: those of a thousand Kustomizations that wait for their turn are not made yet.
    Box::pin(async {
        if let Some(before) = before
            && let Some(same) = unchanged(shared, source, before, expected).await?
        {
            return Ok((same, false));
        }
        build(shared, kustomization, inputs, source, expected).await.map(|built| (built, true))
    })
    .await
}

/// Builds what a Kustomization wants from the stored snapshot that `expected` names, verified again as it is loaded.
///
/// What it needs and was not fetched is fetched now, for that very commit; a new commit is not accepted before all that
/// is known to be needed is here, so this is for what came into use since.
async fn build(
    shared: &Shared,
    kustomization: &Kustomization,
    inputs: &Inputs,
    source: &GitSource,
    expected: &BuildKey,
) -> Result<Rc<Wanted>, RunError> {
    for _ in 0..WIDENINGS {
        let snapshot = shared.git.load_at(source, &expected.revision).await?;
        let snapshot = snapshot.ok_or_else(|| RunError::NoSnapshot(source.name.clone(), expected.revision.clone()))?;
        let lacks = match gather::build(&snapshot, kustomization, inputs).await? {
            Gathered::Built(built, trace) => {
                let Built { desired, manifests, broken, held_back, secret } = built;
                tracing::debug!(kustomization = %kustomization.name, revision = %snapshot.revision(), objects = desired.len(), "built");
                let (manifests, seal, key) = (Rc::new(manifests), inputs.seal().cloned(), expected.clone());
                return Ok(Rc::new(Wanted { key, desired, manifests, broken, held_back, secret, seal, trace }));
            }
            Gathered::Lacks(paths) => paths.into_iter().collect::<Vec<_>>(),
        };
        let (outcome, traffic) = shared.git.widen(source, snapshot.commit(), &lacks).await;
        shared.spent.borrow_mut().push((source.name.clone(), traffic));
        tracing::debug!(source = %source.name, paths = ?lacks, received = traffic.received, "fetched what a build needs");
        if let Err(error) = outcome {
            let paths = lacks.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
            let revision = snapshot.revision().to_string();
            return Err(RunError::NotFetched { paths, revision, source: Box::new(error) });
        }
    }
    Err(RunError::Endless { rounds: WIDENINGS })
}

/// What was built before, where building it again would come to the same: nothing that it was built from has changed but
/// the revision, and everything that the build looked at is the same in the new one.
async fn unchanged(
    shared: &Shared,
    source: &GitSource,
    before: &Wanted,
    expected: &BuildKey,
) -> Result<Option<Rc<Wanted>>, RunError> {
    if before.key.rest != expected.rest {
        return Ok(None);
    }
    let snapshot = shared.git.load_at(source, &expected.revision).await?;
    let snapshot = snapshot.ok_or_else(|| RunError::NoSnapshot(source.name.clone(), expected.revision.clone()))?;
    if !before.trace.holds(&snapshot).await? {
        return Ok(None);
    }
    Ok(Some(Rc::new(Wanted { key: expected.clone(), ..before.clone() })))
}

/// All that one run works on.
pub(super) struct Job {
    pub(super) shared: Shared,
    /// The cluster that it works in.
    pub(super) target: Target,
    pub(super) kustomization: Arc<Kustomization>,
    pub(super) wanted: Rc<Wanted>,
    pub(super) policy: Policy,
    pub(super) inventory: Rc<Inventory>,
    /// Whether the inventory may lack something: see [`Lost`].
    pub(super) search: bool,
    /// The versions that our own writes led to: what was seen before them is old.
    pub(super) versions: HashMap<ObjectId, u64>,
    /// What the last plan looked at, if there was nothing to do and all objects were seen as they had been left; with how
    /// many there were.
    pub(super) rested: Option<(Still, u32)>,
}

/// What a run did.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) inventory: Rc<Inventory>,
    /// Whether the inventory was completed by what the cluster has.
    pub(super) searched: bool,
    /// The connection over which it was done: versions are those of its cluster.
    pub(super) target: u64,
    pub(super) versions: HashMap<ObjectId, u64>,
    /// For the next run: see [`Job::rested`].
    pub(super) rested: Option<(Still, u32)>,
    pub(super) changes: Changes,
    /// What was done, an object a line: for the event.
    pub(super) done: Vec<String>,
    /// The objects that were written.
    pub(super) written: Vec<ObjectId>,
    /// Fields that were taken from other managers.
    pub(super) taken: Vec<(ObjectId, FieldConflict)>,
    /// What is to be deleted and waits, an object a line.
    pub(super) deferred: Vec<String>,
    /// What waits for the window, by object.
    pub(super) withheld: BTreeMap<ObjectId, Withheld>,
    /// What failed or is held, by object.
    pub(super) failures: Vec<(ObjectId, Failure)>,
    /// Why it ended early.
    pub(super) error: Option<RunError>,
}

impl Report {
    /// The objects that there was something to put right in, whether that could be done or not.
    pub(super) fn touched(&self) -> impl Iterator<Item = &ObjectId> {
        self.written.iter().chain(self.failures.iter().map(|(id, _)| id))
    }

    /// Whether trying again soon, with the same manifests, may well do better.
    pub(super) fn is_transient(&self) -> bool {
        self.error.as_ref().is_some_and(RunError::is_transient)
            || self.failures.iter().any(|(_, failure)| failure.class.is_transient())
    }

    /// Whether it failed because the API server could not be reached, and for no other reason.
    pub(super) fn is_away(&self) -> bool {
        let unreachable = |class: &Class| *class == Class::Unreachable;
        match &self.error {
            Some(RunError::Look { error, .. }) => unreachable(&error.class),
            Some(_) => false,
            None => !self.failures.is_empty() && self.failures.iter().all(|(_, failure)| unreachable(&failure.class)),
        }
    }
}

impl Job {
    /// Carries the run out, when it is its turn.
    pub(super) async fn run(self: Box<Self>) -> Report {
        let runs = self.target.runs.clone();
        // It is never closed.
        let _leave = runs.acquire().await;
        // Large, and made only now: those of a thousand Kustomizations may wait.
        Box::pin(self.carry_out()).await
    }

    async fn carry_out(mut self: Box<Self>) -> Report {
        let mut report = Report { target: self.target.serial, ..Report::default() };
        if let Err(error) = self.try_run(&mut report).await {
            report.error = Some(error);
        }
        report.inventory = self.inventory;
        report.versions = self.versions;
        report
    }

    async fn try_run(&mut self, report: &mut Report) -> Result<(), RunError> {
        report.searched = self.search().await?;
        let still = self.still();
        if let Some((before, unchanged)) = self.rested.take()
            && before == still
        {
            report.changes.unchanged = unchanged;
            report.rested = Some((before, unchanged));
            return Ok(());
        }
        let Seen { observed, at_rest } = self.observe().await?;
        let plan = self.plan(&observed)?;
        report.changes.unchanged = count(plan.unchanged);
        report.withheld.clone_from(&plan.withheld);
        if plan.is_empty() {
            let rests = at_rest && report.withheld.is_empty() && !report.searched;
            report.rested = rests.then_some((still, report.changes.unchanged));
            return Ok(());
        }
        self.write_intent(&plan).await?;
        let executor = self.target.executor(&self.kustomization);
        for wave in &plan.waves {
            let outcomes = executor.wave(wave, |id| self.wanted.manifests.get(id)).await;
            let lost = outcomes.iter().any(|outcome| matches!(outcome.done, Done::NotTried));
            self.record(wave, outcomes, report).await?;
            if lost {
                break;
            }
        }
        Ok(())
    }

    fn unseen(&self, error: ApiError) -> RunError {
        RunError::Look { at: self.target.words(), error }
    }

    /// Completes an inventory that may lack something by what the cluster has; whether it did.
    async fn search(&mut self) -> Result<bool, RunError> {
        if !self.search {
            return Ok(false);
        }
        let owner = self.kustomization.name.clone();
        let found = self.target.lost.of(&self.target.cluster, &owner, &self.wanted.desired).await;
        let found = found.map_err(|error| self.unseen(error))?;
        let (wanted, unwanted): (Inventory, Inventory) =
            found.into_iter().partition(|(id, _)| self.wanted.desired.contains_key(id));
        if !unwanted.is_empty() {
            let (objects, left) = (wanted.len() + unwanted.len(), unwanted.len());
            // Where nothing of it is Git's, another agent's Kustomization of the same name has put it there.
            if wanted.is_empty() {
                tracing::warn!(kustomization = %owner, objects, "objects carry its labels, none of which Git has: they are left alone");
                return Ok(true);
            }
            tracing::warn!(kustomization = %owner, objects, left, "the store does not know all that it has put into the cluster: its inventory is completed from the objects' labels");
        }
        let new = wanted.into_iter().chain(unwanted).filter(|(id, _)| !self.inventory.contains_key(id)).collect();
        self.commit(new, Vec::new(), None).await?;
        Ok(true)
    }

    fn plan(&self, observed: &BTreeMap<ObjectId, Observed>) -> Result<Checked<Plan>, Refusal> {
        let claims = self.shared.claims.borrow();
        let named = self.wanted.desired.keys().chain(self.inventory.keys());
        let owner = &self.kustomization.name;
        let claimed = named.filter_map(|id| {
            let other = match self.wanted.desired.contains_key(id) {
                true => claims.other(id, owner),
                false => claims.heir(id, owner),
            };
            Some((id.clone(), other?.clone()))
        });
        let claimed = claimed.collect();
        plan(&Request {
            desired: &self.wanted.desired,
            inventory: &self.inventory,
            observed,
            claimed: &claimed,
            policy: &self.policy,
        })
    }

    /// Writes down what is about to happen: the inventory becomes what was there and what is planned.
    async fn write_intent(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let mut put = Vec::new();
        for step in plan.steps() {
            let entry = match (&step.action, self.inventory.get(&step.id)) {
                (action, None) if action.applies() => Entry::planned(&step.version),
                (Action::Delete, Some(entry)) if entry.state != EntryState::Deleting => {
                    Entry { state: EntryState::Deleting, ..entry.clone() }
                }
                (action, Some(entry)) if action.applies() && entry.state == EntryState::Deleting => {
                    Entry { state: EntryState::Planned, ..entry.clone() }
                }
                _ => continue,
            };
            put.push((step.id.clone(), entry));
        }
        self.commit(put, Vec::new(), None).await
    }

    /// Writes down what happened.
    async fn record(&mut self, wave: &Wave, outcomes: Vec<Outcome>, report: &mut Report) -> Result<(), StoreError> {
        let before = report.done.len();
        let actions: HashMap<&ObjectId, &Action> = wave.steps.iter().map(|step| (&step.id, &step.action)).collect();
        let (mut put, mut struck) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            let Outcome { id, version, done } = outcome;
            let action = actions.get(&id).copied();
            match done {
                Done::Applied { created, manifest, fingerprint, resource_version, taken } => {
                    let verb = match action {
                        _ if created => count_up(&mut report.changes.created, "created"),
                        Some(Action::Repair) => count_up(&mut report.changes.repaired, "repaired"),
                        _ => count_up(&mut report.changes.changed, "configured"),
                    };
                    report.done.push(format!("{id} {verb}"));
                    report.written.push(id.clone());
                    report.taken.extend(taken.into_iter().map(|conflict| (id.clone(), conflict)));
                    self.versions.insert(id.clone(), resource_version);
                    let state = EntryState::Applied;
                    let fingerprint = match self.wanted.seal(&id) {
                        Some(seal) => fingerprint.map(|plain| seal.fingerprint(plain)),
                        None => fingerprint,
                    };
                    let fingerprint = fingerprint.map(Arc::new);
                    put.push((id, Entry { version, state, manifest: Some(manifest), fingerprint }));
                }
                Done::Deleted => {
                    report.done.push(format!("{id} {}", count_up(&mut report.changes.deleted, "deleted")));
                    struck.push(id);
                }
                Done::Deleting => {
                    // Told again when it is confirmed, and counted then.
                    report.done.push(format!("{id} is being deleted"));
                }
                Done::Forgotten(why) => {
                    report.done.push(format!("{id} is no longer looked after: {why}"));
                    struck.push(id);
                }
                Done::Left => struck.push(id),
                Done::Waiting(why) => report.deferred.push(format!("{id}: {why}")),
                Done::Held(why) => {
                    let failure = Failure { message: format!("{id}: {why}"), class: Class::Other };
                    fail(report, id, failure);
                }
                Done::NotTried => {
                    let message = format!("{id} was not tried: the API server is away");
                    fail(report, id, Failure { message, class: Class::Unreachable });
                }
                Done::Failed(failure) => fail(report, id, failure),
            }
        }
        let said = (report.done.len() > before).then(|| self.progress(&report.done[before..]));
        self.commit(put, struck, said).await
    }

    /// What a wave has done, as Flux reports it: an object a line.
    fn progress(&self, done: &[String]) -> Said {
        let about = Resource::new(ResourceKind::Kustomization, self.kustomization.name.clone());
        let revision = Some(&self.wanted.key.revision);
        self.shared.announcer.borrow().say(&about, Severity::Info, reason::PROGRESSING, done.join("\n"), revision)
    }

    async fn commit(
        &mut self,
        put: Vec<(ObjectId, Entry)>,
        struck: Vec<ObjectId>,
        said: Option<Said>,
    ) -> Result<(), StoreError> {
        if put.is_empty() && struck.is_empty() {
            return Ok(());
        }
        let inventory = Rc::make_mut(&mut self.inventory);
        let mut new = Vec::new();
        for (id, entry) in &put {
            match inventory.get_mut(id) {
                Some(before) => before.clone_from(entry),
                None => new.push((id.clone(), entry.clone())),
            }
        }
        inventory.extend(new);
        if !struck.is_empty() {
            let struck: BTreeSet<_> = struck.iter().collect();
            inventory.retain(|id, _| !struck.contains(id));
            self.versions.retain(|id, _| !struck.contains(id));
        }
        let change = InventoryChange { owner: self.kustomization.name.clone(), put, struck };
        let events = said.into_iter().collect();
        self.shared.store.commit(Batch { inventory: vec![change], events, ..Batch::default() }).await?;
        self.shared.announcer.borrow().wake();
        Ok(())
    }
}

fn fail(report: &mut Report, id: ObjectId, failure: Failure) {
    report.changes.failed += 1;
    report.failures.push((id, failure));
}

fn count_up(counter: &mut u32, verb: &'static str) -> &'static str {
    *counter += 1;
    verb
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
