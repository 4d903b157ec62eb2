//! Why a command did not do what was asked.

use std::io;
use std::path::PathBuf;

use wickie_model::Resource;
use wickie_trust::{PermitError, SignError};

use super::Exit;
use super::build::BuildError;
use crate::cluster::{ApiError, ConnectError};
use crate::config::{Invalid, Problem};
use crate::drive::DriveError;
use crate::install::{RepositoryError, UnknownKinds};
use crate::serve::{AgentError, Refused};
use crate::source::SourceError;

/// A command that failed. [`super::Out::failed`] shows it, with its causes.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The agent or its data could not be reached.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The agent could not start, or had to stop.
    #[error(transparent)]
    Run(#[from] DriveError),
    /// The cluster could not be reached, or would not do it.
    #[error(transparent)]
    Cluster(#[from] ApiError),
    /// The cluster's address or credentials.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The agent will not do it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A folder could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It cannot be said what a repository takes.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// It cannot be said which rights it takes.
    #[error(transparent)]
    Kinds(#[from] UnknownKinds),
    /// `-o` names a file, and the command writes to none.
    #[error("{0:?} is no form of an answer: there are table, json and yaml")]
    NoForm(String),
    /// A file that was named could not be read.
    #[error("{path} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error(
        "there is no outcome after {waited}; it goes on in the agent: see `wickie status`, or wait longer with --timeout"
    )]
    Waited {
        /// How long that was.
        waited: String,
    },
    /// The arguments say what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A key cannot sign.
    #[error("nothing can be signed with {path}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: SignError,
    },
    /// A file is no permit.
    #[error("{path} is no permit")]
    Permit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<PermitError>,
    },
    /// What a server offers could not be found out.
    #[error("nothing can be said of it")]
    Source(#[source] Box<SourceError>),
    /// Nothing was accepted yet.
    #[error("the store holds nothing of {of} as it is declared now; --revision asks its server")]
    NothingStored {
        /// Whose.
        of: String,
    },
    /// No file declares it.
    #[error(
        "{resource} is declared in none of the configuration files{}; name their folder with --config, or its URL and --signers FILE",
        unread(.problems)
    )]
    NotDeclared {
        /// What was asked for.
        resource: Box<Resource>,
        /// What could not be read there.
        problems: Vec<Problem>,
    },
    /// Its declaration cannot be followed.
    #[error("{resource} cannot be followed as it is declared; with --signers FILE its Secret need not be at hand")]
    Spec {
        /// Whose.
        resource: Box<Resource>,
        /// Why.
        source: Box<Invalid>,
    },
    /// The answer could not be written.
    #[error("the answer cannot be written")]
    Output(#[source] io::Error),
    /// The answer could not be put into JSON.
    #[error("the answer cannot be put into JSON")]
    Json(#[source] serde_json::Error),
    /// The answer could not be put into YAML.
    #[error("the answer cannot be put into YAML: {0}")]
    Yaml(String),
    /// The process could not be set up.
    #[error("the process cannot be set up")]
    Setup(#[source] io::Error),
}

fn unread(problems: &[Problem]) -> String {
    let first = problems.first().map(|problem| format!(" ({problem})"));
    first.unwrap_or_default()
}

impl CliError {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Waited { .. } => Exit::Differs,
            Self::NoForm(_) => Exit::Usage,
            Self::Usage(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}
