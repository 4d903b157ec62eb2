//! What only the running agent knows: it changes all the time, and none of it is worth a write to the disk.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use wickie_model::{Health, ObjectId, ResourceName};

use crate::report::Sending;
use crate::store::TrafficDay;

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
    /// What is waited for before the agent is fully at work, for people; empty once it is.
    pub starting: Vec<String>,
    /// Why it does not write to the cluster, where another agent does.
    pub stands_by: Option<String>,
    /// Requests to the API server since the start, by method and status; 0 where there was no answer.
    pub api_requests: Vec<((String, u16), u64)>,
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
    /// Why it is not asked by itself, where its fetch window is shut or its budget spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldLive>,
    /// What the link has cost.
    #[serde(default, skip_serializing_if = "TrafficLive::is_empty")]
    pub traffic: TrafficLive,
}

/// Why a source is not asked by itself, or something new is not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldLive {
    /// `OutsideWindow`, `BudgetSpent` or `ClockWrong`; `DependencyNotReady` where the window is a dependency's.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it goes on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What the link has cost a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficLive {
    /// The last days on which it cost anything, newest first.
    pub days: Vec<DayLive>,
    /// The budget that it is spent from; left out where there is none, or no agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetLive>,
}

impl TrafficLive {
    fn is_empty(&self) -> bool {
        self.days.is_empty() && self.budget.is_none()
    }
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayLive {
    /// Which, in the time zone of the budget, UTC without one.
    pub day: Date,
    /// Bytes received, with the heads of HTTP, without TLS.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Requests made.
    pub requests: u64,
}

impl From<TrafficDay> for DayLive {
    fn from(TrafficDay { day, received, sent, requests, .. }: TrafficDay) -> Self {
        Self { day, received, sent, requests }
    }
}

/// A budget, and what is spent of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetLive {
    /// As written.
    pub budget: String,
    /// Bytes of it.
    pub bytes: u64,
    /// Bytes spent; by all sources together where the budget is the node's.
    pub spent: u64,
    /// When it begins anew.
    pub renews: Timestamp,
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
    /// What waits, where its window for changes is shut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldLive>,
    /// The cluster that it is for, where that is not the agent's own, once there was a first word with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterLive>,
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
