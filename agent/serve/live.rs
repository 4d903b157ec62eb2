//! What only the running agent knows: it changes all the time, and none of it is worth a write to the disk.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wickie_model::{Health, ObjectId, ResourceName};

use crate::report::Sending;

/// What the agent tells of itself, each part as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The cluster, once there was a first word with it.
    pub cluster: Option<ClusterLive>,
    /// GitRepositories.
    pub sources: BTreeMap<ResourceName, SourceLive>,
    /// Kustomizations.
    pub kustomizations: BTreeMap<ResourceName, KustomizationLive>,
    /// Providers, from [`crate::report::Reporter::states`].
    pub providers: BTreeMap<ResourceName, Sending>,
}

/// The Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLive {
    /// Its address.
    pub server: String,
    /// Whether the last request was answered.
    pub reachable: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The way to a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceLive {
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Timestamp>,
    /// When it is asked next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_poll: Option<Timestamp>,
}

/// Where a Kustomization is in its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// Something keeps it from running.
    Held,
    /// Its manifests are being built.
    Building,
    /// They are being applied.
    Applying,
    /// Their health is waited for.
    Waiting,
}

/// How it goes with a Kustomization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KustomizationLive {
    /// Where it is.
    pub phase: Phase,
    /// When it runs next, unasked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Timestamp>,
    /// How many of its objects are how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Counts>,
    /// The objects that are not well, worst first; the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// How many objects are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// Not yet there.
    pub in_progress: u32,
    /// Will not get there by themselves, or could not be applied.
    pub failed: u32,
}

/// An object that is not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Which.
    pub object: ObjectId,
    /// How it is; nothing where it could not be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What shows it.
    pub message: String,
}
