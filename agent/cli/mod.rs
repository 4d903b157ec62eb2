//! What a person types and sees. One file a command.
//!
//! ```text
//! Cli (as written) --settings--> what a command needs --> the agent, or its data directory --> Out
//! ```
//!
//! Answers go to stdout, words about them to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 differs or not ready.
//! Everything that is shown is made by pure functions of the answer and a [`Look`]: the terminal's width, whether it
//! has colours, and what time it is.

mod args;
mod build;
mod crds;
mod diff;
mod doctor;
mod error;
mod events;
mod history;
mod install;
mod logging;
mod look;
mod out;
mod permit;
mod reconcile;
mod release;
mod rollback;
mod run;
mod status;
mod suspend;
mod table;
mod target;
mod text;
mod tree;
mod uninstall;
mod verify;
mod version;

pub use args::{Cli, Cluster, Format, Settings};
pub use build::BuildError;
pub use error::CliError;
pub use logging::{LogFormat, start as start_logging};
pub use look::Look;
pub use out::{Exit, Out};

use args::Command;

impl Cli {
    /// Does what was asked.
    pub async fn execute(self, out: &mut Out) -> Result<Exit, CliError> {
        let (command, settings) = self.settings()?;
        match command {
            Command::Run(args) => run::execute(args, &settings).await,
            Command::Status(args) => status::execute(args, &settings, out).await,
            Command::Reconcile(args) => reconcile::execute(args, &settings, out).await,
            Command::Suspend(args) => suspend::suspend(args, &settings, out).await,
            Command::Resume(args) => suspend::resume(args, &settings, out).await,
            Command::Rollback(args) => rollback::execute(args, &settings, out).await,
            Command::History(args) => history::execute(args, &settings, out).await,
            Command::Tree(args) => tree::execute(args, &settings, out).await,
            Command::Events(args) => events::execute(args, &settings, out).await,
            Command::Diff(args) => diff::execute(args, &settings, out).await,
            Command::Build(args) => build::execute(&args, &settings, out),
            Command::Verify(args) => verify::execute(args, &settings, out).await,
            Command::Permit(args) => permit::execute(args, &settings, out),
            Command::Release(args) => release::execute(args, &settings, out).await,
            Command::Uninstall(args) => uninstall::execute(args, &settings, out).await,
            Command::Doctor(args) => doctor::execute(args, &settings, out).await,
            Command::Install(args) => install::execute(args, &settings, out).await,
            Command::Crds => crds::execute(&settings, out),
            Command::Version => version::execute(&settings, out).await,
        }
    }
}

/// Compares what is shown with what was once found good: `tests/golden/cli`.
#[cfg(test)]
fn golden(name: &str, shown: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cli"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, shown));
}
