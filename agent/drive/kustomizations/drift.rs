//! Drift: what the watches see held against what was left, and how soon it is repaired.

use std::time::Duration;

use wickie_model::{ObjectId, ResourceName};
use wickie_plan::cycle::{self, Cause, Moment, backoff};

use super::KustomizationState;
use crate::drive::Drive;
use crate::drive::live::Look;

/// After so long without drift it is repaired at once again.
const CALM: Duration = Duration::from_secs(600);

/// The longest that a repair waits where somebody else keeps undoing it.
const LONGEST_TRUCE: Duration = Duration::from_secs(60);

/// How often drift was repaired lately.
#[derive(Default)]
pub(super) struct Drift {
    pub(super) repairs: u32,
    pub(super) last: Option<Moment>,
    /// A repair is put off until then.
    pub(super) due: Option<Moment>,
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
                let seal = state.wanted.as_ref().and_then(|wanted| wanted.seal(id));
                let metadata = seal.map_or(sighting.metadata, |seal| seal.digest(sighting.metadata));
                let same = entry.fingerprint.as_ref().is_some_and(|left| left.metadata == metadata);
                !same && sighting.version >= ours
            }
            Look::NotSeen(version) => version >= ours,
            Look::Blind(_) => false,
        }
    }
}
