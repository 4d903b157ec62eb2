//! Git gone, data dir kept, the agent killed: seconds from its start until drift is repaired that was made while it was dead.
//!
//!     cargo bench --bench last_orders [-- RUNS]
//!
//! `WICKIE_BINARY` names another binary to measure, for instance the static one. The goal is under 5 s, and the exit code says whether it was met.

#![allow(clippy::print_stdout, reason = "figures are for people")]

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use wickie_testbench::{ControlPlane, Fleet, Options, eventually, manifests};

/// What is enforced beside the object that drifts.
const OBJECTS: usize = 200;
const GOAL: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(120);
/// How often the object is looked at: the resolution of the figure.
const LOOK: Duration = Duration::from_millis(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let runs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let control_plane = ControlPlane::start(Options::api_only()).await?;
    let namespace = control_plane.namespace("last-orders").await?;
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await, &namespace);
    let binary = std::env::var("WICKIE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wickie").to_owned());
    println!("{binary}: {OBJECTS} objects, {runs} runs");

    let fleet = Fleet::new("last-orders", &binary, control_plane.kubeconfig(), namespace.clone())?;
    fleet.repo.write_all(&manifests::many(OBJECTS, Some(&namespace)))?;
    fleet.write_map("apps/drifts.yaml", "drifts", "as Git wants it")?;
    fleet.commit("all")?;
    fleet.follow("1s")?;
    fleet.keep("apps", "  path: ./apps\n")?;
    let mut agent = fleet.start()?;
    eventually("all is applied", LONG, || async {
        let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?.stdout)?;
        anyhow::ensure!(status["kustomizations"][0]["ready"]["status"] == "True", "{status:#}");
        anyhow::Ok(())
    })
    .await;

    fleet.git.down();
    fleet.git.forget();
    let mut took = Vec::new();
    for run in 0..runs {
        agent.kill9();
        let edit = json!({ "data": { "value": format!("by hand {run}") } });
        let editor = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        maps.patch("drifts", &editor, &Patch::Merge(edit)).await?;
        let start = Instant::now();
        agent.restart()?;
        while value(&maps).await?.as_deref() != Some("as Git wants it") {
            agent.check()?;
            if start.elapsed() > LONG {
                return Err(format!("not repaired after {LONG:?}; its log:\n{}", agent.log()).into());
            }
            tokio::time::sleep(LOOK).await;
        }
        took.push(start.elapsed());
    }
    if !fleet.git.requests().is_empty() {
        return Err("Git has answered".into());
    }
    took.sort();
    let (Some(least), Some(most)) = (took.first(), took.last()) else { return Err("no runs".into()) };
    let median = took[took.len() / 2];
    let seconds = |duration: &Duration| duration.as_secs_f64();
    println!(
        "repaired after: median {:.2} s, least {:.2} s, most {:.2} s",
        seconds(&median),
        seconds(least),
        seconds(most)
    );
    Ok(if *most < GOAL { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn value(maps: &Api<ConfigMap>) -> kube::Result<Option<String>> {
    Ok(maps.get("drifts").await?.data.and_then(|data| data.get("value").cloned()))
}
