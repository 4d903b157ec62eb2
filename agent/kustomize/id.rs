//! What an object is called: group, version, kind, name, namespace.
//!
//! The rules are those of kustomize's `resid` package. An object in no namespace and one in `default` count as in the
//! same one; kinds that the Kubernetes schema knows to be cluster-scoped are in a namespace of their own.

use crate::yaml::Node;
use std::collections::HashSet;
use std::fmt;
use std::sync::OnceLock;

/// Group, version and kind; as a selector, an empty part matches anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Gvk {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

/// An object's full name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) gvk: Gvk,
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Whether the schema says that the kind lives outside namespaces.
    pub(crate) cluster_scoped: bool,
}

/// The namespace under which objects outside any namespace are compared.
const NO_NAMESPACE: &str = "_non_namespaceable_";

impl Gvk {
    /// Splits `group/version`.
    pub(crate) fn new(api_version: &str, kind: &str) -> Gvk {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Gvk { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// `group/version`, or the version alone for the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether each part that `selector` gives is the same here.
    pub(crate) fn is_selected_by(&self, selector: &Gvk) -> bool {
        let fits = |want: &str, have: &str| want.is_empty() || want == have;
        fits(&selector.group, &self.group) && fits(&selector.version, &self.version) && fits(&selector.kind, &self.kind)
    }

    fn is_cluster_scoped(&self) -> bool {
        static KINDS: OnceLock<HashSet<(&str, &str)>> = OnceLock::new();
        let kinds = KINDS.get_or_init(|| {
            let lines = include_str!("data/clusterscoped.txt").lines();
            lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' ')).collect()
        });
        kinds.contains(&(self.api_version().as_str(), self.kind.as_str()))
    }
}

impl Id {
    /// The name that a tree gives itself.
    pub(crate) fn of(node: &Node) -> Id {
        let gvk = Gvk::new(text_at(node, "apiVersion"), text_at(node, "kind"));
        let cluster_scoped = gvk.is_cluster_scoped();
        Id {
            gvk,
            name: meta_text(node, "name").to_owned(),
            namespace: meta_text(node, "namespace").to_owned(),
            cluster_scoped,
        }
    }

    /// The namespace for comparisons.
    pub(crate) fn effective_namespace(&self) -> &str {
        match self.namespace.as_str() {
            _ if self.cluster_scoped => NO_NAMESPACE,
            "" => "default",
            namespace => namespace,
        }
    }

    /// Same kind, name and effective namespace.
    pub(crate) fn is_same(&self, other: &Id) -> bool {
        self.gvk == other.gvk && self.name == other.name && self.effective_namespace() == other.effective_namespace()
    }

    /// Whether each part that `selector` gives is the same here.
    pub(crate) fn is_selected_by(&self, selector: &Id) -> bool {
        (selector.name.is_empty() || selector.name == self.name)
            && (selector.namespace.is_empty() || selector.effective_namespace() == self.effective_namespace())
            && self.gvk.is_selected_by(&selector.gvk)
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.api_version().as_str(), self.kind.as_str()) {
            ("", "") => f.write_str("any kind"),
            ("", kind) => f.write_str(kind),
            (version, kind) => write!(f, "{version} {kind}"),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            _ if self.name.is_empty() => write!(f, "{}", self.gvk),
            "" => write!(f, "{} {}", self.gvk, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.gvk, self.name),
        }
    }
}

/// The text of a scalar member, or nothing.
pub(crate) fn text_at<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Node::as_text).unwrap_or_default()
}

/// The text of a scalar in `metadata`, or nothing; null counts as nothing.
pub(crate) fn meta_text<'n>(node: &'n Node, key: &str) -> &'n str {
    match node.at(&["metadata", key]) {
        Some(value) if !value.is_null() => value.as_text().unwrap_or_default(),
        _ => "",
    }
}
