//! What the node's owner decides: security policy that no tenant and no object in the cluster can change.

use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use wickie_model::{Budget, Window};

use super::{GivenFloors, Invalid, MaxAge, Verification};

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
    /// How low the history of a source may begin.
    pub floors: GivenFloors,
    /// How old a commit may be and still be adopted, from any source; a source may ask for less.
    pub max_age: Option<MaxAge>,
    /// Where permits for steps back may lie; not written, but made of where the configuration and the data are.
    #[serde(skip)]
    pub permits: Vec<PathBuf>,
    /// Whether an object may name one of another namespace.
    pub cross_namespace_references: bool,
    /// Whether a variable without a value and without a default fails the build. Source: the feature gate
    /// `StrictPostBuildSubstitutions` of kustomize-controller 1.9, with its default.
    pub strict_substitutions: bool,
    /// Whether a dependency with a `readyExpr` must have its condition Ready as well. Source: the feature gate
    /// `AdditiveCELDependencyCheck` of kustomize-controller 1.9, with its default.
    pub additive_ready_expressions: bool,
    /// Folders of this node whose Git repositories an object in the cluster may name by `file://`. None by default: who
    /// may write such an object must not read the node's disk. An object that stands in a file may name any.
    pub local_repositories: Vec<PathBuf>,
    /// Whose signatures are believed over which sources, whatever the sources themselves say.
    pub verification: Verification,
    /// Why the configuration cannot be read, if it cannot: what it asks for is then not known, and no source is followed.
    #[serde(skip)]
    pub unreadable: Option<String>,
    /// When sources may be asked for news; an object's own window narrows it.
    #[serde(deserialize_with = "written")]
    pub fetch_window: Option<Window>,
    /// When changes may be made to the cluster; an object's own window narrows it.
    #[serde(deserialize_with = "written")]
    pub apply_window: Option<Window>,
    /// How much all sources together may cost.
    #[serde(deserialize_with = "written")]
    pub fetch_budget: Option<Budget>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            cluster: None,
            require_verified: false,
            rollback_needs_permit: false,
            cross_namespace_references: true,
            strict_substitutions: true,
            additive_ready_expressions: false,
            local_repositories: Vec::new(),
            verification: Verification::default(),
            unreadable: None,
            fetch_window: None,
            apply_window: None,
            fetch_budget: None,
            floors: GivenFloors::default(),
            max_age: None,
            permits: Vec::new(),
        }
    }
}

impl NodeConfig {
    /// A configuration of which it is not known what it asks for.
    pub(super) fn unreadable(why: String) -> Self {
        Self { unreadable: Some(why), ..Self::default() }
    }

    /// Keeps what was asked for before, where this was read from files that are broken in part.
    pub(crate) fn stays_as_strict_as(&mut self, before: Self) {
        // Where permits may lie is no policy: whether there was one is not seen by it.
        let none = Self { permits: before.permits.clone(), ..Self::default() };
        if self.unreadable.is_some() && before != none {
            *self = before;
            return;
        }
        self.floors.add_missing(&before.floors);
        self.max_age = self.max_age.into_iter().chain(before.max_age).min();
        self.require_verified |= before.require_verified;
        self.additive_ready_expressions |= before.additive_ready_expressions;
        if self.verification.is_empty() {
            self.verification = before.verification;
        }
        self.fetch_window = self.fetch_window.take().or(before.fetch_window);
        self.apply_window = self.apply_window.take().or(before.apply_window);
        self.fetch_budget = self.fetch_budget.take().or(before.fetch_budget);
    }

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

/// A value in its written form.
fn written<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn windows_and_budgets_are_read_and_refused_in_words() {
        let node = |spec: Value| NodeConfig::from_document(&json!({ "spec": spec }));
        let read = node(json!({"fetch-window": "22:00-04:00", "fetch-budget": "5Mi/day"})).unwrap();
        assert_eq!(
            (read.fetch_window.unwrap().to_string(), read.fetch_budget.unwrap().bytes),
            ("22:00-04:00".into(), 5 << 20)
        );
        for (field, value) in [("fetch-window", "at night"), ("apply-window", "at noon"), ("fetch-budget", "5Mi")] {
            let error = node(json!({ field: value })).unwrap_err().to_string();
            assert!(error.contains(value), "{error}");
        }
    }
}
