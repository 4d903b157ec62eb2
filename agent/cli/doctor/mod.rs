//! `wickie doctor`: what keeps the agent from its work, or may one day, each with what to do about it.
//!
//! It looks by itself, so that it also helps where no agent runs, where the cluster is away, and where the store is lost. It
//! changes nothing; each source is asked for its references once, with its own credentials.
//!
//! With `-o json` the answer is
//!
//! ```json
//! {"apiVersion": "cli.wickie.dev/v1", "ok": false, "findings": [
//!   {"area": "disk", "verdict": "warn", "message": "...", "fix": "..."}]}
//! ```
//!
//! `area` is one of `config`, `agent`, `disk`, `clock`, `limits`, `api`, `rights`, `link`, `trust`; `verdict` is `ok`, `warn` or
//! `fail`; `fix` is left out where there is nothing to do. `ok` says that nothing fails. Exit codes: 0 nothing fails, 3
//! something does, 1 the answer could not be given.

mod api;
mod clock;
mod config;
mod disk;
mod finding;
mod limits;
mod process;
mod sources;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use super::{CliError, Cluster, Exit, Out, Settings, run};
use crate::config::files;
use crate::source::Git;
use crate::store::{FloorsFound, Store};
use finding::Diagnosis;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where objects are declared: YAML files, or folders of them [default: /etc/wickie/conf.d if it is there]
    #[arg(long, value_name = "DIR|FILE")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Ask no Git server, where each request costs money
    #[arg(long)]
    skip_link: bool,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let mut diagnosis = Diagnosis::default();
    let config = run::config(&args.config);
    let mut files = files::read(&config);
    files.node.permits.push(settings.data_dir.permits());
    config::look(&config, &files, &mut diagnosis);
    let process = process::look(&settings.data_dir, &mut diagnosis).await;
    let store = disk::look(&settings.data_dir, &mut diagnosis).await;
    let time_floor = match &store {
        Some(store) => store.time_floor().await.ok().flatten(),
        None => None,
    };
    clock::look(out.now(), time_floor, &mut diagnosis);
    limits::look(process.as_ref().map(|process| process.pid), &mut diagnosis);
    let cluster = api::look(&args.cluster, &mut diagnosis).await;
    let declared = sources::declared(&files, cluster.as_ref(), &mut diagnosis).await;
    if let Some(cluster) = &cluster {
        let by_namespace = process.as_ref().is_some_and(|process| process.by_namespace);
        api::rights(cluster, &declared, store.as_ref(), by_namespace, &mut diagnosis).await;
    }
    let git = match store {
        Some(store) => Git::new(store),
        None => Git::new(Store::in_memory().map_err(crate::serve::AgentError::Store)?),
    };
    let beside = match settings.data_dir.floors().read() {
        FloorsFound::Whole(floors) => floors,
        FloorsFound::Missing | FloorsFound::Damaged(_) => Vec::new(),
    };
    sources::look(&git, &declared, &files.node, &beside, !args.skip_link, out.now(), &mut diagnosis).await;
    out.answer(settings.format, &diagnosis.whole(), finding::page)?;
    Ok(if diagnosis.whole().ok { Exit::Done } else { Exit::Differs })
}
