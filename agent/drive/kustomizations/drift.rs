//! Drift: what the watches see held against what was left, and how soon it is repaired.

use std::collections::BTreeMap;
use std::time::Duration;

use wickie_model::{ObjectId, ResourceName};
use wickie_plan::cycle::{self, Cause, Moment, backoff};

use super::KustomizationState;
use crate::drive::Drive;
use crate::drive::live::Look;
use crate::store::Changes;

/// After so long without drift it is repaired at once again.
const CALM: Duration = Duration::from_secs(600);

/// The longest that a repair waits where somebody else keeps undoing it.
const LONGEST_TRUCE: Duration = Duration::from_secs(60);

/// The longest that a look waits where others keep changing what is not ours. Real drift may hide among it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often drift was looked for and repaired lately.
#[derive(Default)]
pub(super) struct Drift {
    /// By object: who fights over one keeps nobody from having another repaired at once.
    repairs: BTreeMap<ObjectId, Often>,
    /// Looks that found nothing to repair.
    looks: Often,
    /// A look is put off until then.
    pub(super) due: Option<Moment>,
}

/// How often something happened, until there was calm.
#[derive(Default)]
struct Often {
    times: u32,
    last: Option<Moment>,
}

impl Often {
    fn note(&mut self, now: Moment) {
        if self.last.is_some_and(|last| now.saturating_sub(last) > CALM) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.last = Some(now);
    }

    /// From when on it may happen again: the first few times at once, then after a pause that grows to `longest`.
    fn again(&self, longest: Duration, now: Moment) -> Moment {
        match (self.last, self.times) {
            (Some(last), times @ 3..) if now.saturating_sub(last) <= CALM => last + backoff(times - 3, longest, 1.0),
            _ => Moment::ZERO,
        }
    }
}

impl Drift {
    /// A run that was to repair drift is over; it had to touch these objects.
    pub(super) fn ended<'a>(&mut self, touched: impl Iterator<Item = &'a ObjectId>, now: Moment) {
        let mut any = false;
        for id in touched {
            any = true;
            self.repairs.entry(id.clone()).or_default().note(now);
        }
        if !any {
            self.looks.note(now);
        }
        self.repairs.retain(|_, often| often.last.is_some_and(|last| now.saturating_sub(last) <= CALM));
    }

    /// From when on an object may be repaired again: two who each believe to be right must not keep the API server busy.
    fn free_at(&self, id: &ObjectId, now: Moment) -> Moment {
        let truce = self.repairs.get(id).map_or(Moment::ZERO, |often| often.again(LONGEST_TRUCE, now));
        truce.max(self.looks.again(LONGEST_PAUSE, now))
    }
}

/// Whether a run found anything to put right.
pub(super) fn repaired(changes: &Changes) -> bool {
    *changes != Changes { unchanged: changes.unchanged, ..Changes::default() }
}

impl Drive {
    /// Holds the watches' word on an object, or on all of a Kustomization's, against what was left; asks for a repair.
    pub(in crate::drive) fn look_for_drift(&mut self, name: &ResourceName, object: Option<&ObjectId>) {
        let now = self.clock.now();
        let Some(state) = self.kustomizations.get(name) else { return };
        // While a run plans or applies, what is seen waits for its answer.
        if matches!(state.cycle.stage(), Some(cycle::Stage::Building | cycle::Stage::Applying)) || state.spec.is_none()
        {
            return;
        }
        let free_at = |id: &ObjectId| self.is_suspect(state, id).then(|| state.drift.free_at(id, now));
        let free = match object {
            Some(id) => free_at(id),
            None => state.inventory.keys().filter_map(free_at).min(),
        };
        let Some(free) = free else { return };
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        if free > now {
            state.drift.due = Some(free);
            return;
        }
        self.admit(name, Cause::Drift);
    }

    fn is_suspect(&self, state: &KustomizationState, id: &ObjectId) -> bool {
        let Some(entry) = state.inventory.get(id).filter(|_| !state.left.contains_key(id)) else { return false };
        let ours = state.versions.get(id).copied().unwrap_or(0);
        let Ok(target) = self.target(state) else { return false };
        match target.live.borrow().look(id) {
            Look::Seen(sighting) => {
                sighting.version >= ours && !sighting.is_as_left(id, entry, state.wanted.as_deref())
            }
            Look::NotSeen(version) => version >= ours,
            Look::Blind(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectId {
        let text = |text: &str| text.to_owned();
        ObjectId::new("", text("ConfigMap"), text("shop"), text(name))
    }

    /// Ends runs one a second, each of which repaired `till` or found nothing, and tells how long the next must wait then.
    fn pause_after(runs: impl IntoIterator<Item = bool>) -> Duration {
        let mut drift = Drift::default();
        let mut now = Moment::ZERO;
        for repaired in runs {
            now += Duration::from_secs(1);
            drift.ended(repaired.then(|| object("till")).iter(), now);
        }
        drift.free_at(&object("till"), now).saturating_sub(now)
    }

    #[test]
    fn looks_that_found_nothing_do_not_slow_a_repair() {
        assert_eq!(pause_after([false; 250]), Duration::from_secs(1));
        assert_eq!(pause_after([true, false, true, false]), Duration::ZERO);
    }

    #[test]
    fn a_repair_that_is_undone_again_and_again_becomes_slower_until_there_was_calm() {
        assert_eq!(pause_after([true; 2]), Duration::ZERO);
        assert_eq!(pause_after([true; 3]), Duration::from_secs(1));
        assert_eq!(pause_after([true; 30]), Duration::from_secs(60));
        let (till, calm) = (object("till"), CALM + Duration::from_secs(1));
        let mut drift = Drift::default();
        (0..30).for_each(|_| drift.ended([&till].into_iter(), Moment::ZERO));
        assert_eq!(drift.free_at(&till, calm), Moment::ZERO);
        drift.ended([&till].into_iter(), calm);
        assert_eq!(drift.repairs[&till].times, 1);
    }

    #[test]
    fn who_fights_over_one_object_slows_the_repair_of_no_other() {
        let (till, other) = (object("till"), object("other"));
        let mut drift = Drift::default();
        (0..30).for_each(|_| drift.ended([&till].into_iter(), Moment::ZERO));
        assert!(drift.free_at(&till, Moment::ZERO) > Moment::ZERO);
        assert_eq!(drift.free_at(&other, Moment::ZERO), Moment::ZERO);
        drift.ended([&other].into_iter(), CALM + Duration::from_secs(1));
        assert_eq!(drift.repairs.len(), 1, "what is long over is forgotten");
    }
}
