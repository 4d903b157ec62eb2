//! The API server's own record of who asked for what.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// One request that the API server answered (or, for a watch, began to answer).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `ResponseComplete`, for a watch also `ResponseStarted`; `Panic`.
    pub stage: String,
    /// get, list, watch, create, update, patch, delete, deletecollection. Server-side apply is a patch.
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// When it came.
    #[serde(rename = "requestReceivedTimestamp")]
    pub received: Timestamp,
    /// Who it says it is.
    #[serde(default)]
    pub user_agent: String,
    /// Who it proved to be.
    pub user: AuditUser,
    /// On whose behalf it asked, where it was another's.
    #[serde(default)]
    pub impersonated_user: Option<AuditUser>,
    /// What it is about; absent for paths that are no resource.
    #[serde(default)]
    pub object_ref: ObjectRef,
    /// What came of it.
    #[serde(default)]
    pub response_status: AuditStatus,
}

/// The user of an [`AuditEvent`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AuditUser {
    /// The user's name.
    #[serde(default)]
    pub username: String,
}

/// The object of an [`AuditEvent`]. Empty where the request named none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Plural, as in the path.
    pub resource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// API group.
    pub api_group: String,
    /// For instance `status`.
    pub subresource: String,
}

/// The answer of an [`AuditEvent`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditStatus {
    /// HTTP status.
    pub code: u16,
}

impl AuditEvent {
    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// Everything but what the control plane itself does, without bodies.
pub(crate) fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "users": ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "kwok"],
            },
            { "level": "None", "userGroups": ["system:serviceaccounts:kube-system"] },
            { "level": "Metadata" },
        ],
    })
}

/// Reads the log. A line that is being written is left for the next time.
pub(crate) fn read(file: &Path) -> Result<Vec<AuditEvent>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not an audit event: {line}")))
        .collect()
}
