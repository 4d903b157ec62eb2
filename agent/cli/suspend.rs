//! `wickie suspend` and `wickie resume`.

use wickie_model::ResourceKind;

use super::reconcile::{Waiting, show, taken};
use super::target::Target;
use super::{CliError, Exit, Out, Settings};
use crate::serve::Agent;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A Kustomization; source/NAME for a GitRepository
    #[arg(value_name = "NAME")]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// A Kustomization; source/NAME for a GitRepository
    #[arg(value_name = "NAME")]
    target: Target,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn suspend(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let agent = Agent::connect(&settings.data_dir).await?;
    let outcome = agent.suspend(resource.clone()).await??;
    // How it stood when it was suspended is no success or failure of the order.
    out.answer(settings.format, &outcome, |_, look| taken(&resource, "is left as it is until `wickie resume`", look))?;
    Ok(Exit::Done)
}

pub(super) async fn resume(args: ResumeArgs, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let agent = Agent::connect(&settings.data_dir).await?;
    let outcome = args.waiting.answer(agent.resume(resource.clone(), args.waiting.wait())).await?;
    show(&resource, &outcome, args.waiting.wait(), settings, out)
}
