//! What became of a step.

use wickie_model::{Digest, Fingerprint, ObjectId};
use wickie_plan::Step;

use crate::cluster::{ApiError, Class, FieldConflict};

/// What became of one step of a plan.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which object.
    pub id: ObjectId,
    /// The version of its API.
    pub version: String,
    /// What became of it.
    pub done: Done,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub enum Done {
    /// The server has it as Git wants it.
    Applied {
        /// Whether it was not there before.
        created: bool,
        /// The digest of the manifest that was sent.
        manifest: Digest,
        /// What it looks like now; nothing where the server tells no fields as ours.
        fingerprint: Option<Fingerprint>,
        /// The version the server gave it.
        resource_version: u64,
        /// Fields that were taken from other managers, because Git has them.
        taken: Vec<FieldConflict>,
    },
    /// It was there already, and is to be left as it is.
    Left,
    /// The server has confirmed that it is gone.
    Deleted,
    /// Its deletion is under way; finalizers or a grace period hold it.
    Deleting,
    /// It is no longer ours to look after; the text says why.
    Forgotten(String),
    /// Nothing was done; the text says what is in the way.
    Held(String),
    /// Nothing was done yet; the text says what for it waits.
    Waiting(String),
    /// The server was away before its turn came.
    NotTried,
    /// It failed.
    Failed(Failure),
}

/// Why a step failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was tried and what came back.
    pub message: String,
    /// What that means.
    pub class: Class,
}

impl From<&ApiError> for Failure {
    fn from(error: &ApiError) -> Self {
        Self { message: error.to_string(), class: error.class.clone() }
    }
}

impl Outcome {
    pub(super) fn of(step: &Step, done: Done) -> Self {
        Self { id: step.id.clone(), version: step.version.clone(), done }
    }

    pub(super) fn not_tried(step: &Step) -> Self {
        Self::of(step, Done::NotTried)
    }

    /// Whether the object is now as it shall be.
    pub fn succeeded(&self) -> bool {
        !matches!(self.done, Done::Failed(_) | Done::NotTried | Done::Held(_))
    }
}
