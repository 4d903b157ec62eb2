//! Why a command did not do what was asked.

use std::io;

use super::Exit;
use super::build::BuildError;
use crate::drive::DriveError;
use crate::serve::{AgentError, Refused};

/// A command that failed. [`super::Out::failed`] shows it, with its causes.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The agent or its data could not be reached.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The agent could not start, or had to stop.
    #[error(transparent)]
    Run(#[from] DriveError),
    /// The agent will not do it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A folder could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// `-o` names a file, and the command writes to none.
    #[error("{0:?} is no form of an answer: there are table, json and yaml")]
    NoForm(String),
    /// A file that was named could not be read.
    #[error("{path} cannot be read")]
    File {
        /// The file.
        path: std::path::PathBuf,
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

impl CliError {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Waited { .. } => Exit::Differs,
            Self::NoForm(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}
