//! `wickie rollback`: an earlier revision is put back, until a newer commit comes.

use std::path::PathBuf;

use wickie_model::ResourceKind;

use super::reconcile::{Waiting, show};
use super::target::Target;
use super::{CliError, Exit, Out, Settings};
use crate::serve::{Agent, RollbackOrder};

/// A longer file is no permit.
const LONGEST: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["to", "resume"])))]
pub(super) struct Args {
    /// The Kustomization
    #[arg(value_name = "NAME")]
    target: Target,
    /// The revision to put back: as `wickie history` shows it, or the first seven digits of its commit or more
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Follow the newest revision again, also one that was refused
    #[arg(long)]
    resume: bool,
    /// A signed permit for the step, where the node asks for one
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    permit: Option<PathBuf>,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let permit = args.permit.map(read_permit).transpose()?;
    let agent = Agent::connect(&settings.data_dir).await?;
    let wait = args.waiting.wait();
    if wait {
        out.say(&format!("{resource}: asked; waiting for the outcome"))?;
    }
    let order = RollbackOrder { resource: resource.clone(), to: args.to, permit, wait };
    let outcome = args.waiting.answer(agent.rollback(order)).await?;
    show(&resource, &outcome, wait, settings, out)
}

fn read_permit(path: PathBuf) -> Result<String, CliError> {
    let failed = |source| CliError::File { path: path.clone(), source };
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    if size > LONGEST {
        return Err(failed(std::io::Error::other(format!("it has {size} bytes: that is no permit"))));
    }
    std::fs::read_to_string(&path).map_err(failed)
}
