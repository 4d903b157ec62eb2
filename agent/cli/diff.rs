//! `wickie diff`: what a run would change now, as the agent sees it.
//!
//! With `-o json` the answer is `{"name": {"namespace", "name"}, "diff": TEXT}`. The text holds a unified diff for each object
//! that differs, between `live/ID` and `git/ID`; a line `+ ID ...` or `- ID ...` for one that would be made with its kind, or
//! would go; and lines that start with `#` for what could not be compared. It is empty where nothing differs.

use std::path::PathBuf;

use wickie_model::ResourceKind;

use super::build::BuildError;
use super::target::Target;
use super::{CliError, Exit, Format, Out, Settings};
use crate::serve::Agent;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Kustomization
    #[arg(value_name = "NAME")]
    target: Target,
    /// Compare this folder on the agent's disk instead of what is in Git, with the Kustomization's own fields and values
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// End with 3 where something differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let agent = Agent::connect(&settings.data_dir).await?;
    let path = match args.path {
        Some(folder) => Some(folder.canonicalize().map_err(|cause| BuildError::Folder { folder, cause })?),
        None => None,
    };
    let diff = agent.diff(resource.name.clone(), path).await??;
    let differs = !diff.is_empty();
    match settings.format {
        Format::Table => out.text(&diff)?,
        format => {
            out.answer(format, &serde_json::json!({"name": resource.name, "diff": diff}), |_, _| String::new())?
        }
    }
    if !differs {
        out.say(&format!("{resource}: the cluster is as Git wants it"))?;
    }
    Ok(if differs && args.exit_code { Exit::Differs } else { Exit::Done })
}
