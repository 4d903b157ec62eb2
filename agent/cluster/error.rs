//! What the API server answered, and what that means for trying again.

use std::time::Duration;

use kube::core::Status;

/// A request that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{tried}: {why}")]
pub struct ApiError {
    /// What was tried, on what: `apply Deployment/shop/till`.
    pub tried: String,
    /// What came back.
    pub why: String,
    /// What it means.
    pub class: Class,
}

/// What a failure means for trying again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// No answer: the API server is away, or the way to it is.
    Unreachable,
    /// The server has too much to do; it may say how long to leave it alone.
    Busy(Option<Duration>),
    /// Another manager owns fields that the request would change.
    Conflict(Vec<FieldConflict>),
    /// The object was changed in between, or exists already.
    Stale,
    /// A field may not change once it is set.
    Immutable,
    /// The object is not valid.
    Invalid,
    /// We may not do this.
    Forbidden,
    /// The credentials are not accepted.
    Unauthorized,
    /// The object is not there.
    NotFound,
    /// No such kind is served.
    NoSuchKind,
    /// The namespace is not there, or is going away.
    NoNamespace,
    /// A webhook or policy refused it, or could not be asked.
    Refused,
    /// It is larger than the server takes.
    TooLarge,
    /// The version a watch was to go on from is no longer kept (410).
    Expired,
    /// The Lease is another agent's: nothing was sent.
    Fenced,
    /// Something else.
    Other,
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldConflict {
    /// The manager.
    pub manager: String,
    /// The field's path.
    pub field: String,
}

impl Class {
    /// Whether it may well work in a moment, with the same request.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy(_) | Self::Stale | Self::Expired | Self::Fenced)
    }

    /// Whether the server itself did not answer, or has no time: everything else would fare no better.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy(_) | Self::Fenced)
    }
}

impl ApiError {
    /// The same, without the server's words where those may repeat what was sent: for objects that hold secrets.
    pub fn hidden(self) -> Self {
        let what = match self.class {
            Class::Invalid => "the API server says that it is not valid",
            Class::Immutable => "the API server says that a field may not change",
            Class::Refused => "a webhook or a policy refused it, or could not be asked",
            Class::Other | Class::TooLarge => "the API server refused it",
            _ => return self,
        };
        let why = format!(
            "{what}; its words are not shown, because they may repeat a secret value: apply it by hand to see them"
        );
        Self { why, ..self }
    }

    pub(super) fn from_status(tried: String, code: u16, status: &Status, retry_after: Option<Duration>) -> Self {
        Self { tried, why: describe(code, status), class: classify(code, status, retry_after) }
    }

    pub(super) fn unreachable(tried: String, why: impl ToString) -> Self {
        Self { tried, why: why.to_string(), class: Class::Unreachable }
    }

    pub(super) fn fenced(tried: String) -> Self {
        Self { tried, why: "nothing was sent: the Lease is another agent's".to_owned(), class: Class::Fenced }
    }

    pub(crate) fn other(tried: String, why: impl ToString) -> Self {
        Self { tried, why: why.to_string(), class: Class::Other }
    }

    /// From an error of kube's, which speaks for a whole request.
    pub(super) fn from_kube(tried: String, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(tried, status.code, status, None),
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::FromUtf8(_) => {
                Self::other(tried, error)
            }
            _ => Self::unreachable(tried, chain(error)),
        }
    }
}

/// An error and its sources in one line, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = next.source();
    }
    text
}

fn describe(code: u16, status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("HTTP {code}"),
        ("", reason) => format!("{reason} (HTTP {code})"),
        (message, _) => message.to_owned(),
    }
}

fn classify(code: u16, status: &Status, retry_after: Option<Duration>) -> Class {
    let details = status.details.as_ref();
    let message = status.message.as_str();
    let asked = details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
    let retry_after = retry_after.or_else(|| asked.map(|seconds| Duration::from_secs(seconds.into())));
    // An admission webhook answers with a code of its own choice; what it says comes first.
    if message.contains("admission webhook") || message.contains("failed calling webhook") {
        return Class::Refused;
    }
    match code {
        401 => Class::Unauthorized,
        403 if message.contains("is being terminated") => Class::NoNamespace,
        403 if message.contains("ValidatingAdmissionPolicy") || message.contains("violates PodSecurity") => {
            Class::Refused
        }
        403 => Class::Forbidden,
        404 if message.contains("namespaces") && message.contains("not found") => Class::NoNamespace,
        // A path that nothing is served under answers with no details.
        404 if details.is_none_or(|details| details.name.is_empty()) => Class::NoSuchKind,
        404 => Class::NotFound,
        409 => {
            let conflicts = conflicts(status);
            if conflicts.is_empty() { Class::Stale } else { Class::Conflict(conflicts) }
        }
        410 => Class::Expired,
        413 => Class::TooLarge,
        422 if message.contains("immutable")
            || message.contains("may not be changed")
            || message.contains("Forbidden: updates to") =>
        {
            Class::Immutable
        }
        400 | 422 => Class::Invalid,
        429 => Class::Busy(retry_after),
        500 | 502 | 503 | 504 => Class::Busy(retry_after),
        _ => Class::Other,
    }
}

/// The fields that others own, out of a conflict's causes: `conflict with "kubectl-edit" using apps/v1`.
fn conflicts(status: &Status) -> Vec<FieldConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| FieldConflict {
            manager: cause.message.split('"').nth(1).unwrap_or("an unnamed manager").to_owned(),
            field: cause.field.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(code: u16, status: Value) -> Class {
        ApiError::from_status("apply".into(), code, &serde_json::from_value(status).unwrap(), None).class
    }

    #[test]
    fn a_conflict_names_manager_and_field() {
        let status = json!({"reason": "Conflict", "code": 409, "details": {"causes": [{
            "reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas"
        }]}});
        let conflict = FieldConflict { manager: "kubectl-edit".into(), field: ".spec.replicas".into() };
        assert_eq!(class(409, status), Class::Conflict(vec![conflict]));
        assert_eq!(class(409, json!({"reason": "Conflict"})), Class::Stale);
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let object = json!({"message": "configmaps \"a\" not found", "details": {"name": "a", "kind": "configmaps"}});
        assert_eq!(class(404, object), Class::NotFound);
        let namespace =
            json!({"message": "namespaces \"shop\" not found", "details": {"name": "shop", "kind": "namespaces"}});
        assert_eq!(class(404, namespace), Class::NoNamespace);
        assert_eq!(
            class(404, json!({"message": "the server could not find the requested resource", "details": {}})),
            Class::NoSuchKind
        );
    }

    #[test]
    fn a_busy_server_says_for_how_long() {
        let busy = class(429, json!({"details": {"retryAfterSeconds": 7}}));
        assert_eq!(busy, Class::Busy(Some(Duration::from_secs(7))));
        assert!(busy.is_transient());
    }

    #[test]
    fn a_webhook_s_word_comes_before_its_code() {
        let denied = json!({"message": "admission webhook \"a.example\" denied the request: no"});
        assert_eq!(class(400, denied.clone()), Class::Refused);
        assert_eq!(class(403, denied), Class::Refused);
        let gone =
            json!({"message": "Internal error occurred: failed calling webhook \"a.example\": connection refused"});
        assert_eq!(class(500, gone), Class::Refused);
    }
}
