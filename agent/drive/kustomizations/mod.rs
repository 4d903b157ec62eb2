//! Kustomizations: their cycles, and the effects that a step of a cycle asks for.

mod course;
mod declared;
mod dependencies;
mod drift;
mod finalize;
mod health;
mod hold;
mod outcome;
mod peers;
mod state;
mod window;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use jiff::Timestamp;
use wickie_model::{Resource, ResourceKind, ResourceName};
use wickie_plan::cycle::{self, Cause, Effect, Moment, Pace};
use wickie_plan::{Extent, Policy};

use super::run::{self, BuildKey, Job, Report, Restored, RunError, Wanted};
use super::targets::Target;
use super::{Drive, Event};
use crate::chain::chain;
use crate::config::Declared;

pub(super) use health::Foreign;
pub(super) use state::KustomizationState;

use state::Current;

/// What a build gave, and whether it was made for this run.
pub(super) type Built = Result<(Rc<Wanted>, bool), RunError>;

/// What became of a plan.
pub(super) enum Reported {
    /// A run's.
    Run(Report),
    /// That of a deleted Kustomization; with what stands in the way, if anything does.
    Final(Report),
    /// The Kustomization is deleted because its CRD is: that is no order to delete anything.
    Vanishing(Report),
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

    /// It is handed back: nothing of it is done any more.
    pub(super) fn let_go(&mut self, name: &ResourceName) {
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.suspended = true;
            (state.waiting, state.kept) = (None, None);
            state.left.clear();
        }
    }

    /// It is taken up again: what it had stands in its status.
    pub(super) fn take_up(&mut self, declared: &Declared) {
        let name = &declared.resource.name;
        if self.kustomizations.get(name).is_some_and(|state| state.inventory.is_empty()) {
            let inventory = self.inventory_in_status(declared);
            if let Some(state) = self.kustomizations.get_mut(name) {
                state.inventory = Rc::new(inventory);
            }
        }
        self.hold_on_to(declared);
    }

    /// One step of a cycle, and its effects.
    pub(super) fn step(&mut self, name: &ResourceName, event: cycle::Event) {
        let clock = self.clock.for_cycle();
        let gate = self.gate(name);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let pace = Pace { gate, ..state.pace() };
        let (next, mut effects) = cycle::step(std::mem::take(&mut state.cycle), event, &pace, clock);
        state.cycle = next;
        // What is done may bring the next step at once, and then it is that one's wake that counts.
        effects.sort_by_key(|effect| !matches!(effect, Effect::Wake(_)));
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
                Effect::Withhold => self.withhold_end(name),
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
        let Some(window::Basis { key, spec, inputs, keeps }) = self.basis(name) else { return };
        let extent = self.kustomizations.get(name).map(|state| state.cycle.extent()).unwrap_or_default();
        if extent == Extent::All && !keeps {
            self.trial_begins(name, &key.revision);
        }
        let Some(git) = self.shared_source(&spec.source) else { return };
        let inputs = inputs.map_or_else(|| self.inputs_of(name, &spec).map(Rc::new), Ok);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        state.run = Some(Box::new(Current {
            cause,
            key: key.clone(),
            spec: spec.clone(),
            extent,
            keeps,
            began: Instant::now(),
            started_at: Timestamp::now(),
        }));
        state.report = None;
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(trouble) => return self.built(name, &key, Err(trouble.into())),
        };
        state.inputs = inputs.clone();
        let newer = state.waiting.as_ref().and_then(|waiting| waiting.wanted.clone());
        let before = state.wanted.clone();
        self.say_progress(name, cause);
        if let Some(wanted) = [before.clone(), newer].into_iter().flatten().find(|wanted| wanted.key == key) {
            return self.built(name, &key, Ok((wanted, false)));
        }
        let (shared, source, owner) = (self.shared.clone(), git, name.clone());
        self.answer(async move {
            let built = run::wanted(&shared, &spec, &inputs, &source, &key, before.as_deref()).await;
            Event::Built(owner, key, built)
        });
    }

    pub(super) fn built(&mut self, name: &ResourceName, key: &BuildKey, built: Built) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let building = state.cycle.stage() == Some(cycle::Stage::Building);
        if !building || state.run.as_ref().is_none_or(|run| run.key != *key) {
            return self.built_ahead(name, key, built);
        }
        match built {
            Ok((wanted, anew)) => {
                // What was built ahead was only meant until now.
                if anew && !wanted.held_back.is_empty() {
                    tracing::info!(kustomization = %name, objects = wanted.held_back.len(), "components of Flux itself stand in Git; they are left to Flux");
                }
                let anew = anew || state.ahead.take().is_some();
                let anew = anew || state.wanted.as_ref().is_none_or(|before| !Rc::ptr_eq(before, &wanted));
                state.wanted = Some(wanted.clone());
                if anew {
                    self.claim(name, &wanted);
                }
                self.step(name, cycle::Event::Built);
                self.peer_built(name);
            }
            Err(error) => {
                let transient = error.is_transient();
                let looks = state.run.as_ref().is_some_and(|run| run.extent != Extent::All && !run.keeps);
                if looks && !transient {
                    self.unbuildable(name, key.clone(), chain(&error));
                    return self.step(name, cycle::Event::Withheld);
                }
                state.report = Some(Box::new(Report { error: Some(error), ..Report::default() }));
                self.step(name, cycle::Event::Failed { transient, halfway: false });
            }
        }
    }

    fn apply(&mut self, name: &ResourceName) {
        let extent = self.kustomizations.get(name).map(|state| state.cycle.extent()).unwrap_or_default();
        // While the window is shut nothing is deleted, so nothing has to wait for others.
        let awaited = if extent == Extent::All { self.awaited(name) } else { None };
        let undo = self.against(name).is_some_and(|trial| trial.instead.is_some());
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let (Some(run), Some(wanted)) = (&mut state.run, state.wanted.clone()) else { return };
        run.extent = extent;
        let spec = run.spec.clone();
        // A cluster that no agent of this home has worked in before holds nothing to look for, and a store that was there
        // from the start knows it all: what is to be applied is written down before it is.
        let knew = self.cluster_floors.knew(&spec.source) == Some(true);
        let others = self.role.after_others();
        let remembered = self.remembered.contains(&spec.source);
        // What the cluster says of that was set back with it.
        let knew = if self.anew { remembered } else { knew && (others || !remembered) };
        let Some(target) = self.target_or_report(name, Reported::Run) else { return };
        self.note_failed(name);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let search = state.search && knew;
        let policy = Policy {
            prune: spec.prune,
            prune_limit: spec.prune_limit,
            prune_approved: spec.prune_approved.as_ref() == Some(&wanted.key.revision),
            undo,
            awaited,
            complete: wanted.broken.is_empty(),
            force: spec.force,
            mode: spec.mode,
            extent,
        };
        let job = Box::new(Job {
            shared: self.shared.clone(),
            target,
            kustomization: spec,
            wanted,
            policy,
            inventory: state.inventory.clone(),
            search,
            restored: match (self.anew, state.looked) {
                (false, _) => Restored::No,
                (true, false) => Restored::Unread,
                (true, true) => Restored::Read,
            },
            versions: std::mem::take(&mut state.versions),
            rested: state.rested.take(),
        });
        let owner = name.clone();
        self.answer(async move { Event::Reported(owner, Box::new(Reported::Run(job.run().await))) });
    }

    /// The cluster that a run is for; where there is no way to it, that is what the run reports.
    fn target_or_report(&self, name: &ResourceName, reported: fn(Report) -> Reported) -> Option<Target> {
        let state = self.kustomizations.get(name)?;
        let error = match self.target(state) {
            Ok(target) => return Some(target.clone()),
            Err(why) => Some(RunError::Target(why.clone())),
        };
        let reported = Box::new(reported(Report { error, inventory: state.inventory.clone(), ..Report::default() }));
        let owner = name.clone();
        self.answer(async move { Event::Reported(owner, reported) });
        None
    }

    pub(super) fn reported(&mut self, name: &ResourceName, reported: Reported) {
        let vanishing = matches!(reported, Reported::Vanishing(_));
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let (mut report, last) = match reported {
            Reported::Run(report) => (report, false),
            Reported::Final(report) | Reported::Vanishing(report) => (report, true),
        };
        if let Some(RunError::SetBack(which)) = &report.error {
            return self.was_set_back(which);
        }
        state.looked |= report.error.is_none() && !last;
        let before = std::mem::replace(&mut state.inventory, std::mem::take(&mut report.inventory));
        // Most runs find all as it was: then there is nothing else to watch.
        let changed = !Rc::ptr_eq(&before, &state.inventory);
        self.live_stale |= changed;
        state.search &= !report.searched;
        state.stale.wrote(&report.written);
        // What was written over a connection that is given up says nothing of what the new one leads to.
        state.versions =
            if state.is_for(report.target) { std::mem::take(&mut report.versions) } else { HashMap::new() };
        state.rested = report.rested.take();
        if changed {
            self.shared.claims.borrow_mut().have(name, state.inventory.keys());
        }
        if vanishing {
            if let Some(declared) = self.declared.get(&resource(name)).cloned() {
                self.drop_finalizer(&declared);
            }
            return self.kustomization_vanished(name);
        }
        let broken = state.wanted.as_ref().is_some_and(|wanted| !wanted.broken.is_empty());
        // What is only looked at fails nothing: what was applied is kept up, and the status says both.
        let looks = state.run.as_ref().is_some_and(|run| run.extent != Extent::All && !run.keeps);
        let failed = report.error.is_some() || !report.failures.is_empty() || (broken && !last && !looks);
        let transient = report.is_transient();
        let halfway = report.error.is_none();
        let waits = state.spec.as_ref().is_some_and(|spec| spec.waits()) && state.judges_health();
        let gone = state.inventory.is_empty();
        let withheld = !last && self.note_withheld(name, &report);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        state.report = Some(Box::new(report));
        if last && failed {
            self.say_unfinished(name);
        }
        let waits = waits && !self.is_stopped(name);
        let deferred = self.deferred_until(name);
        self.step(
            name,
            match (last, failed) {
                (true, failed) => cycle::Event::Finalized { done: !failed && gone },
                (false, true) => cycle::Event::Failed { transient, halfway },
                (false, false) if withheld => cycle::Event::Withheld,
                (false, false) => match deferred {
                    Some(until) => cycle::Event::Deferred { until },
                    None => cycle::Event::Applied { wait: waits },
                },
            },
        );
    }
}
