//! Log lines: on stderr, as text or JSON.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the process; `WICKIE_LOG` overrides how much is said (`warn,wickie=debug`).
pub fn start((format, verbose): (LogFormat, u8)) {
    let level = match verbose {
        // kube tells each failed connection as an error of its own; what it means is said by us.
        0 => "warn,kube_client=off,wickie=info",
        1 => "info,wickie=debug",
        _ => "debug,wickie=trace",
    };
    let filter = EnvFilter::try_from_env("WICKIE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    // A second start in one process keeps the first.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
