//! Conditions, with the types and reasons that Flux's users and tools know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Condition types that wickie sets.
pub mod condition_type {
    /// The object is as its spec asks.
    pub const READY: &str = "Ready";
    /// Work is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// Work cannot go on without somebody's help.
    pub const STALLED: &str = "Stalled";
    /// The objects under `wait` and health checks are healthy.
    pub const HEALTHY: &str = "Healthy";
    /// A source has a snapshot to offer.
    pub const ARTIFACT_IN_STORAGE: &str = "ArtifactInStorage";
    /// A source is not asked for news for now, because its fetch window is shut or its budget is spent.
    pub const FETCH_HELD: &str = "wickie.dev/FetchHeld";
    /// Something new is not applied for now, because the Kustomization's window is shut. What was applied before is kept up.
    pub const APPLY_HELD: &str = "wickie.dev/ApplyHeld";
    /// How a source's floor began, below which its history may never go again. wickie's own.
    pub const FLOOR: &str = "Floor";
    /// A source's newest verified commit is not too old. wickie's own.
    pub const FRESH: &str = "Fresh";
    /// A source's revision carries a signature that was believed.
    pub const SOURCE_VERIFIED: &str = "SourceVerified";
}

/// Reasons, as Flux spells them; and `RolledBack`, which Flux has not.
///
/// Sources: `fluxcd/pkg/apis/meta/conditions.go`, `source-controller/api/v1`, `kustomize-controller/api/v1`.
pub mod reason {
    pub use self::names::*;
    #[allow(missing_docs, reason = "each is its own text")]
    mod names {
        pub const SUCCEEDED: &str = "Succeeded";
        pub const RECONCILIATION_SUCCEEDED: &str = "ReconciliationSucceeded";
        pub const RECONCILIATION_FAILED: &str = "ReconciliationFailed";
        pub const PROGRESSING: &str = "Progressing";
        pub const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
        pub const SUSPENDED: &str = "Suspended";
        pub const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
        pub const ARTIFACT_FAILED: &str = "ArtifactFailed";
        pub const BUILD_FAILED: &str = "BuildFailed";
        pub const HEALTH_CHECK_FAILED: &str = "HealthCheckFailed";
        pub const PRUNE_FAILED: &str = "PruneFailed";
        pub const ACCESS_DENIED: &str = "AccessDenied";
        pub const INVALID_SPEC: &str = "InvalidSpec";
        pub const ROLLED_BACK: &str = "RolledBack";
        pub const DRIFT_DETECTED: &str = "DriftDetected";
        pub const GIT_OPERATION_FAILED: &str = "GitOperationFailed";
        pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
        pub const INVALID_COMMIT_SIGNATURE: &str = "InvalidCommitSignature";
        pub const VERIFICATION_ERROR: &str = "VerificationError";
        // wickie's own.
        pub const OUTSIDE_WINDOW: &str = "OutsideWindow";
        pub const BUDGET_SPENT: &str = "BudgetSpent";
        pub const CLOCK_WRONG: &str = "ClockWrong";
    }
}

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the three values of a Kubernetes condition")]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// One condition, as `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One of [`condition_type`].
    #[serde(rename = "type")]
    pub type_: String,
    /// The status.
    pub status: ConditionStatus,
    /// One of [`reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// When the status last changed; whole seconds, as the API keeps it.
    pub last_transition_time: Timestamp,
    /// The generation of the spec this speaks of.
    #[serde(default)]
    pub observed_generation: i64,
}

/// An object's conditions: one of each type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// Sets a condition. The transition time moves only when the status does.
    pub fn set(
        &mut self,
        type_: &str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
        generation: i64,
        now: Timestamp,
    ) {
        let before = self.0.iter().position(|condition| condition.type_ == type_);
        let last_transition_time = match before.map(|at| &self.0[at]) {
            Some(old) if old.status == status => old.last_transition_time,
            _ => Timestamp::from_second(now.as_second()).unwrap_or(now),
        };
        let condition = Condition {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.into(),
            last_transition_time,
            observed_generation: generation,
        };
        match before {
            Some(at) => self.0[at] = condition,
            // Ready first: it is what people look for.
            None if type_ == condition_type::READY => self.0.insert(0, condition),
            None => self.0.push(condition),
        }
    }

    /// Takes a condition away.
    pub fn remove(&mut self, type_: &str) {
        self.0.retain(|condition| condition.type_ != type_);
    }

    /// The condition of a type.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of a type is there and `True`.
    pub fn is_true(&self, type_: &str) -> bool {
        self.get(type_).is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut conditions = Conditions::default();
        conditions.set(condition_type::RECONCILING, ConditionStatus::True, reason::PROGRESSING, "", 1, at(1));
        conditions.set(condition_type::READY, ConditionStatus::False, reason::BUILD_FAILED, "a", 1, at(10));
        conditions.set(condition_type::READY, ConditionStatus::False, reason::PRUNE_FAILED, "b", 2, at(20));
        let ready = conditions.get(condition_type::READY).unwrap();
        assert_eq!((ready.last_transition_time, ready.observed_generation), (at(10), 2));
        conditions.set(condition_type::READY, ConditionStatus::True, reason::SUCCEEDED, "", 2, at(30));
        assert_eq!(conditions.iter().next().unwrap().last_transition_time, at(30));
        conditions.remove(condition_type::RECONCILING);
        assert_eq!(conditions.iter().count(), 1);
    }
}
