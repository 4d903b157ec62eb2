//! Waiting for health: of the Kustomization's own objects by the watches, of others by asking.

use std::collections::BTreeMap;
use std::time::Duration;

use wickie_model::{Ending, Health, ObjectId, ResourceName, Verdict};
use wickie_plan::cycle::{self, Cause, Moment, Remedy};
use wickie_plan::{Mode, health};

use super::KustomizationState;
use crate::config::HealthCheck;
use crate::drive::live::Look;
use crate::drive::{Drive, Event};

/// How often objects without our labels are asked for.
const ASK: Duration = Duration::from_secs(2);

/// The verdicts on objects that carry no label of ours.
pub(in crate::drive) type Foreign = BTreeMap<ObjectId, Verdict>;

/// What is waited for.
pub(in crate::drive) struct Watching {
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

    /// Objects of health checks that are not the Kustomization's own.
    fn foreign_checks(&self) -> Vec<HealthCheck> {
        let checks = self.spec.iter().flat_map(|spec| &spec.health_checks);
        checks.filter(|check| !self.inventory.contains_key(&check.id)).cloned().collect()
    }
}

impl Drive {
    pub(super) fn watch_health(&mut self, name: &ResourceName) {
        let now = self.clock.now();
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let foreign = !state.foreign_checks().is_empty();
        state.watching = Some(Watching { foreign: Foreign::new(), due: foreign.then_some(now) });
        self.look_at_health(name);
    }

    pub(super) fn unwatch_health(&mut self, name: &ResourceName) {
        // The verdicts stay for the message that says what was not healthy.
        if let Some(watching) = self.kustomizations.get_mut(name).and_then(|state| state.watching.as_mut()) {
            watching.due = None;
        }
    }

    pub(super) fn tick_health(&mut self, name: &ResourceName, now: Moment) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let checks = state.foreign_checks();
        let Some(watching) = state.watching.as_mut().filter(|watching| watching.due.is_some_and(|due| due <= now))
        else {
            return;
        };
        watching.due = None;
        let (cluster, owner) = (self.shared.cluster.clone(), name.clone());
        self.answer(async move {
            let mut verdicts = Foreign::new();
            for check in checks {
                let read = async { cluster.get(&cluster.kind(&check.gvk).await?, &check.id).await };
                let verdict = match read.await {
                    Ok(Some(object)) => health::health(&check.id.group, &check.id.kind, &object),
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
        self.look_at_health(name);
    }

    /// Ends the wait when all that is waited for is healthy.
    pub(in crate::drive) fn look_at_health(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get(name) else { return };
        if state.cycle.stage() == Some(cycle::Stage::Waiting) && self.unhealthy(state).is_empty() {
            return self.step(name, cycle::Event::Healthy);
        }
        // What was given up may get there after all.
        let idle = matches!(state.cycle, cycle::State::Idle { .. });
        if idle && self.is_stopped(name) && self.unhealthy(state).is_empty() {
            self.admit(name, Cause::Dependency);
        }
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
        waits && self.reachable.live().is_some_and(|cluster| !cluster.reachable)
    }

    /// The objects that are waited for and are not healthy, each with the reason.
    pub(in crate::drive) fn unhealthy(&self, state: &KustomizationState) -> Vec<(ObjectId, Verdict)> {
        let Some(spec) = &state.spec else { return Vec::new() };
        let live = self.shared.live.borrow();
        let own = |id: &ObjectId| {
            let ours = state.versions.get(id).copied().unwrap_or(0);
            match live.look(id) {
                Look::Seen(seen) if seen.version >= ours => seen
                    .verdict
                    .clone()
                    .unwrap_or_else(|| Verdict::new(Health::InProgress, "its health is not seen yet")),
                Look::Seen(_) | Look::NotSeen(_) => Verdict::new(Health::InProgress, "it is not seen yet"),
                Look::Blind(error) => {
                    let why = error.map_or("its kind is not seen yet".to_owned(), ToString::to_string);
                    Verdict::new(Health::InProgress, why)
                }
            }
        };
        let foreign = |id: &ObjectId| {
            let seen = state.watching.as_ref().and_then(|watching| watching.foreign.get(id));
            seen.cloned().unwrap_or_else(|| Verdict::new(Health::InProgress, "it was not asked for yet"))
        };
        let all = state.inventory.keys().filter(|_| spec.wait);
        let checked = spec.health_checks.iter().map(|check| &check.id).filter(|_| !spec.wait);
        let checked_foreign = spec.health_checks.iter().map(|check| &check.id).filter(|_| spec.wait);
        let checked_foreign = checked_foreign.filter(|id| !state.inventory.contains_key(id));
        all.chain(checked)
            .chain(checked_foreign)
            .map(|id| (id.clone(), if state.inventory.contains_key(id) { own(id) } else { foreign(id) }))
            .filter(|(_, verdict)| verdict.health != Health::Current)
            .collect()
    }
}
