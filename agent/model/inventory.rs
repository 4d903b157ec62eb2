//! What a Kustomization has put into the cluster.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, ObjectMap};

/// What an object looked like right after our last apply: what drift is measured against.
///
/// Drift is not "desired differs from live" (defaulting, quantities, other owners): it is that our field set, or the
/// live values at those paths, differ from what the server answered to our last apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The object's uid: another one means that it was deleted and made again.
    pub uid: String,
    /// The resourceVersion it was read at; 0 where that is not known. One that is earlier shows an earlier state, whatever its
    /// metadata: a cluster that is restored from a backup has the managedFields of that time, and they hold no values.
    pub version: u64,
    /// Generation, labels, annotations, owners, finalizers and every managedFields entry but `subresource: status`.
    /// As long as it is the same, an event says nothing new and the object need not be read.
    pub metadata: Digest,
    /// The paths our field manager owns.
    pub fields: Digest,
    /// The live values at those paths.
    pub values: Digest,
}

/// How far an object of the inventory has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryState {
    /// Written down before its first apply: it may or may not be in the cluster.
    Planned,
    /// The API server has confirmed it.
    Applied,
    /// Its deletion was decided; it leaves the inventory when the API server confirms that it is gone.
    Deleting,
}

/// One object of an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The version of the API it was last applied with.
    pub version: String,
    /// How far it has come.
    pub state: EntryState,
    /// The digest of the manifest that was last applied, if any was.
    pub manifest: Option<Digest>,
    /// What it looked like then.
    pub fingerprint: Option<Arc<Fingerprint>>,
}

impl Entry {
    /// An object about to be applied for the first time.
    pub fn planned(version: impl Into<String>) -> Self {
        Self { version: version.into(), state: EntryState::Planned, manifest: None, fingerprint: None }
    }
}

/// All objects of one Kustomization.
pub type Inventory = ObjectMap<Entry>;
