//! The agent as a process: whether one runs, answers, and is well.

use std::time::Duration;

use super::finding::{Area, Diagnosis};
use crate::serve::{Agent, AgentError, Control};
use crate::store::DataDir;

/// How long an answer may take that needs nobody else.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running agent.
pub(super) struct Process {
    pub(super) pid: u32,
    /// Whether it was started with `--by-namespace`.
    pub(super) by_namespace: bool,
}

pub(super) async fn look(dir: &DataDir, diagnosis: &mut Diagnosis) -> Option<Process> {
    let holder = dir.holder();
    let held_by = holder.clone().map(|pid| format!("process {pid} has {}", dir.path().display()));
    let agent = match Agent::connect(dir).await {
        Ok(agent) => agent,
        Err(AgentError::NotRunning { .. }) => {
            match held_by {
                Some(held) => diagnosis.fail(
                    Area::Agent,
                    format!("{held}, and does not listen"),
                    "it starts or ends just now, or hangs: look at its log, and end it if this lasts",
                ),
                None => diagnosis.warn(
                    Area::Agent,
                    format!("no agent runs on {}: nothing is repaired", dir.path().display()),
                    "systemctl start wickie, kubectl -n flux-system get pods, or: wickie run",
                ),
            }
            return None;
        }
        Err(error) => {
            diagnosis.fail(
                Area::Agent,
                crate::chain::chain(&error),
                "run this as the user that runs the agent, or as root",
            );
            return None;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, Control::Agent(agent).status()).await;
    let status = match answer {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            diagnosis.fail(Area::Agent, crate::chain::chain(&error), "look at its log, and start it anew");
            return None;
        }
        Err(_) => {
            let held = held_by.unwrap_or_else(|| "an agent runs".to_owned());
            let message =
                format!("{held}, and does not answer within {} s: it hangs, or was stopped", PATIENCE.as_secs());
            diagnosis.fail(Area::Agent, message, "start it anew; what it keeps and has to report is in its store");
            return holder.and_then(|pid| pid.parse().ok()).map(of);
        }
    };
    let agent = status.agent.as_ref()?;
    let said = format!("wickie {} runs as process {}", agent.version, agent.pid);
    match agent.version == env!("CARGO_PKG_VERSION") {
        true => diagnosis.ok(Area::Agent, said),
        false => diagnosis.warn(
            Area::Agent,
            format!("{said}, and this command is {}", env!("CARGO_PKG_VERSION")),
            "start the agent anew, or use its own command",
        ),
    }
    if !status.ok {
        diagnosis.warn(Area::Agent, "not all that it keeps is well", "wickie status says what, and what to do");
    }
    Some(of(agent.pid))
}

fn of(pid: u32) -> Process {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let by_namespace = arguments.split(|byte| *byte == 0).any(|argument| argument == b"--by-namespace");
    Process { pid, by_namespace }
}
