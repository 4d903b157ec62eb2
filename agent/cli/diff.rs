//! `wickie diff`: what a run would change now, as the agent sees it; also a run of another stored revision, or of what stands
//! in a folder.
//!
//! With `-o json` the answer is an object with the fields
//!
//! | field | |
//! |---|---|
//! | `apiVersion` | the version of this form |
//! | `name` | `namespace` and `name` of the Kustomization |
//! | `revision` | as it was asked for; left out without `--revision` |
//! | `path` | the folder, without links; left out without `--path` |
//! | `differs` | whether there is anything in `diff` |
//! | `diff` | a unified diff of each object that differs, between `live/ID` and `git/ID`; a line `+ ID ...` or `- ID ...` for one that would be made with its kind, or would go; lines that begin with `#` for what could not be compared |
//!
//! `ID` is `KIND/NAMESPACE/NAME` as in every message. Values of Secrets are masked. Fields may be added, none is taken away or
//! changes its meaning within an `apiVersion`.

use std::path::PathBuf;

use serde::Serialize;
use wickie_model::{ResourceKind, ResourceName};

use super::build::BuildError;
use super::target::Target;
use super::{CliError, Exit, Format, Out, Settings};
use crate::serve::{Against, Agent, view};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Kustomization
    #[arg(value_name = "NAME")]
    target: Target,
    /// Compare this folder on the agent's disk instead of what is in Git, with the Kustomization's own fields and values
    #[arg(long, value_name = "DIR", conflicts_with = "revision")]
    path: Option<PathBuf>,
    /// Compare this revision, of those that wickie history shows, by the first digits of its commit or as a whole
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// End with 3 where something differs
    #[arg(long)]
    exit_code: bool,
}

/// See the head of this file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    name: &'a ResourceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    differs: bool,
    diff: String,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let agent = Agent::connect(&settings.data_dir).await?;
    let path = match args.path {
        Some(folder) => Some(folder.canonicalize().map_err(|cause| BuildError::Folder { folder, cause })?),
        None => None,
    };
    let against = match (&path, &args.revision) {
        (Some(path), _) => Against::Folder(path.clone()),
        (None, Some(revision)) => Against::Revision(revision.clone()),
        (None, None) => Against::Followed,
    };
    let diff = agent.diff(resource.name.clone(), against).await??;
    let differs = !diff.is_empty();
    match settings.format {
        Format::Table => out.text(&diff)?,
        format => {
            let (revision, api_version) = (args.revision, view::API_VERSION);
            let answer = Answer { api_version, name: &resource.name, revision, path, differs, diff };
            out.answer(format, &answer, |_, _| String::new())?
        }
    }
    if !differs {
        out.say(&format!("{resource}: the cluster is as Git wants it"))?;
    }
    Ok(if differs && args.exit_code { Exit::Differs } else { Exit::Done })
}
