//! Kustomizations: their cycles, and the effects that a step of a cycle asks for.

mod course;
mod declared;
mod drift;
mod finalize;
mod health;
mod hold;
mod outcome;
mod peers;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use wickie_model::{Digest, Inventory, Manifest, ObjectId, Resource, ResourceKind, ResourceName};
use wickie_plan::Policy;
use wickie_plan::course::Course;
use wickie_plan::cycle::{self, Cause, Effect, Moment, Pace, Remedy};

use super::run::{self, BuildKey, Job, Report, RunError, Wanted};
use super::{Drive, Event};
use crate::config::Kustomization;
use crate::render::Inputs;

pub(super) use health::Foreign;

use drift::Drift;

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
    /// What it was built with.
    inputs: Rc<Inputs>,
    /// The manifests, between their build and their plan.
    manifests: Option<Rc<BTreeMap<ObjectId, Manifest>>>,
    run: Option<Current>,
    report: Option<Report>,
    /// Health is waited for; foreign objects by their last verdict.
    watching: Option<health::Watching>,
    drift: Drift,
    /// Deletions that wait for what others want.
    deferred: Option<peers::Deferred>,
    /// What was built, or is being built, while it has to wait.
    ahead: Option<BuildKey>,
    /// What became of the revisions that it took.
    pub(super) course: Course,
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
            inputs: Rc::default(),
            manifests: None,
            run: None,
            report: None,
            watching: None,
            drift: Drift::default(),
            deferred: None,
            ahead: None,
            course: Course::default(),
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
        self.spec.is_none() || (self.settled && !self.cycle.is_busy())
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

    pub(super) fn cycle(&self) -> &cycle::State {
        &self.cycle
    }

    fn pace(&self) -> Pace {
        let default = Duration::from_secs(60);
        let remedy = self.remedy();
        let unknown = Pace { interval: default, retry: default, timeout: default, remedy: Remedy::Retry };
        self.spec.as_ref().map_or(unknown, |spec| Pace {
            interval: spec.interval,
            retry: spec.retry_interval,
            timeout: spec.timeout,
            remedy,
        })
    }
}

pub(super) fn resource(name: &ResourceName) -> Resource {
    Resource::new(ResourceKind::Kustomization, name.clone())
}

impl Drive {
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
                let event = if self.is_blind(&name) { cycle::Event::Blind } else { cycle::Event::Tick };
                self.step(&name, event);
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
                Effect::Condemn(remedy, outcome) => self.condemn(name, remedy, outcome),
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

    /// Begins a run. What was built from the same files, spec and values is not built again.
    fn begin(&mut self, name: &ResourceName, cause: Cause) {
        // Between the wish and its turn something may have come to speak against it.
        if let Some(hold) = self.hold(name) {
            self.step(name, cycle::Event::Held(hold));
            return self.step(name, cycle::Event::Failed { transient: false, halfway: false });
        }
        self.free_condemned(name);
        let Some(key) = self.build_key(name) else { return };
        self.trial_begins(name, &key.revision);
        let Some(spec) = self.kustomizations.get(name).and_then(|state| state.spec.clone()) else { return };
        let Some(git) = self.git_source(&spec.source) else { return };
        let inputs = self.inputs_of(name, &spec).map(Rc::new);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        state.run = Some(Current { cause, key: key.clone(), began: Instant::now(), started_at: Timestamp::now() });
        state.report = None;
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(trouble) => return self.built(name, &key, Err(trouble.into())),
        };
        state.inputs = inputs.clone();
        if let Some(wanted) = state.wanted.clone().filter(|wanted| wanted.key == key) {
            return self.built(name, &key, Ok((wanted, None)));
        }
        let (shared, source, owner) = (self.shared.clone(), git, name.clone());
        let before = state.wanted.clone();
        self.say_progress(name, cause);
        self.answer(async move {
            if let Some(before) = before {
                match run::unchanged(&shared, &source, &before, &key).await {
                    Ok(None) => {}
                    Ok(Some(wanted)) => return Event::Built(owner, key, Ok((wanted, None))),
                    Err(error) => return Event::Built(owner, key, Err(error)),
                }
            }
            let built = run::build(&shared, &spec, &inputs, &source, &key).await;
            Event::Built(owner, key, built.map(|(wanted, manifests)| (wanted, Some(manifests))))
        });
    }

    pub(super) fn built(&mut self, name: &ResourceName, key: &BuildKey, built: Built) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let building = state.cycle.stage() == Some(cycle::Stage::Building);
        if !building || state.run.as_ref().is_none_or(|run| run.key != *key) {
            return self.built_ahead(name, key, built);
        }
        match built {
            Ok((wanted, manifests)) => {
                // What was built ahead was only meant until now.
                if manifests.is_some() || state.ahead.take().is_some() {
                    if !wanted.held_back.is_empty() {
                        tracing::info!(kustomization = %name, objects = wanted.held_back.len(), "components of Flux itself stand in Git; they are left to Flux");
                    }
                    self.shared.claims.borrow_mut().want(name, wanted.desired.keys());
                }
                state.wanted = Some(wanted);
                state.manifests = manifests;
                self.step(name, cycle::Event::Built);
                self.peer_built(name);
            }
            Err(error) => {
                let transient = error.is_transient();
                state.report = Some(Report { error: Some(error), ..Report::default() });
                self.step(name, cycle::Event::Failed { transient, halfway: false });
            }
        }
    }

    fn apply(&mut self, name: &ResourceName) {
        let awaited = self.awaited(name);
        let undo = self.against(name).is_some_and(|trial| trial.instead.is_some());
        let Some(state) = self.kustomizations.get(name) else { return };
        let (Some(spec), Some(wanted)) = (state.spec.clone(), state.wanted.clone()) else { return };
        let source = self.git_source(&spec.source);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let policy = Policy {
            prune: spec.prune,
            prune_limit: spec.prune_limit,
            prune_approved: spec.prune_approved.as_ref() == Some(&wanted.key.revision),
            undo,
            awaited,
            complete: wanted.broken.is_empty(),
            force: spec.force,
            mode: spec.mode,
        };
        let job = Job {
            shared: self.shared.clone(),
            kustomization: spec,
            inputs: state.inputs.clone(),
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
        let halfway = report.error.is_none();
        let waits = state.spec.as_ref().is_some_and(|spec| spec.waits()) && state.judges_health();
        let gone = state.inventory.is_empty();
        state.report = Some(report);
        self.watch_live();
        let waits = waits && !self.is_stopped(name);
        let deferred = self.deferred_until(name);
        self.step(
            name,
            match (last, failed) {
                (true, failed) => cycle::Event::Finalized { done: !failed && gone },
                (false, true) => cycle::Event::Failed { transient, halfway },
                (false, false) => match deferred {
                    Some(until) => cycle::Event::Deferred { until },
                    None => cycle::Event::Applied { wait: waits },
                },
            },
        );
    }
}
