//! Kustomizations: their cycles, and the effects that a step of a cycle asks for.

mod health;
mod outcome;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use wickie_model::{
    ConditionStatus, Digest, Entry, Gvk, Inventory, Manifest, ObjectId, Resource, ResourceKind, ResourceName,
    condition_type, reason,
};
use wickie_plan::cycle::{self, Cause, Effect, Hold, Moment, Pace, backoff};
use wickie_plan::{DeletionPolicy, Mode, Policy};

use super::live::Look;
use super::run::{self, BuildKey, Job, Report, RunError, Wanted};
use super::{Drive, Event};
use crate::cluster::{ApiError, Cluster, Kind};
use crate::config::{Declared, Invalid, Kustomization};
use crate::store::{InventoryChange, Origin};

pub(super) use health::Foreign;

/// After so long without drift it is repaired at once again.
const CALM: Duration = Duration::from_secs(600);

/// The longest that a repair waits where somebody else keeps undoing it.
const LONGEST_TRUCE: Duration = Duration::from_secs(60);

/// What a build gave.
pub(super) type Built = Result<(Rc<Wanted>, Option<Rc<BTreeMap<ObjectId, Manifest>>>), RunError>;

/// What became of a plan.
pub(super) enum Reported {
    /// A run's.
    Run(Report),
    /// That of a deleted Kustomization; with what stands in the way, if anything does.
    Final(Report),
    /// The Kustomization is deleted because its CRD is: that is no order to delete anything.
    Vanishing(Report),
}

/// A Kustomization.
pub(super) struct KustomizationState {
    /// Nothing while it is not declared (what it has put into the cluster is remembered), or cannot be followed.
    spec: Option<Rc<Kustomization>>,
    digest: Option<Digest>,
    cycle: cycle::State,
    wake: Option<Moment>,
    /// What it has put into the cluster.
    pub(super) inventory: Inventory,
    versions: HashMap<ObjectId, u64>,
    /// What it wants, as last built.
    wanted: Option<Rc<Wanted>>,
    /// The manifests, between their build and their plan.
    manifests: Option<Rc<BTreeMap<ObjectId, Manifest>>>,
    run: Option<Current>,
    report: Option<Report>,
    /// Health is waited for; foreign objects by their last verdict.
    watching: Option<health::Watching>,
    drift: Drift,
    suspended: bool,
    deleted: bool,
    /// Somebody asked for it, and for its source first.
    pub(super) after_source: bool,
    /// Has been through a run or is held, since the start.
    settled: bool,
}

/// The run that is under way.
struct Current {
    cause: Cause,
    key: BuildKey,
    began: Instant,
    started_at: Timestamp,
}

/// How often drift was repaired lately.
#[derive(Default)]
struct Drift {
    repairs: u32,
    last: Option<Moment>,
    /// A repair is put off until then.
    due: Option<Moment>,
}

impl KustomizationState {
    /// One of which only its inventory is known.
    pub(super) fn remembered(inventory: Inventory) -> Self {
        Self {
            spec: None,
            digest: None,
            cycle: cycle::State::new(),
            wake: None,
            inventory,
            versions: HashMap::new(),
            wanted: None,
            manifests: None,
            run: None,
            report: None,
            watching: None,
            drift: Drift::default(),
            suspended: false,
            deleted: false,
            after_source: false,
            settled: false,
        }
    }

    pub(super) fn wake(&self) -> Option<Moment> {
        [self.wake, self.drift.due, self.watching.as_ref().and_then(health::Watching::wake)].into_iter().flatten().min()
    }

    pub(super) fn next_run(&self) -> Option<Moment> {
        match self.cycle {
            cycle::State::Idle { due, .. } => Some(due).filter(|due| *due < Moment::MAX),
            _ => None,
        }
    }

    pub(super) fn source(&self) -> Option<&ResourceName> {
        self.spec.as_ref().map(|spec| &spec.source)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.spec.is_none() || (self.settled && self.cycle.stage().is_none())
    }

    pub(super) fn waits_for_all(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.wait)
    }

    pub(super) fn checks(&self, id: &ObjectId) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.health_checks.iter().any(|check| check.id == *id))
    }

    pub(super) fn spec(&self) -> Option<Rc<Kustomization>> {
        self.spec.clone()
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    pub(super) fn cycle(&self) -> &cycle::State {
        &self.cycle
    }

    fn pace(&self) -> Pace {
        let default = Duration::from_secs(60);
        self.spec.as_ref().map_or(Pace { interval: default, retry: default, timeout: default }, |spec| Pace {
            interval: spec.interval,
            retry: spec.retry_interval,
            timeout: spec.timeout,
        })
    }
}

pub(super) fn resource(name: &ResourceName) -> Resource {
    Resource::new(ResourceKind::Kustomization, name.clone())
}

impl Drive {
    /// A Kustomization is new, or has changed.
    pub(super) fn kustomization_declared(&mut self, declared: &Declared) {
        let name = &declared.resource.name;
        let suspended = self.is_suspended(declared);
        let read = Kustomization::new(declared, &self.node);
        if !self.kustomizations.contains_key(name) {
            let inventory = self.inventory_in_status(declared);
            self.kustomizations.insert(name.clone(), KustomizationState::remembered(inventory));
        }
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        state.suspended = suspended;
        state.digest = Some(declared.digest());
        if declared.deleting {
            state.deleted = true;
            if let Ok(spec) = read {
                state.spec = Some(Rc::new(spec));
            }
            return self.step(name, cycle::Event::Deleted);
        }
        match read {
            Ok(spec) => {
                state.spec = Some(Rc::new(spec));
                self.clear_stalled(name);
                self.watch_live();
                self.admit(name, Cause::Spec);
            }
            Err(invalid) => self.kustomization_invalid(name, &invalid),
        }
    }

    /// The inventory that stands in an object's status, where our own store knows nothing of it: the store was lost, or
    /// Flux has applied it before. Each entry may or may not be in the cluster; the next run finds out.
    fn inventory_in_status(&mut self, declared: &Declared) -> Inventory {
        let entries = declared.status.pointer("/inventory/entries").and_then(Value::as_array);
        let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        let inventory: Inventory = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                Some((ObjectId::from_inventory_key(&text(entry, "id")?)?, Entry::planned(text(entry, "v")?)))
            })
            .collect();
        if !inventory.is_empty() {
            let name = &declared.resource.name;
            tracing::info!(kustomization = %name, objects = inventory.len(), "its inventory is taken from its status");
            self.shared.claims.borrow_mut().have(name, inventory.keys());
            let put = inventory.clone().into_iter().collect();
            self.batch.inventory.push(InventoryChange { owner: name.clone(), put, struck: Vec::new() });
        }
        inventory
    }

    fn kustomization_invalid(&mut self, name: &ResourceName, invalid: &Invalid) {
        self.step(name, cycle::Event::Held(Hold::Invalid(invalid.to_string())));
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.spec = None;
        }
    }

    fn clear_stalled(&mut self, name: &ResourceName) {
        let resource = resource(name);
        self.set_status(&resource, |conditions, _, _| conditions.remove(condition_type::STALLED));
    }

    /// A Kustomization's declaration is gone without its deletion having been asked for: a file that was taken away, a
    /// CRD that vanished. That is no order to delete anything.
    pub(super) fn kustomization_vanished(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let left = state.inventory.len();
        // What is remembered of it is its inventory alone; a run that is still under way brings that back.
        let inventory = std::mem::take(&mut state.inventory);
        *state = KustomizationState::remembered(inventory);
        self.shared.claims.borrow_mut().want(name, []);
        if left > 0 {
            tracing::warn!(kustomization = %name, objects = left, "its declaration is gone; its objects are left as they are");
        } else {
            self.kustomizations.remove(name);
            self.batch.gone.push(resource(name));
            self.records.remove(&resource(name));
        }
    }

    /// Runs a Kustomization, or holds it where something speaks against that.
    pub(super) fn admit(&mut self, name: &ResourceName, cause: Cause) {
        let event = match self.hold(name) {
            Some(hold) => cycle::Event::Held(hold),
            None => cycle::Event::Asked(cause),
        };
        self.step(name, event);
    }

    /// What speaks against a run.
    fn hold(&self, name: &ResourceName) -> Option<Hold> {
        let state = self.kustomizations.get(name)?;
        if state.suspended {
            return Some(Hold::Suspended);
        }
        let Some(spec) = &state.spec else {
            return Some(Hold::Invalid("it cannot be followed as it is declared".to_owned()));
        };
        if let Some(why) = self.cluster_input.refusal(self.declared.get(&resource(name))) {
            return Some(Hold::Invalid(why));
        }
        match self.sources.get(&spec.source) {
            None => return Some(Hold::Source(format!("GitRepository {} is not declared", spec.source))),
            Some(source) if source.is_starting() => return Some(Hold::Starting),
            Some(source) if source.spec().is_none() || source.revision().is_none() => {
                let why = format!("GitRepository {} has no verified snapshot yet; see its status", spec.source);
                return Some(Hold::Source(why));
            }
            Some(_) => {}
        }
        spec.depends_on.iter().find_map(|on| self.unready_dependency(spec, on)).map(Hold::Dependency)
    }

    /// Why a dependency is not ready. Where both take from one source, it must be ready at its newest revision, as in Flux.
    fn unready_dependency(&self, spec: &Kustomization, on: &ResourceName) -> Option<String> {
        let why = |what: &str| Some(format!("dependency '{on}' {what}"));
        let Some(other) = self.kustomizations.get(on) else { return why("is not declared") };
        let Some(other_spec) = &other.spec else { return why("is not declared, or cannot be followed") };
        if !self.is_ready(&resource(on)) {
            return why("is not ready");
        }
        if other_spec.source == spec.source {
            let applied = self.records.get(&resource(on)).and_then(|record| record.status.get("lastAppliedRevision"));
            let newest = self.sources.get(&spec.source).and_then(|source| source.revision()).map(ToString::to_string);
            if applied.and_then(|revision| revision.as_str()) != newest.as_deref() {
                return why("is not ready at the newest revision");
            }
        }
        None
    }

    pub(super) fn tick_kustomizations(&mut self, now: Moment) {
        let due = |state: &KustomizationState| state.wake().is_some_and(|wake| wake <= now);
        let names: Vec<_> =
            self.kustomizations.iter().filter(|(_, state)| due(state)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(state) = self.kustomizations.get_mut(&name) else { continue };
            if state.drift.due.is_some_and(|due| due <= now) {
                state.drift.due = None;
                self.look_for_drift(&name, None);
            }
            let Some(state) = self.kustomizations.get_mut(&name) else { continue };
            if state.wake.is_some_and(|wake| wake <= now) {
                state.wake = None;
                self.step(&name, cycle::Event::Tick);
            }
            self.tick_health(&name, now);
        }
    }

    /// One step of a cycle, and its effects.
    pub(super) fn step(&mut self, name: &ResourceName, event: cycle::Event) {
        let clock = self.clock.for_cycle();
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let pace = state.pace();
        let (next, effects) = cycle::step(std::mem::take(&mut state.cycle), event, &pace, clock);
        state.cycle = next;
        for effect in effects {
            match effect {
                Effect::Build(cause) => self.begin(name, cause),
                Effect::Apply => self.apply(name),
                Effect::Watch { .. } => self.watch_health(name),
                Effect::Unwatch => self.unwatch_health(name),
                Effect::Conclude(outcome) => self.conclude(name, outcome),
                Effect::Rest(hold) => self.rest(name, &hold),
                Effect::Wake(moment) => {
                    if let Some(state) = self.kustomizations.get_mut(name) {
                        state.wake = Some(moment);
                    }
                }
                Effect::Finalize => self.finalize(name),
                Effect::Remove => self.remove(name),
            }
        }
    }

    /// Begins a run. What was built from the same snapshot and spec is not built again.
    fn begin(&mut self, name: &ResourceName, cause: Cause) {
        // Between the wish and its turn something may have come to speak against it.
        if let Some(hold) = self.hold(name) {
            self.step(name, cycle::Event::Held(hold));
            return self.step(name, cycle::Event::Failed { transient: false });
        }
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let (Some(spec), Some(digest)) = (state.spec.clone(), state.digest) else { return };
        let Some(source) = self.sources.get(&spec.source) else { return };
        let (Some(revision), Some(git)) = (source.revision().cloned(), source.spec()) else { return };
        let key = BuildKey { revision, spec: digest, source: source.digest() };
        state.run = Some(Current { cause, key: key.clone(), began: Instant::now(), started_at: Timestamp::now() });
        state.report = None;
        if let Some(wanted) = state.wanted.clone().filter(|wanted| wanted.key == key) {
            return self.built(name, Ok((wanted, None)));
        }
        let (shared, source, owner) = (self.shared.clone(), git.source.clone(), name.clone());
        self.say_progress(name, cause);
        self.answer(async move {
            let built = run::build(&shared, &spec, &source, &key).await;
            Event::Built(owner, built.map(|(wanted, manifests)| (wanted, Some(manifests))))
        });
    }

    pub(super) fn built(&mut self, name: &ResourceName, built: Built) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        match built {
            Ok((wanted, manifests)) => {
                if manifests.is_some() {
                    if !wanted.held_back.is_empty() {
                        tracing::info!(kustomization = %name, objects = wanted.held_back.len(), "components of Flux itself stand in Git; they are left to Flux");
                    }
                    self.shared.claims.borrow_mut().want(name, wanted.desired.keys());
                }
                if let Some(run) = &mut state.run {
                    // The source may have moved on since: what was built is what counts.
                    run.key = wanted.key.clone();
                }
                state.wanted = Some(wanted);
                state.manifests = manifests;
                self.step(name, cycle::Event::Built);
            }
            Err(error) => {
                let transient = error.is_transient();
                state.report = Some(Report { error: Some(error), ..Report::default() });
                self.step(name, cycle::Event::Failed { transient });
            }
        }
    }

    fn apply(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let (Some(spec), Some(wanted)) = (state.spec.clone(), state.wanted.clone()) else { return };
        let policy = Policy {
            prune: spec.prune,
            prune_limit: spec.prune_limit,
            prune_approved: spec.prune_approved.as_ref() == Some(&wanted.key.revision),
            complete: wanted.broken.is_empty(),
            force: spec.force,
            mode: spec.mode,
        };
        let source = self.sources.get(&spec.source).and_then(|source| source.spec()).map(|spec| spec.source.clone());
        let job = Job {
            shared: self.shared.clone(),
            kustomization: spec,
            source,
            wanted,
            manifests: state.manifests.take(),
            policy,
            inventory: std::mem::take(&mut state.inventory),
            versions: std::mem::take(&mut state.versions),
        };
        let owner = name.clone();
        self.answer(async move { Event::Reported(owner, Box::new(Reported::Run(job.run().await))) });
    }

    pub(super) fn reported(&mut self, name: &ResourceName, reported: Reported) {
        let vanishing = matches!(reported, Reported::Vanishing(_));
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let (mut report, last) = match reported {
            Reported::Run(report) => (report, false),
            Reported::Final(report) | Reported::Vanishing(report) => (report, true),
        };
        state.inventory = std::mem::take(&mut report.inventory);
        state.versions = std::mem::take(&mut report.versions);
        self.shared.claims.borrow_mut().have(name, state.inventory.keys());
        if vanishing {
            if let Some(declared) = self.declared.get(&resource(name)).cloned() {
                self.drop_finalizer(&declared);
            }
            return self.kustomization_vanished(name);
        }
        let broken = state.wanted.as_ref().is_some_and(|wanted| !wanted.broken.is_empty());
        let failed = report.error.is_some() || !report.failures.is_empty() || (broken && !last);
        let transient = report.is_transient();
        let waits = state.spec.as_ref().is_some_and(|spec| spec.waits() && spec.mode == Mode::Enforce);
        let gone = state.inventory.is_empty();
        state.report = Some(report);
        self.watch_live();
        self.step(
            name,
            match (last, failed) {
                (true, failed) => cycle::Event::Finalized { done: !failed && gone },
                (false, true) => cycle::Event::Failed { transient },
                (false, false) => cycle::Event::Applied { wait: waits },
            },
        );
    }

    /// Holds the watches' word on an object, or on all of a Kustomization's, against what was left; asks for a repair.
    pub(super) fn look_for_drift(&mut self, name: &ResourceName, object: Option<&ObjectId>) {
        let now = self.clock.now();
        let Some(state) = self.kustomizations.get(name) else { return };
        // While a run plans or applies, what is seen waits for its answer.
        if matches!(state.cycle.stage(), Some(cycle::Stage::Building | cycle::Stage::Applying)) || state.spec.is_none()
        {
            return;
        }
        let drifted = match object {
            Some(id) => self.is_suspect(state, id),
            None => state.inventory.keys().any(|id| self.is_suspect(state, id)),
        };
        if !drifted {
            return;
        }
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        if state.drift.last.is_some_and(|last| now.saturating_sub(last) > CALM) {
            state.drift.repairs = 0;
        }
        // The first repair is made at once. One that is undone again and again becomes slower: two who each believe to
        // be right must not keep the API server busy.
        let truce = match (state.drift.last, state.drift.repairs) {
            (Some(last), repairs @ 3..) => (last + backoff(repairs - 3, LONGEST_TRUCE, 1.0)).saturating_sub(now),
            _ => Duration::ZERO,
        };
        if truce > Duration::ZERO {
            state.drift.due = Some(now + truce);
            return;
        }
        state.drift.last = Some(now);
        state.drift.repairs += 1;
        self.admit(name, Cause::Drift);
    }

    fn is_suspect(&self, state: &KustomizationState, id: &ObjectId) -> bool {
        let Some(entry) = state.inventory.get(id) else { return false };
        let ours = state.versions.get(id).copied().unwrap_or(0);
        match self.shared.live.borrow().look(id) {
            Look::Seen(sighting) => {
                let same = entry.fingerprint.as_ref().is_some_and(|left| left.metadata == sighting.metadata);
                !same && sighting.version >= ours
            }
            Look::NotSeen(version) => version >= ours,
            Look::Blind(_) => false,
        }
    }

    /// Deals with the objects of a deleted Kustomization, as its deletion policy says.
    fn finalize(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let spec = state.spec.clone();
        let policy = spec.as_ref().map_or(DeletionPolicy::Orphan, |spec| spec.deletion_policy);
        let prune = match policy {
            DeletionPolicy::MirrorPrune => spec.as_ref().is_some_and(|spec| spec.prune),
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
            DeletionPolicy::Orphan => false,
        };
        let Some(spec) = spec.filter(|_| prune && !state.suspended) else {
            // Its objects stay; it is only forgotten who put them there.
            state.inventory.clear();
            return self.step(name, cycle::Event::Finalized { done: true });
        };
        let key = BuildKey {
            revision: wickie_model::Revision::new(None, wickie_model::Oid::from_bytes([0; 20])),
            spec: Digest::of(b""),
            source: Digest::of(b""),
        };
        let nothing = Wanted { key, desired: BTreeMap::new(), broken: Vec::new(), held_back: Vec::new() };
        let job = Job {
            shared: self.shared.clone(),
            kustomization: spec,
            source: None,
            wanted: Rc::new(nothing),
            manifests: None,
            policy: Policy {
                prune: true,
                prune_limit: None,
                // Whoever deletes the Kustomization has said so.
                prune_approved: true,
                complete: true,
                force: false,
                mode: Mode::Enforce,
            },
            inventory: std::mem::take(&mut state.inventory),
            versions: std::mem::take(&mut state.versions),
        };
        let owner = name.clone();
        let in_cluster = self.declared.get(&resource(name)).is_some_and(|declared| declared.origin == Origin::Cluster);
        self.answer(async move {
            let vanishing = match in_cluster {
                true => definition_is_going(&job.shared.cluster).await,
                false => Ok(false),
            };
            let Job { inventory, versions, .. } = &job;
            let untouched = || Report { inventory: inventory.clone(), versions: versions.clone(), ..Report::default() };
            let reported = match vanishing {
                Ok(false) => Reported::Final(job.run().await),
                Ok(true) => Reported::Vanishing(untouched()),
                Err(error) => Reported::Final(Report { error: Some(RunError::Look(error)), ..untouched() }),
            };
            Event::Reported(owner, Box::new(reported))
        });
    }

    /// A deleted Kustomization is done with.
    fn remove(&mut self, name: &ResourceName) {
        let resource = resource(name);
        self.kustomizations.remove(name);
        self.shared.claims.borrow_mut().want(name, []);
        self.shared.claims.borrow_mut().have(name, []);
        self.records.remove(&resource);
        self.batch.gone.push(resource.clone());
        if let Some(declared) = self.declared.remove(&resource).filter(|declared| declared.origin == Origin::Cluster) {
            self.drop_finalizer(&declared);
        }
        self.watch_live();
    }

    fn rest(&mut self, name: &ResourceName, hold: &Hold) {
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.settled = *hold != Hold::Starting;
            state.wake = None;
        }
        let (why, message, stalled) = match hold {
            // What was said before the start is still true.
            Hold::Starting => return,
            // Flux leaves the conditions of a suspended object as they are.
            Hold::Suspended => return self.answer_waiters(&resource(name)),
            // At every start the stored snapshot is loaded first: until the source was asked there is nothing to tell.
            Hold::Source(message) => (reason::ARTIFACT_FAILED, message.clone(), false),
            Hold::Dependency(message) => (reason::DEPENDENCY_NOT_READY, message.clone(), false),
            Hold::Invalid(message) => (reason::INVALID_SPEC, message.clone(), true),
        };
        let resource = resource(name);
        let before = self.records.get(&resource).map(|record| record.status.clone());
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| {
            conditions.set(condition_type::READY, ConditionStatus::False, why, message.clone(), generation, now);
            conditions.remove(condition_type::RECONCILING);
            if stalled {
                conditions.set(condition_type::STALLED, ConditionStatus::True, why, message.clone(), generation, now);
            }
        });
        if self.records.get(&resource).map(|record| &record.status) != before.as_ref() {
            let severity = match hold {
                // Flux reports a dependency that is waited for as information.
                Hold::Dependency(_) => wickie_model::Severity::Info,
                _ => wickie_model::Severity::Error,
            };
            self.say(&resource, super::records::Say { severity, reason: why, message, revision: None });
        }
        self.answer_waiters(&resource);
    }

    /// Whoever waits for this one may run now.
    fn wake_dependents(&mut self, name: &ResourceName) {
        let waiting = |state: &KustomizationState| {
            matches!(&state.cycle, cycle::State::Held(Hold::Dependency(_)))
                && state.spec.as_ref().is_some_and(|spec| spec.depends_on.contains(name))
        };
        let dependents: Vec<_> =
            self.kustomizations.iter().filter(|(_, state)| waiting(state)).map(|(name, _)| name.clone()).collect();
        dependents.iter().for_each(|name| self.admit(name, Cause::Dependency));
    }
}

/// Whether the Kustomizations' CRD is being deleted, or is gone: its objects are deleted with it then.
async fn definition_is_going(cluster: &Cluster) -> Result<bool, ApiError> {
    let kind = ResourceKind::Kustomization;
    let definitions =
        Kind::new(Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"), "customresourcedefinitions", false);
    let id = ObjectId {
        group: "apiextensions.k8s.io".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        namespace: String::new(),
        name: format!("{}.{}", kind.plural(), kind.group()),
    };
    let found = cluster.get(&definitions, &id).await?;
    Ok(found.is_none_or(|crd| crd.pointer("/metadata/deletionTimestamp").is_some()))
}
