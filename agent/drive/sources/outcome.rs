//! What is said of a source, and who follows it.

use jiff::Timestamp;
use serde_json::Value;
use wickie_model::{ConditionStatus, ResourceName, Revision, Severity, condition_type, reason};
use wickie_plan::cycle::Cause;

use super::{Drive, Stage, resource};
use crate::chain::chain;
use crate::config::Declared;
use crate::drive::records::Say;
use crate::source::{Snapshot, Verified};
use crate::store::Record;

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

/// As Flux says it.
fn stored(revision: &Revision) -> String {
    format!("stored artifact for revision '{revision}'")
}

impl Drive {
    /// Whether it was said that a revision is here. What says so is written together with the event.
    pub(super) fn is_announced(&self, name: &ResourceName, revision: &Revision) -> bool {
        let said = self.records.get(&resource(name)).map(Record::conditions);
        said.as_ref()
            .and_then(|said| said.get(condition_type::ARTIFACT_IN_STORAGE))
            .is_some_and(|said| said.message == stored(revision))
    }

    pub(super) fn source_ready(&mut self, name: &ResourceName, revision: &Revision, new: Option<&Verified<Snapshot>>) {
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
    pub(super) fn collect(&self) {
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
    pub(super) fn source_failed(&mut self, name: &ResourceName, why: &'static str, message: String, stalled: bool) {
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
    pub(super) fn ask_followers(&mut self, source: &ResourceName, cause: Cause) {
        let followers: Vec<_> = self
            .kustomizations
            .iter()
            .filter(|(_, state)| state.source() == Some(source))
            .map(|(name, _)| name.clone())
            .collect();
        followers.iter().for_each(|name| self.admit(name, cause));
    }

    /// Answers whoever waited for a source.
    pub(super) fn source_was_asked(&mut self, name: &ResourceName) {
        let waiting: Vec<_> = self
            .kustomizations
            .iter_mut()
            .filter(|(_, state)| state.source() == Some(name))
            .filter_map(|(name, state)| std::mem::take(&mut state.after_source).then(|| name.clone()))
            .collect();
        waiting.iter().for_each(|name| self.admit(name, Cause::Request));
    }

    pub(in crate::drive) fn source_revision(&self, name: &ResourceName) -> Option<String> {
        self.sources.get(name)?.revision.as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wickie_model::ResourceKind;

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
}
