//! Why a repository on this node cannot be read.

use std::io;
use std::path::PathBuf;

use wickie_model::Oid;

use crate::source::SourceErrorClass;
use crate::source::object::ObjectError;

/// A repository on this node that is not there, cannot be read, or is not what Git allows.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum LocalError {
    #[error("there is no Git repository at {}: {what}; is the medium plugged in and mounted?", path.display())]
    Absent { path: PathBuf, what: &'static str },
    #[error("{} leads out of the folders that this node's NodeConfig allows in local-repositories", path.display())]
    Outside { path: PathBuf },
    #[error("{} is a link or no plain file; in a repository on this node no link is followed", path.display())]
    NotPlain { path: PathBuf },
    #[error("could not read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the repository at {} {what}", path.display())]
    Unsupported { path: PathBuf, what: String },
    #[error("{} is malformed: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("the repository has more than {limit} {what}; the limit is there against endless data")]
    TooMuch { what: &'static str, limit: u64 },
    #[error("the repository does not have the object {0}")]
    NoObject(Oid),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("an object was made to collide with another one: {0}")]
    Collision(String),
}

impl LocalError {
    /// What to do about it.
    pub(crate) fn class(&self) -> SourceErrorClass {
        match self {
            // A medium comes and goes.
            Self::Absent { .. } | Self::Io { .. } => SourceErrorClass::Transient,
            Self::Outside { .. } | Self::NotPlain { .. } | Self::Unsupported { .. } => SourceErrorClass::InvalidSpec,
            _ => SourceErrorClass::BadContent,
        }
    }
}
