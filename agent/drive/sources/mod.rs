//! GitRepositories: loaded from the store first, then asked for news, and asked again.

mod load;
mod outcome;
mod poll;

use std::time::Duration;

use jiff::Timestamp;
use wickie_model::{Digest, Resource, ResourceKind, ResourceName, Revision, reason};
use wickie_plan::cycle::{Cause, backoff, spread};

use super::Drive;
use super::link::Held;
use crate::config::{Declared, GitRepository, Secrets};

/// The longest pause after a source that could not be reached; its interval where that is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

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
}
