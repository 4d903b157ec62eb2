//! What Kubernetes names: kinds and objects.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gvk {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version within the group.
    pub version: String,
    /// The kind.
    pub kind: String,
}

impl Gvk {
    /// The kind named by an object's `apiVersion` and `kind`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

/// Which object: the same whatever version it is written in, as the API server sees it.
///
/// It is named in many places at once (what is wanted, what is there, whose it is), so that clones share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "ObjectParts", into = "ObjectParts")]
pub struct ObjectId(Arc<ObjectParts>);

/// Something about each of some objects, in one block and in their order: most Kustomizations have few objects, and a tree
/// would leave most of its nodes empty. Many new ones are to be added by `extend`, which sorts once.
pub type ObjectMap<V> = LiteMap<ObjectId, V>;

/// What an [`ObjectId`] is made of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectParts {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; empty for an object of the whole cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Deref for ObjectId {
    type Target = ObjectParts;

    fn deref(&self) -> &ObjectParts {
        &self.0
    }
}

impl From<ObjectParts> for ObjectId {
    fn from(parts: ObjectParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl From<ObjectId> for ObjectParts {
    fn from(id: ObjectId) -> Self {
        Arc::unwrap_or_clone(id.0)
    }
}

impl ObjectId {
    /// The object `name` of a kind; `group` is empty for the core group, `namespace` for an object of the whole cluster.
    pub fn new(
        group: impl Into<String>,
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        let (group, kind, namespace, name) = (group.into(), kind.into(), namespace.into(), name.into());
        Self::from(ObjectParts { group, kind, namespace, name })
    }

    /// The id in Flux's inventory: `<namespace>_<name>_<group>_<kind>`.
    ///
    /// Source: `fluxcd/cli-utils` object metadata string; a `:` in an RBAC name is written as `__`.
    pub fn inventory_key(&self) -> String {
        let name = self.name.replace(':', "__");
        format!("{}_{}_{}_{}", self.namespace, name, self.group, self.kind)
    }

    /// The object that a key of Flux's inventory names, or nothing where the text is not such a key.
    pub fn from_inventory_key(key: &str) -> Option<Self> {
        let (namespace, rest) = key.split_once('_')?;
        let (rest, kind) = rest.rsplit_once('_')?;
        let (name, group) = rest.rsplit_once('_')?;
        if name.is_empty() || kind.is_empty() {
            return None;
        }
        Some(Self::new(group, kind, namespace, name.replace("__", ":")))
    }
}

impl fmt::Display for ObjectId {
    /// `Deployment/shop/till`, as Flux prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_keys_round_trip() {
        for (key, text) in [
            ("shop_till_apps_Deployment", "Deployment/shop/till"),
            ("_shop__Namespace", "Namespace/shop"),
            ("_system__node_rbac.authorization.k8s.io_ClusterRole", "ClusterRole/system:node"),
        ] {
            let id = ObjectId::from_inventory_key(key).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(id.inventory_key(), key);
        }
        for key in ["", "a_b", "_____", "a__g_K"] {
            assert_eq!(ObjectId::from_inventory_key(key), None, "{key}");
        }
    }

    #[test]
    fn the_core_group_has_no_name() {
        assert_eq!(Gvk::new("v1", "Pod").api_version(), "v1");
        assert_eq!(Gvk::new("apps/v1", "Deployment").api_version(), "apps/v1");
    }
}
