//! The part of a run that follows the build: it looks, plans, and carries the plan out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use wickie_model::{Entry, EntryState, Inventory, ObjectId, Resource, ResourceKind, Severity, reason};
use wickie_plan::{Action, Checked, Observed, Plan, Policy, Refusal, Request, Wave, Withheld, plan};

use super::observe::Seen;
use super::still::Still;
use super::{RunError, Shared, Wanted};
use crate::apply::{Done, Failure, Outcome};
use crate::cluster::{ApiError, Class, FieldConflict};
use crate::config::Kustomization;
use crate::drive::announce::Said;
use crate::drive::targets::Target;
use crate::store::{Batch, Changes, InventoryChange, StoreError};

/// All that one run works on.
pub(in crate::drive) struct Job {
    pub(in crate::drive) shared: Shared,
    /// The cluster that it works in.
    pub(in crate::drive) target: Target,
    pub(in crate::drive) kustomization: Arc<Kustomization>,
    pub(in crate::drive) wanted: Rc<Wanted>,
    pub(in crate::drive) policy: Policy,
    pub(in crate::drive) inventory: Rc<Inventory>,
    /// Whether the inventory may lack something: see [`Lost`](super::Lost).
    pub(in crate::drive) search: bool,
    pub(in crate::drive) restored: Restored,
    /// The versions that our own writes led to: what was seen before them is old.
    pub(in crate::drive) versions: HashMap<ObjectId, u64>,
    /// What the last plan looked at, if there was nothing to do and all objects were seen as they had been left; with how
    /// many there were.
    pub(in crate::drive) rested: Option<(Still, u32)>,
}

/// Whether the cluster is known to be one that was set back, as by a restore from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drive) enum Restored {
    /// It is not. What is found to be earlier than it was left tells that it was.
    No,
    /// It is, and all is read: what is at an earlier state may look as it was left.
    Unread,
    /// It is, and all was read since.
    Read,
}

/// What a run did.
#[derive(Debug, Default)]
pub(in crate::drive) struct Report {
    pub(in crate::drive) inventory: Rc<Inventory>,
    /// Whether the inventory was completed by what the cluster has.
    pub(in crate::drive) searched: bool,
    /// The connection over which it was done: versions are those of its cluster.
    pub(in crate::drive) target: u64,
    pub(in crate::drive) versions: HashMap<ObjectId, u64>,
    /// For the next run: see [`Job::rested`].
    pub(in crate::drive) rested: Option<(Still, u32)>,
    pub(in crate::drive) changes: Changes,
    /// What was done, an object a line: for the event.
    pub(in crate::drive) done: Vec<String>,
    /// The objects that were written.
    pub(in crate::drive) written: Vec<ObjectId>,
    /// Fields that were taken from other managers.
    pub(in crate::drive) taken: Vec<(ObjectId, FieldConflict)>,
    /// What is to be deleted and waits, an object a line.
    pub(in crate::drive) deferred: Vec<String>,
    /// What waits for the window, by object.
    pub(in crate::drive) withheld: BTreeMap<ObjectId, Withheld>,
    /// What failed or is held, by object.
    pub(in crate::drive) failures: Vec<(ObjectId, Failure)>,
    /// Why it ended early.
    pub(in crate::drive) error: Option<RunError>,
}

impl Report {
    /// The objects that there was something to put right in, whether that could be done or not.
    pub(in crate::drive) fn touched(&self) -> impl Iterator<Item = &ObjectId> {
        self.written.iter().chain(self.failures.iter().map(|(id, _)| id))
    }

    /// Whether trying again soon, with the same manifests, may well do better.
    pub(in crate::drive) fn is_transient(&self) -> bool {
        self.error.as_ref().is_some_and(RunError::is_transient)
            || self.failures.iter().any(|(_, failure)| failure.class.is_transient())
    }

    /// Whether it failed because the API server could not be reached, and for no other reason.
    pub(in crate::drive) fn is_away(&self) -> bool {
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
    pub(in crate::drive) async fn run(self: Box<Self>) -> Report {
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

    pub(super) fn unseen(&self, error: ApiError) -> RunError {
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

    pub(super) async fn commit(
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
