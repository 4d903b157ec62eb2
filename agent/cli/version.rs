//! `wickie version`.

use serde::Serialize;

use super::{CliError, Exit, Out, Settings};
use crate::serve::Agent;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    /// Of this command.
    version: &'static str,
    /// Of the agent that runs on the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
}

pub(super) async fn execute(settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    // Only an agent that answers has a version; why another does not is for `wickie status` to say.
    let agent = match Agent::connect(&settings.data_dir).await {
        Ok(agent) => agent.version().await.ok(),
        Err(_) => None,
    };
    let version = Version { version: env!("CARGO_PKG_VERSION"), agent };
    out.answer(settings.format, &version, |version, _| {
        let agent = version.agent.as_ref().map(|agent| format!("agent {agent}\n"));
        format!("wickie {}\n{}", version.version, agent.unwrap_or_default())
    })?;
    Ok(Exit::Done)
}
