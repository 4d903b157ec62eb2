//! The objects that wickie itself is told by: Flux's kinds, from files or from the cluster.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The kinds wickie speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceKind {
    /// `source.toolkit.fluxcd.io/v1`: where snapshots come from.
    GitRepository,
    /// `kustomize.toolkit.fluxcd.io/v1`: what to keep in the cluster.
    Kustomization,
    /// `notification.toolkit.fluxcd.io/v1beta3`: where reports go.
    Provider,
    /// `notification.toolkit.fluxcd.io/v1beta3`: which reports go there.
    Alert,
    /// `notification.toolkit.fluxcd.io/v1`: who may ask for a reconciliation.
    Receiver,
}

impl ResourceKind {
    /// All of them, in the order in which they depend on each other.
    pub const ALL: [Self; 5] = [Self::GitRepository, Self::Kustomization, Self::Provider, Self::Alert, Self::Receiver];

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitRepository => "GitRepository",
            Self::Kustomization => "Kustomization",
            Self::Provider => "Provider",
            Self::Alert => "Alert",
            Self::Receiver => "Receiver",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::GitRepository => "source.toolkit.fluxcd.io",
            Self::Kustomization => "kustomize.toolkit.fluxcd.io",
            Self::Provider | Self::Alert | Self::Receiver => "notification.toolkit.fluxcd.io",
        }
    }

    /// The version that wickie reads and writes.
    pub fn version(self) -> &'static str {
        match self {
            Self::GitRepository | Self::Kustomization | Self::Receiver => "v1",
            Self::Provider | Self::Alert => "v1beta3",
        }
    }

    /// `group/version`.
    pub fn api_version(self) -> String {
        format!("{}/{}", self.group(), self.version())
    }

    /// The plural that stands in the API's paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::GitRepository => "gitrepositories",
            Self::Kustomization => "kustomizations",
            Self::Provider => "providers",
            Self::Alert => "alerts",
            Self::Receiver => "receivers",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ResourceKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// A name in a namespace. Clones share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "NameParts", into = "NameParts")]
pub struct ResourceName(Arc<NameParts>);

/// What a [`ResourceName`] is made of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameParts {
    /// The namespace; never empty.
    pub namespace: String,
    /// The name; never empty.
    pub name: String,
}

impl ResourceName {
    /// `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::from(NameParts { namespace: namespace.into(), name: name.into() })
    }
}

impl Deref for ResourceName {
    type Target = NameParts;

    fn deref(&self) -> &NameParts {
        &self.0
    }
}

impl From<NameParts> for ResourceName {
    fn from(parts: NameParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl From<ResourceName> for NameParts {
    fn from(name: ResourceName) -> Self {
        Arc::unwrap_or_clone(name.0)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which of the objects that wickie is told by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// The kind.
    pub kind: ResourceKind,
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
}

impl Resource {
    /// The object `name` of kind `kind`.
    pub fn new(kind: ResourceKind, name: ResourceName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for Resource {
    /// `Kustomization/flux-system/shop`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
