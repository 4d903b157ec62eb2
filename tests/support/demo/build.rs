//! The agent's binary.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Builds the agent, with cargo's own progress on stderr, and returns where it is.
///
/// The dev profile shares most of what it depends on with the demo itself, so that a first run waits least.
pub(crate) fn agent(release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "wickie", "--bin", "wickie", "--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(manifest.canonicalize().context("find the workspace")?);
    if release {
        command.arg("--release");
    }
    // What `cargo run` says of the demo's package is no word on the agent's; build scripts would run again for it.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo build")?;
    ensure!(output.status.success(), "the agent could not be built: cargo says why above");
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let binary = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    binary.context("cargo built no binary of the agent")
}
