//! What sets a run off.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What set a run of a Kustomization off. Ordered by how much it matters: of two causes the greater is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Its interval has passed.
    Interval,
    /// An earlier run failed.
    Retry,
    /// A dependency has become ready.
    Dependency,
    /// The cluster is no longer as it was left.
    Drift,
    /// The agent has started.
    Start,
    /// Somebody asked for it.
    Request,
    /// Its window has opened, and something waits for that.
    Window,
    /// Its spec, or something it names, has changed.
    Spec,
    /// An earlier revision is put back, or that is ended.
    Rollback,
    /// Its source has a new snapshot.
    Revision,
}

impl Cause {
    const ALL: [Self; 10] = [
        Self::Interval,
        Self::Retry,
        Self::Dependency,
        Self::Drift,
        Self::Start,
        Self::Request,
        Self::Window,
        Self::Spec,
        Self::Rollback,
        Self::Revision,
    ];

    /// The cause in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Retry => "retry",
            Self::Dependency => "dependency",
            Self::Drift => "drift",
            Self::Start => "start",
            Self::Request => "request",
            Self::Window => "window",
            Self::Spec => "spec",
            Self::Rollback => "rollback",
            Self::Revision => "revision",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Cause {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or(())
    }
}
