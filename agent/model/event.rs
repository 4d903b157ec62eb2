//! What is reported: one event for each phase that a resource goes through.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Resource;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A phase went as it should.
    Info,
    /// A phase failed.
    Error,
}

/// One thing that happened to a resource. It becomes a Kubernetes Event, a line of `wickie events` and, through the
/// Alerts that select it, a row of the outbox for each Provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique for ever: a receiver that was sent an event twice knows it by this.
    pub id: String,
    /// Whom it is about.
    pub about: Resource,
    /// The uid of that object, where it lives in the cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// How much it matters.
    pub severity: Severity,
    /// When it happened, by the node's clock.
    pub at: Timestamp,
    /// One of [`crate::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// `revision` and the like: Flux's metadata keys without their prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}
