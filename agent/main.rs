//! The `wickie` command: arguments, then the work, then an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use jiff::Timestamp;
use tokio::runtime::LocalRuntime;
use wickie::cli::{Cli, CliError, Exit, Look, Out, start_logging};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.logging());
    let mut out = Out::to_terminal(Look::of_stdout(Timestamp::now()));
    let exit = execute(cli, &mut out).unwrap_or_else(|error| out.failed(&error));
    exit.into()
}

fn execute(cli: Cli, out: &mut Out) -> Result<Exit, CliError> {
    let runtime = LocalRuntime::new().map_err(CliError::Setup)?;
    runtime.block_on(cli.execute(out))
}
