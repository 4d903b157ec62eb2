//! `wickie diff`: what a run would change now, as the agent sees it.

use wickie_model::ResourceKind;

use super::target::Target;
use super::{CliError, Exit, Format, Out, Settings};
use crate::serve::Agent;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Kustomization
    #[arg(value_name = "NAME")]
    target: Target,
    /// End with 3 where something differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let agent = Agent::connect(&settings.data_dir).await?;
    let diff = agent.diff(resource.name.clone()).await??;
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
