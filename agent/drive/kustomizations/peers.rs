//! Objects that move from one Kustomization to another in one commit: the old owner deletes nothing before the others
//! of its source have said what they want at that commit.
//!
//! Until then its plan lets the deletions wait; they come with the run that follows when the others are built, or at
//! the latest after [`LONGEST_WAIT`]: one that cannot be built must not keep everything alive for ever.

use std::time::Duration;

use wickie_model::ResourceName;
use wickie_plan::cycle::{Cause, Hold, Moment, State};

use super::{Built, Drive, KustomizationState};
use crate::drive::Event;
use crate::drive::run::{self, BuildKey};
use crate::render::Inputs;

/// The longest that deletions wait for what others want.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Deletions that wait.
pub(super) struct Deferred {
    /// What was built when they began to.
    key: BuildKey,
    /// When they wait no longer.
    pub(super) until: Moment,
}

impl Drive {
    /// What a build of a Kustomization would be made from now.
    pub(in crate::drive) fn build_key(&self, name: &ResourceName) -> Option<BuildKey> {
        let state = self.kustomizations.get(name)?;
        let spec = state.spec.as_ref()?;
        let source = self.source_digest(&spec.source)?;
        let inputs = self.inputs_of(name, spec).map_or_else(|_| Inputs::default().digest(), |inputs| inputs.digest());
        Some(BuildKey::new(self.followed(name)?, state.digest?, source, inputs))
    }

    /// Those of the same source that have not said yet what they want, where that matters to what is to be deleted now.
    pub(super) fn awaited(&mut self, name: &ResourceName) -> Option<String> {
        let now = self.clock.now();
        let state = self.kustomizations.get(name)?;
        let wanted = state.wanted.clone()?;
        let deletes = state.inventory.keys().any(|id| !wanted.desired.contains_key(id));
        let waited = state.deferred.as_ref().filter(|deferred| deferred.key == wanted.key).map(|it| it.until);
        let awaited = match deletes && waited.is_none_or(|until| now < until) {
            true => self.unbuilt_peers(name, state),
            false => Vec::new(),
        };
        let state = self.kustomizations.get_mut(name)?;
        if awaited.is_empty() {
            // How long they waited is remembered: what is built later must not make them wait anew.
            return None;
        }
        let deferred = Deferred { key: wanted.key.clone(), until: waited.unwrap_or(now + LONGEST_WAIT) };
        state.deferred = Some(Box::new(deferred));
        Some(awaited.join(", "))
    }

    /// Until when deletions of the run that has just reported wait, if any do.
    pub(super) fn deferred_until(&self, name: &ResourceName) -> Option<Moment> {
        let state = self.kustomizations.get(name)?;
        let waits = state.report.as_ref().is_some_and(|report| !report.deferred.is_empty());
        state.deferred.as_ref().filter(|_| waits).map(|deferred| deferred.until)
    }

    fn unbuilt_peers(&self, name: &ResourceName, state: &KustomizationState) -> Vec<String> {
        let source = state.source();
        let peers = self.kustomizations.iter().filter(|(other, peer)| {
            let held = matches!(&peer.cycle, State::Held(hold) if !matches!(hold, Hold::Dependency(_)));
            let apart = peer.aim.serial() != state.aim.serial();
            *other != name && !apart && peer.source() == source && !peer.suspended && !peer.deleted && !held
        });
        let unbuilt = peers.filter(|(other, peer)| {
            let built = peer.wanted.as_ref().map(|wanted| &wanted.key);
            let waiting = peer.waiting.as_ref().map(|waiting| &waiting.key);
            self.build_key(other).is_some_and(|key| ![built, waiting].contains(&Some(&key)))
        });
        unbuilt.map(|(other, _)| other.to_string()).collect()
    }

    /// A Kustomization has said what it wants: deletions of others may have waited for that.
    pub(super) fn peer_built(&mut self, name: &ResourceName) {
        let source = self.kustomizations.get(name).and_then(|state| state.source().cloned());
        let now = self.clock.now();
        let waiting = self.kustomizations.iter().filter(|(other, peer)| {
            let waits = peer.deferred.as_ref().is_some_and(|deferred| now < deferred.until);
            *other != name && waits && matches!(peer.cycle, State::Idle { .. }) && peer.source() == source.as_ref()
        });
        let ready: Vec<_> = waiting
            .filter(|(other, peer)| self.unbuilt_peers(other, peer).is_empty())
            .map(|(other, _)| other.clone())
            .collect();
        ready.iter().for_each(|other| self.admit(other, Cause::Dependency));
    }

    /// Builds what one wants that has to wait for its dependencies, so that others know.
    pub(super) fn build_ahead(&mut self, name: &ResourceName) {
        let Some(key) = self.build_key(name) else { return };
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let built = state.wanted.as_ref().is_some_and(|wanted| wanted.key == key);
        if built || state.ahead.as_deref() == Some(&key) {
            return;
        }
        let Some(spec) = state.spec.clone() else { return };
        state.ahead = Some(Box::new(key.clone()));
        let (Some(source), Ok(inputs)) = (self.shared_source(&spec.source), self.inputs_of(name, &spec)) else {
            return;
        };
        let (shared, owner) = (self.shared.clone(), name.clone());
        self.answer(async move {
            let built = run::wanted(&shared, &spec, &inputs, &source, &key, None).await;
            Event::Built(owner, key, built.map(|(wanted, _)| (wanted, false)))
        });
    }

    /// Something was built that no run waits for.
    pub(super) fn built_ahead(&mut self, name: &ResourceName, key: &BuildKey, built: Built) {
        match built {
            Ok((wanted, _)) if self.build_key(name).as_ref() == Some(key) => {
                let Some(state) = self.kustomizations.get_mut(name) else { return };
                // What a run works on stays with it.
                if state.cycle.stage().is_some() {
                    return;
                }
                self.shared.claims.borrow_mut().mean(name, wanted.desired.keys());
                state.wanted = Some(wanted);
                self.peer_built(name);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(kustomization = %name, %error, "it cannot be built ahead"),
        }
    }
}
