//! Asking for news: when, and what comes of it.

use std::time::Duration;

use jiff::Timestamp;
use wickie_model::{ResourceKind, ResourceName, reason};
use wickie_plan::cycle::{Cause, backoff, spread};

use super::{Drive, LONGEST_PAUSE, SourceState, Stage, resource};
use crate::chain::chain;
use crate::drive::Event;
use crate::drive::link::Held;
use crate::source::{PollOutcome, Polled, SourceErrorClass};

/// The longest that a server's wish to be left alone is granted; the interval where that is longer. A server must not
/// silence a node for a year.
const LONGEST_WISH: Duration = Duration::from_secs(3_600);

/// How long a server that asks to be left alone is.
fn granted(asked: Option<Duration>, interval: Duration) -> Duration {
    asked.unwrap_or_default().min(LONGEST_WISH.max(interval))
}

impl Drive {
    pub(in crate::drive) fn tick_sources(&mut self, now: Duration) {
        let due = |state: &SourceState| state.wake().is_some_and(|due| due <= now);
        let mut names: Vec<_> =
            self.sources.iter().filter(|(_, state)| due(state)).map(|(name, _)| name.clone()).collect();
        let companions: Vec<_> = names.iter().flat_map(|name| self.companions(name, now)).collect();
        names.extend(companions);
        names.sort();
        names.dedup();
        for name in names {
            match self.sources.get(&name).map(|state| state.stage) {
                Some(Stage::Unusable) => {
                    if let Some(state) = self.sources.get_mut(&name) {
                        state.stage = Stage::Preparing;
                    }
                    self.find_secrets(&resource(&name));
                }
                _ => self.poll(&name),
            }
        }
    }

    /// Sources of the same repository that are due soon: asked together they cost one listing.
    fn companions(&self, name: &ResourceName, now: Duration) -> Vec<ResourceName> {
        let Some(spec) = self.sources.get(name).and_then(SourceState::spec) else { return Vec::new() };
        let party = spec.source.party();
        let soon = |state: &&SourceState| {
            let Some(spec) = state.spec() else { return false };
            let due = state.next_poll().filter(|_| state.stage == Stage::Idle && state.failures == 0);
            due.is_some_and(|due| due <= now.saturating_add(spec.interval / 4)) && spec.source.party() == party
        };
        let others = self.sources.iter().filter(|(other, state)| *other != name && soon(state));
        others.map(|(name, _)| name.clone()).collect()
    }

    /// Asks a source now, or as soon as it is no longer busy.
    pub(in crate::drive) fn ask_source(&mut self, name: &ResourceName) {
        let now = self.clock.now();
        if let Some(state) = self.sources.get_mut(name) {
            if let Some(spec) = &state.spec {
                self.shared.git.ask_at_once(&spec.source);
            }
            state.asked = true;
            match state.stage {
                Stage::Idle | Stage::Unusable => state.due = now,
                _ => state.again = true,
            }
        }
    }

    fn poll(&mut self, name: &ResourceName) {
        if self.refuse_circle(name) {
            return;
        }
        let (now, begun) = (Timestamp::now(), self.clock.now());
        let (Some(mut source), further) = (self.git_source(name), self.further(name)) else { return };
        let Some(spec) = self.sources.get(name).and_then(|state| state.spec.as_ref()) else { return };
        let leave = self.leave_to_fetch(name, spec, now);
        let Some(state) = self.sources.get_mut(name) else { return };
        let asked = std::mem::take(&mut state.asked);
        let allowance = match leave {
            Ok(left) if !asked => left,
            Err(held) if !asked => return self.hold_back(name, held, now),
            Ok(_) => u64::MAX,
            Err(held) => {
                tracing::info!(source = %name, "somebody asks, and is answered at once, although {}", held.live().message);
                u64::MAX
            }
        };
        source.allow(allowance);
        state.stage = Stage::Polling;
        state.begun = begun;
        let (git, order, name) = (self.shared.git.clone(), state.order, name.clone());
        self.answer(async move {
            let polled = git.poll_for(&source, Some(&further), Timestamp::now()).await;
            Event::Polled(name, order, polled)
        });
    }

    /// Leaves a source alone until its window opens or its budget renews.
    fn hold_back(&mut self, name: &ResourceName, held: Held, now: Timestamp) {
        let Some(interval) = self.sources.get(name).and_then(|state| state.spec.as_ref()).map(|spec| spec.interval)
        else {
            return;
        };
        let due = self.due_again(&held, interval, now);
        self.show_held(name, Some(&held));
        let Some(state) = self.sources.get_mut(name) else { return };
        state.due = due;
        let first = !std::mem::replace(&mut state.asked_once, true);
        let message = held.live().message;
        state.held = Some(held);
        if first && state.revision.is_none() {
            // Nothing is here yet: who waits for it is told for what.
            self.source_failed(name, reason::ARTIFACT_FAILED, message, false);
            self.ask_followers(name, Cause::Spec);
        }
    }

    pub(in crate::drive) fn polled(&mut self, name: &ResourceName, order: u64, polled: Polled) {
        self.note_traffic(name, &polled.traffic);
        let now = self.clock.now();
        let Some(state) = self.sources.get_mut(name).filter(|state| state.order == order) else { return };
        let Some(interval) = state.spec.as_ref().map(|spec| spec.interval) else { return };
        state.stage = Stage::Idle;
        state.asked_once = true;
        self.metrics.took(ResourceKind::GitRepository, name, now.saturating_sub(state.begun));
        let answered = !matches!(&polled.outcome, Err(error) if error.class() == SourceErrorClass::Transient);
        if answered {
            state.last_contact = Some(Timestamp::now());
        }
        let pause = match &polled.outcome {
            Ok(_) => {
                state.failures = 0;
                spread(interval, fastrand::f64())
            }
            Err(error) => {
                state.failures += 1;
                let pause = backoff(state.failures, LONGEST_PAUSE.min(interval), fastrand::f64());
                pause.max(granted(error.retry_after(), interval))
            }
        };
        let over_budget = matches!(&polled.outcome, Err(error) if error.is_over_budget());
        state.due = if std::mem::take(&mut state.again) { now } else { now.saturating_add(pause) };
        tracing::debug!(source = %name, received = polled.traffic.received, "asked for news");
        match polled.outcome {
            Ok(PollOutcome::Unchanged(revision)) => self.source_ready(name, &revision, None),
            Ok(PollOutcome::New(snapshot)) => {
                state.committed = Some(snapshot.committed());
                state.unusable = None;
                self.floor_moved(name);
                self.source_ready(name, &snapshot.revision().clone(), Some(&snapshot));
                self.collect();
            }
            // What it has is as good as before; that there is more, and when it comes, stands in the condition below.
            Err(_) if over_budget && state.revision.is_some() => {}
            Err(error) => {
                let unusable = state.unusable.as_ref().map(|why| format!("; {why}"));
                let why = format!("{}{}", chain(&error), unusable.unwrap_or_default());
                self.source_failed(name, error.reason(), why, false);
                if matches!(error.class(), SourceErrorClass::Auth | SourceErrorClass::RefusedSignature) {
                    // The Secret may have been mended meanwhile: it is read again before the next try.
                    if let Some(state) = self.sources.get_mut(name) {
                        state.stage = Stage::Unusable;
                    }
                }
                if self.sources.get(name).is_some_and(|state| state.revision.is_none()) {
                    // Who waited for its first answer is told that there is none.
                    self.ask_followers(name, Cause::Spec);
                }
            }
        }
        self.hold_back_if_due(name);
        self.look_at_age(name);
        self.answer_waiters(&resource(name));
        self.source_was_asked(name);
    }

    /// After a poll: whether the next one must wait for window or budget.
    fn hold_back_if_due(&mut self, name: &ResourceName) {
        let now = Timestamp::now();
        let Some(state) = self.sources.get(name) else { return };
        let Some(spec) = &state.spec else { return };
        match self.leave_to_fetch(name, spec, now) {
            Err(held) if !state.asked && state.stage == Stage::Idle => self.hold_back(name, held, now),
            Err(_) => {}
            Ok(_) => {
                if self.sources.get_mut(name).and_then(|state| state.held.take()).is_some() {
                    self.show_held(name, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_wish_is_granted_within_reason() {
        let [second, minute, hour, day] = [1, 60, 3_600, 86_400].map(Duration::from_secs);
        assert_eq!(granted(None, minute), Duration::ZERO);
        assert_eq!(granted(Some(second), minute), second);
        assert_eq!(granted(Some(Duration::from_secs(1 << 40)), minute), hour);
        assert_eq!(granted(Some(day * 2), day), day);
    }
}
