//! Waiting for health: of the Kustomization's own objects by the watches, of others by asking.
//!
//! As in Flux, one that has failed for good ends the wait at once. A failure that was there, in the same words, before we
//! wrote the object is none: a Deployment says that its old rollout timed out until the new one makes progress, for that
//! matter, and what was mended or put back must not be given up over it.
//! Source: fluxcd/pkg, `ssa/manager_wait.go`, `FailFast`; Kubernetes, `DeploymentTimedOut`.

use std::collections::BTreeMap;
use std::time::Duration;

use wickie_model::{Ending, Gvk, Health, ObjectId, ResourceName, Verdict};
use wickie_plan::Mode;
use wickie_plan::cycle::{self, Cause, Moment, Remedy};

use super::KustomizationState;
use crate::cluster::Class;
use crate::config::HealthCheck;
use crate::drive::live::Look;
use crate::drive::{Drive, Event};

/// How often objects without our labels are asked for.
const ASK: Duration = Duration::from_secs(2);

/// The verdicts on objects that are asked for one by one.
pub(in crate::drive) type Foreign = BTreeMap<ObjectId, Verdict>;

/// Failures that say nothing yet of what was written last.
#[derive(Default)]
pub(super) struct Stale {
    /// Objects that had failed when the run began to apply, and what was said of each.
    before: BTreeMap<ObjectId, String>,
    /// Objects that a run has written after they had failed, and what was said of each then.
    written: BTreeMap<ObjectId, String>,
}

impl Stale {
    /// A run is about to apply, and this is how its objects stand. One that is under way may yet say what it said before:
    /// a controller tells that it has seen the newest generation before it tells anything new.
    fn note<'a>(&mut self, seen: impl Iterator<Item = (&'a ObjectId, &'a Verdict)>) {
        self.before.clear();
        for (id, verdict) in seen {
            let said = &verdict.message;
            let news = match verdict.health {
                Health::Current => true,
                Health::Failed => self.written.get(id).is_some_and(|before| before != said),
                Health::InProgress | Health::NotFound | Health::Terminating => false,
            };
            if news {
                self.written.remove(id);
            }
            if verdict.health == Health::Failed {
                self.before.insert(id.clone(), said.clone());
            }
        }
    }

    /// The run has written these.
    pub(super) fn wrote(&mut self, objects: &[ObjectId]) {
        let Self { before, written } = self;
        written.extend(objects.iter().filter_map(|id| before.remove_entry(id)));
    }

    /// All is well.
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn holds(&self, id: &ObjectId, said: &str) -> bool {
        self.written.get(id).is_some_and(|stale| stale == said)
    }
}

/// What is waited for.
pub(in crate::drive) struct Watching {
    /// What has failed for good, and ended the wait.
    failed: Vec<(ObjectId, Verdict)>,
    /// What was not healthy when it was looked at last.
    pending: Vec<ObjectId>,
    foreign: Foreign,
    /// When the foreign ones are asked again; nothing where there are none, or while they are.
    due: Option<Moment>,
}

impl Watching {
    pub(in crate::drive) fn wake(&self) -> Option<Moment> {
        self.due
    }
}

impl KustomizationState {
    /// Whether it is up to it to make its objects healthy.
    pub(super) fn judges_health(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.mode == Mode::Enforce)
    }

    /// What has failed for good, and so ended the last wait.
    pub(super) fn failed_early(&self) -> &[(ObjectId, Verdict)] {
        self.watching.as_ref().map_or(&[], |watching| &watching.failed)
    }

    /// Objects of health checks that are not the Kustomization's own.
    fn foreign_checks(&self) -> Vec<HealthCheck> {
        let checks = self.spec.iter().flat_map(|spec| &spec.health_checks);
        checks.filter(|check| !self.inventory.contains_key(&check.id)).cloned().collect()
    }
}

impl Drive {
    /// A kind of this cluster is seen again, and perhaps nothing of it has changed.
    pub(in crate::drive) fn look_again_at_health(&mut self, serial: u64) {
        let waiting =
            |state: &KustomizationState| state.is_for(serial) && state.cycle.stage() == Some(cycle::Stage::Waiting);
        let names: Vec<_> =
            self.kustomizations.iter().filter(|(_, state)| waiting(state)).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.look_at_health(name, None));
    }

    /// What is asked for one by one: objects that are not the Kustomization's own, and those of kinds that may not be listed.
    fn asked(&self, state: &KustomizationState) -> Vec<HealthCheck> {
        let mut asked = state.foreign_checks();
        let (Some(spec), Ok(target)) = (&state.spec, self.target(state)) else { return asked };
        let live = target.live.borrow();
        let own = state.inventory.iter();
        let own = own.filter(|(id, _)| (spec.wait || state.checks(id)) && is_unlisted(&live.look(id)));
        asked.extend(own.map(|(id, entry)| {
            let gvk = Gvk { group: id.group.clone(), version: entry.version.clone(), kind: id.kind.clone() };
            HealthCheck { gvk, id: id.clone() }
        }));
        asked
    }

    /// A kind of this cluster may not be listed: whoever waits for objects of it asks for each.
    pub(in crate::drive) fn ask_for_unlisted(&mut self, serial: u64) {
        let now = self.clock.now();
        for state in self.kustomizations.values_mut().filter(|state| state.is_for(serial)) {
            if state.cycle.stage() == Some(cycle::Stage::Waiting)
                && let Some(watching) = &mut state.watching
            {
                watching.due = watching.due.or(Some(now));
            }
        }
    }

    pub(super) fn watch_health(&mut self, name: &ResourceName) {
        let now = self.clock.now();
        let Some(state) = self.kustomizations.get(name) else { return };
        let foreign = !self.asked(state).is_empty();
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let (due, foreign) = (foreign.then_some(now), Foreign::new());
        state.watching = Some(Box::new(Watching { failed: Vec::new(), pending: Vec::new(), foreign, due }));
        self.look_at_health(name, None);
    }

    pub(super) fn unwatch_health(&mut self, name: &ResourceName) {
        // The verdicts stay for the message that says what was not healthy.
        if let Some(watching) = self.kustomizations.get_mut(name).and_then(|state| state.watching.as_mut()) {
            watching.due = None;
            watching.pending = Vec::new();
        }
    }

    pub(super) fn tick_health(&mut self, name: &ResourceName, now: Moment) {
        let Some(state) = self.kustomizations.get(name) else { return };
        if state.watching.as_ref().and_then(|watching| watching.due).is_none_or(|due| due > now) {
            return;
        }
        let checks = self.asked(state);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let Some(watching) = &mut state.watching else { return };
        watching.due = None;
        let owner = name.clone();
        let rules = state.spec.as_ref().map(|spec| spec.health_rules.clone()).unwrap_or_default();
        let Some(state) = self.kustomizations.get(name) else { return };
        let target = self.target(state).cloned().map_err(ToString::to_string);
        self.answer(async move {
            let mut verdicts = Foreign::new();
            let cluster = match target {
                Ok(target) => target.cluster,
                Err(why) => {
                    let verdict = Verdict::new(Health::InProgress, why);
                    return Event::Health(owner, checks.into_iter().map(|check| (check.id, verdict.clone())).collect());
                }
            };
            for check in checks {
                let read = async { cluster.get(&cluster.kind(&check.gvk).await?, &check.id).await };
                let verdict = match read.await {
                    Ok(Some(object)) => rules.health(&check.id.group, &check.id.kind, &object),
                    Ok(None) => Verdict::new(Health::NotFound, "it is not there"),
                    Err(error) => Verdict::new(Health::InProgress, error.to_string()),
                };
                verdicts.insert(check.id, verdict);
            }
            Event::Health(owner, verdicts)
        });
    }

    pub(in crate::drive) fn foreign_health(&mut self, name: &ResourceName, foreign: Foreign) {
        let now = self.clock.now();
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let waiting = state.cycle.stage() == Some(cycle::Stage::Waiting);
        if let Some(watching) = &mut state.watching {
            watching.foreign = foreign;
            watching.due = waiting.then_some(now + ASK);
        }
        self.look_at_health(name, None);
    }

    /// Ends the wait when all that is waited for is healthy. Where news is of one object alone, no other that was healthy
    /// is looked at for it: a thousand that become healthy one after the other would be a million looks.
    pub(in crate::drive) fn look_at_health(&mut self, name: &ResourceName, object: Option<&ObjectId>) {
        let Some(state) = self.kustomizations.get(name) else { return };
        if state.cycle.stage() == Some(cycle::Stage::Waiting) {
            let mut unhealthy = object.map_or_else(Vec::new, |object| self.still_unhealthy(state, object));
            if unhealthy.is_empty() {
                unhealthy = self.unhealthy(state);
            }
            if unhealthy.is_empty() {
                if let Some(state) = self.kustomizations.get_mut(name) {
                    state.stale.clear();
                }
                return self.step(name, cycle::Event::Healthy);
            }
            let pending = unhealthy.iter().map(|(id, _)| id.clone()).collect();
            unhealthy.retain(|(id, verdict)| {
                let failed = verdict.health == Health::Failed && self.is_after_ours(state, id);
                failed && !state.stale.holds(id, &verdict.message)
            });
            let failed = !unhealthy.is_empty();
            if let Some(watching) = self.kustomizations.get_mut(name).and_then(|state| state.watching.as_mut()) {
                watching.pending = pending;
                if failed {
                    watching.failed = unhealthy;
                }
            }
            if failed {
                self.step(name, cycle::Event::Unhealthy);
            }
            return;
        }
        // What was given up may get there after all.
        let idle = matches!(state.cycle, cycle::State::Idle { .. });
        if idle && self.is_stopped(name) && self.unhealthy(state).is_empty() {
            self.admit(name, Cause::Dependency);
        }
    }

    /// A run is about to apply: what has failed by now says nothing of what it writes.
    pub(super) fn note_failed(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get(name) else { return };
        if !state.spec.as_ref().is_some_and(|spec| spec.waits()) {
            return;
        }
        let (inventory, Ok(target)) = (state.inventory.clone(), self.target(state)) else { return };
        let live = target.live.clone();
        let live = live.borrow();
        let seen = inventory.keys().filter_map(|id| match live.look(id) {
            Look::Seen(seen) => Some((id, seen.verdict.as_ref()?)),
            Look::NotSeen(_) | Look::Blind(_) => None,
        });
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.stale.note(seen);
        }
    }

    /// Whether somebody else has written the object since we did; one that is asked for was read since.
    fn is_after_ours(&self, state: &KustomizationState, id: &ObjectId) -> bool {
        let Ok(target) = self.target(state) else { return false };
        let ours = state.versions.get(id).copied().unwrap_or(0);
        !matches!(target.live.borrow().look(id), Look::Seen(seen) if seen.version <= ours)
    }

    /// Whether its newest revision was given up, and stays.
    pub(super) fn is_stopped(&self, name: &ResourceName) -> bool {
        self.against(name).is_some_and(|trial| trial.ending == Ending::Stopped)
    }

    /// Whether it waits for the health of a new revision and the cluster cannot be seen: nothing is held against a
    /// revision that is not shown by the cluster itself.
    pub(super) fn is_blind(&self, name: &ResourceName) -> bool {
        let Some(state) = self.kustomizations.get(name) else { return false };
        let waits = state.cycle.stage() == Some(cycle::Stage::Waiting) && state.remedy() != Remedy::Retry;
        let Ok(target) = self.target(state) else { return waits };
        let away = || target.reachable.borrow().live().is_some_and(|cluster| !cluster.reachable);
        // After an outage each kind is seen again at a moment of its own.
        let live = target.live.borrow();
        let unseen = |id: &ObjectId| match live.look(id) {
            Look::Blind(error) => error.is_none_or(|error| error.class.is_transient()),
            Look::Seen(_) | Look::NotSeen(_) => false,
        };
        waits && (away() || self.unhealthy(state).iter().any(|(id, _)| state.inventory.contains_key(id) && unseen(id)))
    }

    /// The objects that are waited for and are not healthy, each with the reason.
    pub(in crate::drive) fn unhealthy(&self, state: &KustomizationState) -> Vec<(ObjectId, Verdict)> {
        let Some(spec) = &state.spec else { return Vec::new() };
        let all = state.inventory.keys().filter(|_| spec.wait).map(|id| (id, true));
        let checked = spec.health_checks.iter().map(|check| (&check.id, state.inventory.contains_key(&check.id)));
        self.unhealthy_of(state, all.chain(checked.filter(|(_, own)| !(spec.wait && *own))))
    }

    /// Those that were not healthy and still are not, and `object` if it is waited for and not healthy.
    fn still_unhealthy(&self, state: &KustomizationState, object: &ObjectId) -> Vec<(ObjectId, Verdict)> {
        let pending = state.watching.iter().flat_map(|watching| &watching.pending).filter(|id| *id != object);
        let waits = state.waits_for_all() || state.checks(object);
        let object = Some(object).filter(|object| waits && state.inventory.contains_key(object));
        self.unhealthy_of(state, pending.chain(object).map(|id| (id, state.inventory.contains_key(id))))
    }

    /// Those of some objects that are not healthy; each is said to be the Kustomization's own or not.
    fn unhealthy_of<'a>(
        &self,
        state: &KustomizationState,
        objects: impl Iterator<Item = (&'a ObjectId, bool)>,
    ) -> Vec<(ObjectId, Verdict)> {
        let target = self.target(state);
        let live = target.map(|target| target.live.borrow());
        // Most are healthy: of those nothing is copied.
        let unless_healthy = |seen: Option<&Verdict>, otherwise: &str| match seen {
            Some(verdict) if verdict.health == Health::Current => None,
            Some(verdict) => Some(verdict.clone()),
            None => Some(Verdict::new(Health::InProgress, otherwise)),
        };
        let foreign = |id: &ObjectId| {
            let seen = state.watching.as_ref().and_then(|watching| watching.foreign.get(id));
            unless_healthy(seen, "it was not asked for yet")
        };
        let own = |id: &ObjectId| {
            let ours = state.versions.get(id).copied().unwrap_or(0);
            let live = match &live {
                Ok(live) => live,
                Err(why) => return Some(Verdict::new(Health::InProgress, why.to_string())),
            };
            match live.look(id) {
                look if is_unlisted(&look) => foreign(id),
                Look::Seen(seen) if seen.version >= ours => {
                    unless_healthy(seen.verdict.as_ref(), "its health is not seen yet")
                }
                Look::Seen(_) | Look::NotSeen(_) => unless_healthy(None, "it is not seen yet"),
                Look::Blind(None) => unless_healthy(None, "its kind is not seen yet"),
                Look::Blind(Some(error)) => unless_healthy(None, &error.to_string()),
            }
        };
        let verdict = |(id, is_own): (&ObjectId, bool)| if is_own { own(id) } else { foreign(id) };
        objects.filter_map(|object| Some((object.0.clone(), verdict(object)?))).collect()
    }
}

/// Whether objects of the kind may not be listed, though perhaps read.
fn is_unlisted(look: &Look<'_>) -> bool {
    matches!(look, Look::Blind(Some(error)) if error.class == Class::Forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectId {
        let text = |text: &str| text.to_owned();
        ObjectId::new(text("apps"), text("Deployment"), text("shop"), text(name))
    }

    #[test]
    fn a_failure_from_before_our_write_says_nothing_until_it_changes() {
        let (till, other) = (object("till"), object("other"));
        let verdict = |health, said: &str| Verdict::new(health, said);
        let (old, new) = (verdict(Health::Failed, "old"), verdict(Health::Failed, "new"));
        let (under_way, fine) = (verdict(Health::InProgress, ""), verdict(Health::Current, ""));
        let written = || {
            let mut stale = Stale::default();
            stale.note([(&till, &old), (&other, &old)].into_iter());
            stale.wrote(std::slice::from_ref(&till));
            stale
        };
        let stale = written();
        assert!(stale.holds(&till, "old") && !stale.holds(&till, "new") && !stale.holds(&other, "old"));
        // A run in between that has nothing to write makes it no news, seen as it was or under way.
        for verdict in [&old, &under_way] {
            let mut stale = written();
            stale.note([(&till, verdict), (&other, &old)].into_iter());
            stale.wrote(&[]);
            assert!(stale.holds(&till, "old") && !stale.holds(&other, "old"), "{verdict:?}");
        }
        // What was fine in between, or failed otherwise, has failed anew.
        for verdict in [&fine, &new] {
            let mut stale = written();
            stale.note([(&till, verdict)].into_iter());
            stale.wrote(&[]);
            assert!(!stale.holds(&till, "old"), "{verdict:?}");
        }
    }
}
