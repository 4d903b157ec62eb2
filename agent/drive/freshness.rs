//! What is said of a source beside whether it is ready: how its floor began, and how old its newest commit is.

use jiff::Timestamp;
use wickie_model::{ConditionStatus, ResourceKind, ResourceName, Revision, Severity, condition_type};

use super::Drive;
use super::records::Say;
use crate::config::MaxAge;
use crate::source::Began;
use crate::store::Record;

/// The newest commit is old; nothing is refused yet.
const AGING: &str = "Aging";
/// The newest commit is older than `max-age`.
const TOO_OLD: &str = "TooOld";

impl Drive {
    /// Says how a floor began: that nothing was held against it, and why.
    pub(super) fn floor_began(&mut self, name: &ResourceName, revision: &Revision, began: &Began) {
        let (reason, severity, how) = match began {
            Began::FirstContact { given: true } => ("Given", Severity::Info, "it fits the floor that this node's configuration gives".to_owned()),
            Began::FirstContact { given: false } => ("FirstContact", Severity::Info, "it was the first contact, which is trusted once; floors in the node's configuration would say what to expect".to_owned()),
            Began::Track { before } => {
                let what = format!("the spec names another URL or reference than before ({}, at {}), and what was accepted there no longer counts", before.track, before.commit);
                ("NewTrack", Severity::Info, what)
            }
            Began::Permit { from, signer } => {
                ("Permitted", Severity::Info, format!("history went back from {from}, by a permit of {signer}"))
            }
        };
        let resource = wickie_model::Resource::new(ResourceKind::GitRepository, name.clone());
        let message = format!("a new floor begins at '{revision}': {how}");
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| {
            conditions.set(condition_type::FLOOR, ConditionStatus::True, reason, message.clone(), generation, now);
        });
        self.say(&resource, Say { severity, reason, message, revision: Some(revision) });
    }

    /// Says once that a source's newest commit grows old, and once that it is too old. It stays enforced.
    pub(super) fn look_at_age(&mut self, name: &ResourceName) {
        let Some(state) = self.sources.get(name) else { return };
        let Some(max_age) = state.spec().map(|spec| spec.source.max_age) else { return };
        let (committed, revision) = (state.committed(), state.revision().cloned());
        let now = self.shared.git.later_of(Timestamp::now());
        let said = match (max_age, committed) {
            (Some(max_age), Some(committed)) => Some(judge(max_age, committed, now)),
            _ => None,
        };
        let resource = wickie_model::Resource::new(ResourceKind::GitRepository, name.clone());
        let before = self.reason_of(&resource, condition_type::FRESH);
        self.set_status(&resource, |conditions, _, generation| match &said {
            Some((status, reason, message)) => {
                conditions.set(condition_type::FRESH, *status, reason, message.clone(), generation, Timestamp::now());
            }
            None => conditions.remove(condition_type::FRESH),
        });
        if let Some((ConditionStatus::False, reason, message)) = said
            && before.as_deref() != Some(reason)
        {
            self.say(&resource, Say { severity: Severity::Error, reason, message, revision: revision.as_ref() });
        }
    }

    fn reason_of(&self, resource: &wickie_model::Resource, type_: &str) -> Option<String> {
        let conditions = self.records.get(resource).map(Record::conditions)?;
        conditions.get(type_).map(|condition| condition.reason.clone())
    }
}

/// What is to be said of a commit of this age. The words stay the same while it does.
fn judge(max_age: MaxAge, committed: Timestamp, now: Timestamp) -> (ConditionStatus, &'static str, String) {
    let at = |age: std::time::Duration| committed.saturating_add(age).unwrap_or(Timestamp::MAX);
    let limit = at(max_age.limit());
    let newest = format!("the newest verified commit was made at {committed}, and max-age is {max_age}");
    if now >= limit {
        let message = format!(
            "{newest}: either Git has had nothing new, or somebody keeps newer commits from this node. It stays enforced; nothing as old is adopted any more"
        );
        (ConditionStatus::False, TOO_OLD, message)
    } else if now >= at(max_age.warning()) {
        (ConditionStatus::False, AGING, format!("{newest}: from {limit} on it is too old"))
    } else {
        (ConditionStatus::True, "Fresh", newest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_commit_ages_in_two_steps() {
        let committed: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let max_age = MaxAge::parse("30d").unwrap();
        let after = |days: u64| {
            let now = committed + Duration::from_secs(days * 24 * 3600);
            let (status, reason, message) = judge(max_age, committed, now);
            assert!(message.contains("2026-11-01") && message.contains("30d"), "{message}");
            (status, reason)
        };
        assert_eq!(after(19), (ConditionStatus::True, "Fresh"));
        assert_eq!(after(20), (ConditionStatus::False, AGING));
        assert_eq!(after(29), (ConditionStatus::False, AGING));
        assert_eq!(after(30), (ConditionStatus::False, TOO_OLD));
        assert_eq!(after(4_000), (ConditionStatus::False, TOO_OLD));
    }
}
