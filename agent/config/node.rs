//! What the node's owner decides: security policy that no tenant and no object in the cluster can change.

use serde::Deserialize;
use serde_json::Value;

use super::Invalid;

/// The document `apiVersion: wickie.dev/v1, kind: NodeConfig` in the configuration folder.
pub(super) const API_VERSION: &str = "wickie.dev/v1";
/// Its kind.
pub(super) const KIND: &str = "NodeConfig";

/// `NodeConfig.spec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NodeConfig {
    /// The cluster's name, as reports carry it.
    pub cluster: Option<String>,
    /// Whether a source without `verify` is refused.
    pub require_verified: bool,
    /// Whether an object may name one of another namespace.
    pub cross_namespace_references: bool,
    /// Whether a variable without a value and without a default fails the build. Source: the feature gate
    /// `StrictPostBuildSubstitutions` of kustomize-controller 1.9, with its default.
    pub strict_substitutions: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { cluster: None, require_verified: false, cross_namespace_references: true, strict_substitutions: true }
    }
}

impl NodeConfig {
    /// Reads a document of this kind.
    pub(super) fn from_document(document: &Value) -> Result<Self, Invalid> {
        let spec = document.get("spec").unwrap_or(&Value::Null);
        match spec {
            Value::Null => Ok(Self::default()),
            spec => Self::deserialize(spec).map_err(|error| Invalid::field("spec", error)),
        }
    }
}
