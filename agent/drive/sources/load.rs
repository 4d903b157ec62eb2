//! Sources as the store has them.

use wickie_model::{ResourceName, reason};
use wickie_plan::cycle::{Cause, spread};

use super::{Drive, LONGEST_PAUSE, SourceState, Stage};
use crate::chain::chain;
use crate::drive::Event;
use crate::source::{Snapshot, SourceError, SourceErrorClass, Verified};

impl Drive {
    /// A source can be used now, or no more: those that include it are looked at again.
    pub(super) fn load_includers(&mut self, name: &ResourceName) {
        for other in self.includers(name) {
            let stage = self.sources.get(&other).map(|state| state.stage);
            if matches!(stage, Some(Stage::Idle | Stage::Loading)) {
                self.load(&other);
            }
        }
    }

    /// A source that includes itself has no snapshot; says so.
    pub(super) fn refuse_circle(&mut self, name: &ResourceName) -> bool {
        if !self.includes_itself(name) {
            return false;
        }
        let now = self.clock.now();
        if let Some(state) = self.sources.get_mut(name) {
            let interval = state.spec.as_ref().map_or(LONGEST_PAUSE, |spec| spec.interval);
            (state.stage, state.asked_once, state.revision) = (Stage::Idle, true, None);
            state.due = now.saturating_add(spread(interval, fastrand::f64()));
        }
        let why = "spec.include: it includes itself, by way of the sources that it includes; take one include out";
        self.source_failed(name, reason::INVALID_SPEC, why.to_owned(), true);
        self.ask_followers(name, Cause::Spec);
        true
    }

    /// Verifies the stored snapshot again, with the signers of today.
    pub(super) fn load(&mut self, name: &ResourceName) {
        if self.refuse_circle(name) {
            return;
        }
        if let Some(state) = self.sources.get_mut(name) {
            state.stage = Stage::Loading;
        }
        // What the cluster knows of the floor comes first.
        if !self.cluster_floors.is_answered() {
            return;
        }
        // One that it includes is being prepared: this one is loaded with it.
        let preparing = |other: &ResourceName| {
            self.sources.get(other).is_some_and(|other| other.spec.is_none() && other.stage == Stage::Preparing)
        };
        if self.included_by(name).any(preparing) {
            return;
        }
        let Some(source) = self.git_source(name) else { return };
        let Some(state) = self.sources.get_mut(name) else { return };
        state.stage = Stage::Loading;
        let (git, order, name) = (self.shared.git.clone(), state.order, name.clone());
        self.answer(async move { Event::Loaded(name, order, git.load(&source).await) });
    }

    /// Loads what waited until it was known what the cluster says of the floors.
    pub(in crate::drive) fn load_waiting(&mut self) {
        let waiting = self.sources.iter().filter(|(_, state)| state.stage == Stage::Loading);
        let waiting: Vec<_> = waiting.map(|(name, _)| name.clone()).collect();
        waiting.iter().for_each(|name| self.load(name));
    }

    /// Something was heard of a source's floor on a track that may speak against what it enforces.
    pub(in crate::drive) fn load_again(&mut self, name: &ResourceName, track: &str) {
        let of_track = |state: &&mut SourceState| state.spec.as_ref().is_some_and(|spec| spec.source.track() == track);
        match self.sources.get_mut(name).filter(of_track) {
            Some(state) if state.stage == Stage::Idle => self.load(name),
            // What is under way now ends in a poll, which holds the offer against the floor.
            Some(state) => state.again = true,
            None => {}
        }
    }

    pub(in crate::drive) fn loaded(
        &mut self,
        name: &ResourceName,
        order: u64,
        answer: Result<Option<Verified<Snapshot>>, SourceError>,
    ) {
        let untold = matches!(&answer, Ok(Some(snapshot)) if !self.is_announced(name, snapshot.revision()));
        let Some(state) = self.sources.get_mut(name).filter(|state| state.order == order) else { return };
        state.stage = Stage::Idle;
        state.unusable = None;
        state.committed = None;
        if let Ok(Some(snapshot)) = &answer {
            state.committed = Some(snapshot.committed());
        }
        match answer {
            Ok(Some(snapshot)) if untold => {
                // It was accepted, and the agent killed before it could say so.
                self.source_ready(name, &snapshot.revision().clone(), Some(&snapshot));
            }
            Ok(Some(snapshot)) => {
                let first = state.revision.is_none();
                state.revision = Some(snapshot.revision().clone());
                self.ask_followers(name, if first { Cause::Start } else { Cause::Spec });
            }
            Ok(None) => {
                state.revision = None;
                self.ask_followers(name, Cause::Spec);
            }
            Err(error) => {
                state.revision = None;
                let why = match error.class() {
                    SourceErrorClass::WentBack => chain(&error),
                    _ => format!("the stored snapshot cannot be used any more: {}", chain(&error)),
                };
                state.unusable = Some(why.clone());
                self.source_failed(name, error.reason(), why, false);
                self.ask_followers(name, Cause::Spec);
            }
        }
        self.look_at_age(name);
    }
}
