//! GitRepositories: loaded from the store first, then asked for news, and asked again.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use wickie_model::{
    ConditionStatus, Digest, Resource, ResourceKind, ResourceName, Revision, Severity, condition_type, reason,
};
use wickie_plan::cycle::{Cause, backoff, spread};

use super::link::Held;
use super::records::Say;
use super::{Drive, Event};
use crate::chain::chain;
use crate::config::{Declared, GitRepository, Secrets};
use crate::source::{PollOutcome, Polled, Snapshot, SourceError, SourceErrorClass, Verified};
use crate::store::Record;

/// The longest pause after a source that could not be reached; its interval where that is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The longest that a server's wish to be left alone is granted; the interval where that is longer. A server must not
/// silence a node for a year.
const LONGEST_WISH: Duration = Duration::from_secs(3_600);

/// A GitRepository.
pub(super) struct SourceState {
    /// Nothing while its spec or a Secret of it cannot be used.
    spec: Option<GitRepository>,
    /// The digest of all that a build takes from it.
    digest: Digest,
    /// The last accepted snapshot.
    revision: Option<Revision>,
    stage: Stage,
    /// Rises with each change of the spec: an answer to an older one is not taken.
    order: u64,
    due: Duration,
    failures: u32,
    /// Somebody asked while it was busy.
    again: bool,
    /// Somebody has asked, and is answered whatever window and budget say.
    asked: bool,
    /// Why it is not asked by itself.
    held: Option<Held>,
    /// When it was last begun to be asked.
    begun: Duration,
    last_contact: Option<Timestamp>,
    /// When the last accepted snapshot was committed.
    committed: Option<Timestamp>,
    /// Why the stored snapshot is not enforced, where it is not.
    unusable: Option<String>,
    /// Has been asked once, however that went.
    asked_once: bool,
    suspended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its Secrets are being found.
    Preparing,
    /// Its stored snapshot is being verified.
    Loading,
    /// Nothing to do until it is due.
    Idle,
    /// Its server is being asked.
    Polling,
    /// It cannot be used as it is declared; its Secrets may come.
    Unusable,
}

impl SourceState {
    fn new(digest: Digest) -> Self {
        Self {
            spec: None,
            digest,
            revision: None,
            stage: Stage::Preparing,
            order: 0,
            due: Duration::MAX,
            failures: 0,
            again: false,
            asked: false,
            held: None,
            begun: Duration::ZERO,
            last_contact: None,
            committed: None,
            unusable: None,
            asked_once: false,
            suspended: false,
        }
    }

    pub(super) fn wake(&self) -> Option<Duration> {
        (matches!(self.stage, Stage::Idle | Stage::Unusable) && !self.suspended).then_some(self.due)
    }

    pub(super) fn next_poll(&self) -> Option<Duration> {
        self.wake().filter(|due| *due < Duration::MAX && self.held.is_none())
    }

    /// Why it is not asked by itself.
    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.suspended || (self.asked_once && matches!(self.stage, Stage::Idle | Stage::Unusable))
    }

    /// Whether it is not known yet what it has to offer.
    pub(super) fn is_starting(&self) -> bool {
        let busy = match self.stage {
            Stage::Preparing | Stage::Loading => self.spec.is_none() || self.revision.is_none(),
            Stage::Idle | Stage::Polling => self.revision.is_none() && !self.suspended,
            Stage::Unusable => false,
        };
        busy && !self.asked_once
    }

    pub(super) fn revision(&self) -> Option<&Revision> {
        self.revision.as_ref()
    }

    pub(super) fn spec(&self) -> Option<&GitRepository> {
        self.spec.as_ref()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn committed(&self) -> Option<Timestamp> {
        self.committed
    }

    pub(super) fn last_contact(&self) -> Option<Timestamp> {
        self.last_contact
    }
}

pub(super) fn resource(name: &ResourceName) -> Resource {
    Resource::new(ResourceKind::GitRepository, name.clone())
}

/// Flux's condition of a source that waits for one it includes.
const INCLUDE_UNAVAILABLE: &str = "IncludeUnavailable";

/// What of the spec the snapshot was made with, under Flux's names for the status; nothing for what is not given.
fn observed(declared: &Declared) -> Vec<(&'static str, Option<Value>)> {
    let fields = [
        ("observedIgnore", "ignore"),
        ("observedInclude", "include"),
        ("observedRecurseSubmodules", "recurseSubmodules"),
        ("observedSparseCheckout", "sparseCheckout"),
    ];
    let given = |value: &&Value| !matches!(value, Value::Null | Value::Bool(false));
    let spec = declared.spec.value();
    fields.map(|(field, of)| (field, spec.get(of).filter(given).cloned())).into()
}

/// How long a server that asks to be left alone is.
fn granted(asked: Option<Duration>, interval: Duration) -> Duration {
    asked.unwrap_or_default().min(LONGEST_WISH.max(interval))
}

/// As Flux says it.
fn stored(revision: &Revision) -> String {
    format!("stored artifact for revision '{revision}'")
}

impl Drive {
    /// A GitRepository is new, or has changed.
    pub(super) fn source_declared(&mut self, declared: &Declared) {
        let name = declared.resource.name.clone();
        let suspended = self.is_suspended(declared);
        let digest = declared.digest();
        let state = self.sources.entry(name.clone()).or_insert_with(|| SourceState::new(digest));
        state.suspended = suspended;
        state.digest = digest;
        state.order += 1;
        state.stage = Stage::Preparing;
        state.failures = 0;
        self.find_secrets(&declared.resource);
    }

    /// A GitRepository is no more. What was taken from it stays until its Kustomizations say otherwise.
    pub(super) fn source_removed(&mut self, name: &ResourceName) {
        self.sources.remove(name);
        self.ask_followers(name, Cause::Spec);
    }

    /// Its Secrets were found, as far as they are there.
    pub(super) fn source_secrets(&mut self, declared: &Declared, secrets: &Secrets) {
        let name = &declared.resource.name;
        let read = GitRepository::new(declared, secrets, &self.node);
        let now = self.clock.now();
        let Some(state) = self.sources.get_mut(name) else { return };
        match read {
            Ok(spec) => {
                let polls_now = state.spec.is_none() || state.stage != Stage::Unusable;
                if polls_now {
                    state.due = now;
                }
                state.spec = Some(spec);
                self.load(name);
                self.load_includers(name);
            }
            Err(invalid) => {
                state.spec = None;
                state.stage = Stage::Unusable;
                state.asked_once = true;
                // A Secret may come; nothing tells of it but a look.
                state.due = now + spread(Duration::from_secs(30), fastrand::f64());
                self.source_failed(name, reason::INVALID_SPEC, invalid.to_string(), true);
                self.ask_followers(name, Cause::Spec);
                self.load_includers(name);
            }
        }
    }

    /// Its Secrets cannot be read for now: the API server is away. They are looked for again.
    pub(super) fn source_without_secrets(&mut self, name: &ResourceName, why: String) {
        let now = self.clock.now();
        let Some(state) = self.sources.get_mut(name) else { return };
        state.stage = Stage::Unusable;
        state.failures += 1;
        state.due = now + backoff(state.failures, Duration::from_secs(60), fastrand::f64());
        if state.spec.is_none() {
            self.source_failed(
                name,
                reason::AUTHENTICATION_FAILED,
                format!("its Secrets cannot be read: {why}"),
                false,
            );
            self.ask_followers(name, Cause::Spec);
        }
    }

    /// A source can be used now, or no more: those that include it are looked at again.
    fn load_includers(&mut self, name: &ResourceName) {
        for other in self.includers(name) {
            let stage = self.sources.get(&other).map(|state| state.stage);
            if matches!(stage, Some(Stage::Idle | Stage::Loading)) {
                self.load(&other);
            }
        }
    }

    /// A source that includes itself has no snapshot; says so.
    fn refuse_circle(&mut self, name: &ResourceName) -> bool {
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
    fn load(&mut self, name: &ResourceName) {
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
    pub(super) fn load_waiting(&mut self) {
        let waiting = self.sources.iter().filter(|(_, state)| state.stage == Stage::Loading);
        let waiting: Vec<_> = waiting.map(|(name, _)| name.clone()).collect();
        waiting.iter().for_each(|name| self.load(name));
    }

    /// Something was heard of a source's floor on a track that may speak against what it enforces.
    pub(super) fn load_again(&mut self, name: &ResourceName, track: &str) {
        let of_track = |state: &&mut SourceState| state.spec.as_ref().is_some_and(|spec| spec.source.track() == track);
        match self.sources.get_mut(name).filter(of_track) {
            Some(state) if state.stage == Stage::Idle => self.load(name),
            // What is under way now ends in a poll, which holds the offer against the floor.
            Some(state) => state.again = true,
            None => {}
        }
    }

    pub(super) fn loaded(
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

    pub(super) fn tick_sources(&mut self, now: Duration) {
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
    pub(super) fn ask_source(&mut self, name: &ResourceName) {
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

    pub(super) fn polled(&mut self, name: &ResourceName, order: u64, polled: Polled) {
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
                let git = (*self.shared.git).clone();
                tokio::spawn(async move {
                    if let Err(error) = git.collect().await {
                        tracing::warn!(error = chain(&error), "old snapshots could not be cleared away");
                    }
                });
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

    /// Whether it was said that a revision is here. What says so is written together with the event.
    fn is_announced(&self, name: &ResourceName, revision: &Revision) -> bool {
        let said = self.records.get(&resource(name)).map(Record::conditions);
        said.as_ref()
            .and_then(|said| said.get(condition_type::ARTIFACT_IN_STORAGE))
            .is_some_and(|said| said.message == stored(revision))
    }

    fn source_ready(&mut self, name: &ResourceName, revision: &Revision, new: Option<&Verified<Snapshot>>) {
        let Some(state) = self.sources.get_mut(name) else { return };
        let changed = state.revision.as_ref() != Some(revision);
        state.revision = Some(revision.clone());
        let verified = state.spec.as_ref().is_some_and(|spec| spec.source.is_verified());
        let resource = resource(name);
        let requested = self.declared.get(&resource).and_then(|declared| declared.requested_at().map(str::to_owned));
        let observed = self.declared.get(&resource).map(|declared| observed(declared)).unwrap_or_default();
        let recovered = !self.is_ready(&resource);
        let signer = new.and_then(|snapshot| snapshot.signer().map(str::to_owned));
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, fields, generation| {
            let stored = stored(revision);
            let mut set = |type_, reason, message: String| {
                conditions.set(type_, ConditionStatus::True, reason, message, generation, now);
            };
            set(condition_type::READY, reason::SUCCEEDED, stored.clone());
            set(condition_type::ARTIFACT_IN_STORAGE, reason::SUCCEEDED, stored);
            if verified {
                if let Some(signer) = &signer {
                    set(
                        condition_type::SOURCE_VERIFIED,
                        reason::SUCCEEDED,
                        format!("verified signature of revision '{revision}': {signer}"),
                    );
                }
            } else {
                let message = "the source names no signers: what the server gives is taken unsigned".to_owned();
                conditions.set(
                    condition_type::SOURCE_VERIFIED,
                    ConditionStatus::False,
                    "Unsigned",
                    message,
                    generation,
                    now,
                );
            }
            conditions.remove(condition_type::RECONCILING);
            conditions.remove(condition_type::STALLED);
            conditions.remove(INCLUDE_UNAVAILABLE);
            for (field, observed) in observed {
                match observed {
                    Some(value) => drop(fields.insert(field.to_owned(), value)),
                    None => drop(fields.remove(field)),
                }
            }
            if let Some(requested) = requested {
                fields.insert("lastHandledReconcileAt".to_owned(), requested.into());
            }
        });
        if let Some(snapshot) = new.filter(|_| changed) {
            self.collect();
            let by = snapshot.signer().map_or("not signed".to_owned(), |signer| format!("signed: {signer}"));
            let message = format!("{} ({by})", stored(revision));
            self.say(
                &resource,
                Say { severity: Severity::Info, reason: "NewArtifact", message, revision: Some(revision) },
            );
        } else if recovered {
            let message = format!("the source is ready again at revision '{revision}'");
            self.say(
                &resource,
                Say { severity: Severity::Info, reason: reason::SUCCEEDED, message, revision: Some(revision) },
            );
        }
        if let Some(began) = new.and_then(|snapshot| snapshot.began()) {
            self.floor_began(name, revision, began);
        }
        if changed || new.is_some() {
            self.ask_followers(name, Cause::Revision);
            self.tell_includers(name);
        } else if recovered {
            self.ask_followers(name, Cause::Dependency);
        }
    }

    /// Sources that include one that has changed are built again; those that waited for it are asked again.
    fn tell_includers(&mut self, name: &ResourceName) {
        let now = self.clock.now();
        for other in self.includers(name) {
            if let Some(state) = self.sources.get_mut(&other)
                && state.stage == Stage::Idle
                && (state.revision.is_none() || state.failures > 0)
            {
                state.due = now;
            }
            self.ask_followers(&other, Cause::Revision);
        }
    }

    /// Clears away what no snapshot needs any more.
    fn collect(&self) {
        let git = self.shared.git.clone();
        self.tasks.spawn(async move {
            if let Err(error) = git.collect().await {
                tracing::warn!(
                    error = chain(&error),
                    "old Git objects could not be cleared away; it is tried again with the next snapshot"
                );
            }
        });
    }

    /// Says once that a source fails, and why. What was accepted before stays enforced.
    fn source_failed(&mut self, name: &ResourceName, why: &'static str, message: String, stalled: bool) {
        let resource = resource(name);
        let revision = self.sources.get(name).and_then(|state| state.revision.clone());
        let requested = self.declared.get(&resource).and_then(|declared| declared.requested_at().map(str::to_owned));
        let before = self.records.get(&resource).map(|record| record.status.clone());
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, fields, generation| {
            conditions.set(condition_type::READY, ConditionStatus::False, why, message.clone(), generation, now);
            if matches!(why, reason::INVALID_COMMIT_SIGNATURE | reason::VERIFICATION_ERROR) {
                conditions.set(
                    condition_type::SOURCE_VERIFIED,
                    ConditionStatus::False,
                    why,
                    message.clone(),
                    generation,
                    now,
                );
            }
            if matches!(why, "NotFound" | "NoArtifact") {
                let unavailable = ConditionStatus::True;
                conditions.set(INCLUDE_UNAVAILABLE, unavailable, why, message.clone(), generation, now);
            }
            if stalled {
                conditions.set(condition_type::STALLED, ConditionStatus::True, why, message.clone(), generation, now);
            } else {
                conditions.remove(condition_type::STALLED);
            }
            if let Some(requested) = requested {
                fields.insert("lastHandledReconcileAt".to_owned(), requested.into());
            }
        });
        // Said again only when something else is wrong, or about something else.
        if self.records.get(&resource).map(|record| &record.status) != before.as_ref() {
            self.say(&resource, Say { severity: Severity::Error, reason: why, message, revision: revision.as_ref() });
        }
    }

    /// Every Kustomization that takes from the source is asked to run, or held where it cannot.
    fn ask_followers(&mut self, source: &ResourceName, cause: Cause) {
        let followers: Vec<_> = self
            .kustomizations
            .iter()
            .filter(|(_, state)| state.source() == Some(source))
            .map(|(name, _)| name.clone())
            .collect();
        followers.iter().for_each(|name| self.admit(name, cause));
    }

    /// Answers whoever waited for a source.
    fn source_was_asked(&mut self, name: &ResourceName) {
        let waiting: Vec<_> = self
            .kustomizations
            .iter_mut()
            .filter(|(_, state)| state.source() == Some(name))
            .filter_map(|(name, state)| std::mem::take(&mut state.after_source).then(|| name.clone()))
            .collect();
        waiting.iter().for_each(|name| self.admit(name, Cause::Request));
    }

    pub(super) fn source_revision(&self, name: &ResourceName) -> Option<String> {
        self.sources.get(name)?.revision.as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Origin;

    #[test]
    fn what_was_observed_is_what_flux_says_of_it() {
        let include = json!([{"repository": {"name": "lib"}, "toPath": "vendor"}]);
        let document = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "fleet"},
            "spec": {"ignore": "", "include": include, "recurseSubmodules": false, "url": "https://git.example/fleet"}
        });
        let declared = Declared::new(ResourceKind::GitRepository, &document, Origin::File, "flux-system").unwrap();
        let expected = [
            ("observedIgnore", Some(json!(""))),
            ("observedInclude", Some(include)),
            ("observedRecurseSubmodules", None),
            ("observedSparseCheckout", None),
        ];
        assert_eq!(observed(&declared), expected);
    }

    #[test]
    fn a_server_s_wish_is_granted_within_reason() {
        let [second, minute, hour, day] = [1, 60, 3_600, 86_400].map(Duration::from_secs);
        assert_eq!(granted(None, minute), Duration::ZERO);
        assert_eq!(granted(Some(second), minute), second);
        assert_eq!(granted(Some(Duration::from_secs(1 << 40)), minute), hour);
        assert_eq!(granted(Some(day * 2), day), day);
    }
}
