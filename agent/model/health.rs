//! What can be said of a live object's health.

use serde::{Deserialize, Serialize};

/// The states an object can be in, with kstatus' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// It is what its spec asks for.
    Current,
    /// It is on its way there.
    InProgress,
    /// It will not get there by itself.
    Failed,
    /// It is being deleted.
    Terminating,
    /// It is not there.
    NotFound,
}

/// A state and what shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The state.
    pub health: Health,
    /// Why, in a few words: `replicas: 1 of 3 ready`.
    pub message: String,
}

impl Verdict {
    /// A state with its reason.
    pub fn new(health: Health, message: impl Into<String>) -> Self {
        Self { health, message: message.into() }
    }
}
