//! What keeps a Kustomization from running, and when it may.

use jiff::Timestamp;
use wickie_model::{ConditionStatus, ResourceName, Severity, condition_type, reason};
use wickie_plan::cycle::{self, Cause, Hold};

use super::{KustomizationState, resource};
use crate::drive::Drive;
use crate::drive::lease::Role;
use crate::drive::records::Say;

impl Drive {
    /// Runs a Kustomization, or holds it where something speaks against that.
    pub(in crate::drive) fn admit(&mut self, name: &ResourceName, cause: Cause) {
        let event = match self.hold(name) {
            Some(hold) => cycle::Event::Held(hold),
            None => cycle::Event::Asked(cause),
        };
        self.step(name, event);
    }

    /// All that is declared has been read: what takes from a source that nobody declares has to say so.
    pub(in crate::drive) fn miss_sources(&mut self) {
        let lacks =
            |state: &KustomizationState| state.source().is_some_and(|source| !self.sources.contains_key(source));
        let lacking: Vec<_> =
            self.kustomizations.iter().filter(|(_, state)| lacks(state)).map(|(name, _)| name.clone()).collect();
        lacking.iter().for_each(|name| self.admit(name, Cause::Spec));
    }

    /// What speaks against a run.
    pub(super) fn hold(&self, name: &ResourceName) -> Option<Hold> {
        let state = self.kustomizations.get(name)?;
        if let Role::StandsBy(why) = &self.role {
            return Some(Hold::StandsBy(why.clone()));
        }
        if state.suspended {
            return Some(Hold::Suspended);
        }
        let Some(spec) = &state.spec else {
            return Some(Hold::Invalid("it cannot be followed as it is declared".to_owned()));
        };
        if let Some(why) = self.cluster_input.refusal(self.declared.get(&resource(name)).map(|declared| &**declared)) {
            return Some(Hold::Invalid(why));
        }
        match self.sources.get(&spec.source) {
            // The cluster names one kind after the other.
            None if !self.cluster_input.knows_sources() => return Some(Hold::Starting),
            None => return Some(Hold::Source(format!("GitRepository {} is not declared", spec.source))),
            Some(source) if source.is_starting() => return Some(Hold::Starting),
            Some(source) if source.spec().is_none() || source.revision().is_none() => {
                let why = format!("GitRepository {} has no verified snapshot yet; see its status", spec.source);
                return Some(Hold::Source(why));
            }
            Some(_) => {}
        }
        if self.waits_for_values(name, spec) {
            return Some(Hold::Starting);
        }
        spec.depends_on.iter().find_map(|on| self.unready_dependency(spec, on)).map(Hold::Dependency)
    }

    pub(super) fn rest(&mut self, name: &ResourceName, hold: &Hold) {
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.settled = *hold != Hold::Starting;
            state.wake = None;
        }
        if matches!(hold, Hold::Dependency(_)) {
            self.build_ahead(name);
        }
        let (why, message, stalled) = match hold {
            // What was said before the start is still true.
            Hold::Starting => return,
            // Flux leaves the conditions of a suspended object as they are.
            Hold::Suspended => return self.answer_waiters(&resource(name)),
            // How it stands is the other agent's to say.
            Hold::StandsBy(_) => return self.answer_waiters(&resource(name)),
            // At every start the stored snapshot is loaded first: until the source was asked there is nothing to tell.
            Hold::Source(message) => (reason::ARTIFACT_FAILED, message.clone(), false),
            Hold::Dependency(message) => (reason::DEPENDENCY_NOT_READY, message.clone(), false),
            Hold::Invalid(message) => (reason::INVALID_SPEC, message.clone(), true),
        };
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.waiting = None;
            state.left.clear();
        }
        let resource = resource(name);
        let before = self.records.get(&resource).map(|record| record.status.clone());
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| {
            conditions.set(condition_type::READY, ConditionStatus::False, why, message.clone(), generation, now);
            conditions.remove(condition_type::RECONCILING);
            conditions.remove(condition_type::APPLY_HELD);
            if stalled {
                conditions.set(condition_type::STALLED, ConditionStatus::True, why, message.clone(), generation, now);
            }
        });
        if self.records.get(&resource).map(|record| &record.status) != before.as_ref() {
            let severity = match hold {
                // Flux reports a dependency that is waited for as information.
                Hold::Dependency(_) => Severity::Info,
                _ => Severity::Error,
            };
            self.say(&resource, Say { severity, reason: why, message, revision: None });
        }
        self.answer_waiters(&resource);
    }
}
