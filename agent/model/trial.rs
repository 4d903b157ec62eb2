//! What became of a revision with a Kustomization.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ResourceName, Revision};

/// How a revision ended with a Kustomization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It has not ended: it is being applied, or its health is waited for.
    Trying,
    /// It was applied, and no health was waited for.
    Applied,
    /// It was applied and became healthy.
    Healthy,
    /// Not all of it could be applied.
    Failed,
    /// It was applied and did not become healthy in time; it is tried again.
    Unhealthy,
    /// It did not become healthy in time: the last healthy revision was put back, and it is not tried again.
    RolledBack,
    /// It did not become healthy in time: it stays, and is not tried again.
    Stopped,
    /// Somebody put an earlier revision back.
    SetBack,
    /// Something newer came before it had ended.
    Superseded,
    /// It could not be built, or its plan was refused: nothing of it was applied.
    Refused,
}

impl Ending {
    const ALL: [Self; 10] = [
        Self::Trying,
        Self::Applied,
        Self::Healthy,
        Self::Failed,
        Self::Unhealthy,
        Self::RolledBack,
        Self::Stopped,
        Self::SetBack,
        Self::Superseded,
        Self::Refused,
    ];

    /// The ending in a word or two.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Applied => "applied",
            Self::Healthy => "healthy",
            Self::Failed => "failed",
            Self::Unhealthy => "unhealthy",
            Self::RolledBack => "rolled-back",
            Self::Stopped => "stopped",
            Self::SetBack => "set-back",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Ending {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == text).ok_or(())
    }
}

/// A revision's time with a Kustomization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// Which Kustomization.
    #[serde(flatten)]
    pub name: ResourceName,
    /// The source that the revision was taken from.
    pub source: ResourceName,
    /// Which revision.
    pub revision: Revision,
    /// How it ended.
    pub ending: Ending,
    /// The revision that is kept in its stead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Revision>,
    /// When it was first tried, or last began anew.
    pub began_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended so, for people; empty where there is nothing to say.
    pub message: String,
}
