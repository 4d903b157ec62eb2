//! What the node's owner decides: security policy that no tenant and no object in the cluster can change.

use std::path::{Component, Path, PathBuf};

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
    /// Whether `wickie rollback` takes a signed permit.
    pub rollback_needs_permit: bool,
    /// Whether an object may name one of another namespace.
    pub cross_namespace_references: bool,
    /// Whether a variable without a value and without a default fails the build. Source: the feature gate
    /// `StrictPostBuildSubstitutions` of kustomize-controller 1.9, with its default.
    pub strict_substitutions: bool,
    /// Folders of this node whose Git repositories an object in the cluster may name by `file://`. None by default: who
    /// may write such an object must not read the node's disk. An object that stands in a file may name any.
    pub local_repositories: Vec<PathBuf>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            cluster: None,
            require_verified: false,
            rollback_needs_permit: false,
            cross_namespace_references: true,
            strict_substitutions: true,
            local_repositories: Vec::new(),
        }
    }
}

impl NodeConfig {
    /// Reads a document of this kind.
    pub(super) fn from_document(document: &Value) -> Result<Self, Invalid> {
        let spec = document.get("spec").unwrap_or(&Value::Null);
        match spec {
            Value::Null => Ok(Self::default()),
            spec => Self::deserialize(spec).map_err(|error| Invalid::field("spec", error))?.checked(),
        }
    }

    /// A folder that is not written in full might be any.
    fn checked(self) -> Result<Self, Invalid> {
        fn plain(part: Component<'_>) -> bool {
            matches!(part, Component::RootDir | Component::Normal(_))
        }
        let whole = |folder: &&PathBuf| folder.is_absolute() && folder.components().all(plain);
        match self.local_repositories.iter().find(|folder| !whole(folder)) {
            Some(folder) => {
                let why = format!("{} is not an absolute path without `..`", folder.display());
                Err(Invalid::field("spec.local-repositories", why))
            }
            None => Ok(self),
        }
    }

    /// Whether an object in the cluster may name the repository at `path`, as the path is written. Where it leads is
    /// looked at once it is opened.
    pub(crate) fn allows_local(&self, path: &Path) -> bool {
        self.local_repositories.iter().any(|folder| path.starts_with(folder) && path != folder)
    }
}
