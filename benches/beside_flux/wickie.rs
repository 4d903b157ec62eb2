//! The agent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use wickie_testbench::{Agent, ControlPlane, Fleet, eventually};

use crate::cluster::{Namespace, cpu, folder, memory};
use crate::{Figures, INTERVAL, LONG, Workload};

/// Edits by hand, and the pause after each.
const EDITS: usize = 20;
const PAUSE: Duration = Duration::from_secs(2);

/// The agent that is measured.
pub(crate) fn binary() -> String {
    std::env::var("WICKIE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wickie").to_owned())
}

pub(crate) async fn run(control_plane: &ControlPlane, namespace: &Namespace, workload: Workload) -> Result<Figures> {
    let fleet = Fleet::new("beside-flux", &binary(), control_plane.kubeconfig(), namespace.name.clone())?;
    fleet.repo.write_all(&namespace.manifests(workload))?;
    fleet.commit("all")?;
    fleet.follow(&format!("{}s", INTERVAL.as_secs()))?;
    for index in 0..workload.kustomizations {
        let path = if workload.kustomizations == 1 { "apps".to_owned() } else { folder(index) };
        let spec = format!("  path: ./{path}\n  interval: {}s\n  wait: true\n", INTERVAL.as_secs());
        fleet.keep(&format!("k-{index:04}"), &spec)?;
    }
    let mut figures = Figures::default();
    let start = Instant::now();
    let agent = fleet.start()?;
    figures.exist = namespace.all_exist(workload, start).await;
    eventually("all are ready", LONG, || async {
        let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?.stdout)?;
        let all = status["kustomizations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = all.iter().filter(|one| one["ready"]["status"] == "True").count();
        ensure!(ready == workload.kustomizations, "{ready}");
        anyhow::Ok(())
    })
    .await;
    figures.ready = start.elapsed();
    let asked = || anyhow::Ok(requests(control_plane)?);
    figures.requests = asked()?;
    // The cluster's own controllers are still at work on what is new.
    tokio::time::sleep(INTERVAL + INTERVAL / 6).await;

    println!("wickie is ready; now it has nothing to do");
    let (before, cpu_before, written) = (asked()?, cpu(agent.pid())?, agent.bytes_written()?);
    figures.churned = namespace.churn(workload).await?;
    figures.quiet_requests = asked()? - before;
    figures.quiet_cpu = cpu(agent.pid())? - cpu_before;
    figures.quiet_written = Some(agent.bytes_written()? - written);
    measure(&agent, &mut figures)?;
    figures.drift = drift(namespace).await?;
    figures.change = Some(change(control_plane, namespace, workload, &fleet, &agent).await?);
    Ok(figures)
}

/// How long each of some edits by hand stood.
async fn drift(namespace: &Namespace) -> Result<Vec<Duration>> {
    let maps = namespace.api("ConfigMap");
    let all = maps.list_metadata(&ListParams::default().labels("app.kubernetes.io/part-of=bench")).await?.items;
    let by_hand = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let mut stood = Vec::new();
    for at in 0..EDITS {
        let name = all[at * all.len() / EDITS].metadata.name.clone().unwrap_or_default();
        let edit = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "hand"}}});
        maps.patch(&name, &by_hand, &Patch::Merge(edit)).await?;
        let since = Instant::now();
        loop {
            let labels = maps.get_metadata(&name).await?.metadata.labels.unwrap_or_default();
            if labels.get("app.kubernetes.io/part-of").is_some_and(|value| value == "bench") {
                break;
            }
            ensure!(since.elapsed() < LONG, "{name} is not repaired");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stood.push(since.elapsed());
        // One at a time: what is measured is a repair, and not a truce with somebody who keeps at it.
        tokio::time::sleep(PAUSE).await;
    }
    stood.sort();
    Ok(stood)
}

/// One line of one object is changed in Git: what is asked of the API server until that is applied, statuses aside.
async fn change(
    control_plane: &ControlPlane,
    namespace: &Namespace,
    workload: Workload,
    fleet: &Fleet,
    agent: &Agent,
) -> Result<usize> {
    let before = requests(control_plane)?;
    let all = namespace.manifests(workload);
    let (path, text) = all.iter().find(|(_, text)| text.contains("kind: ConfigMap")).context("a ConfigMap")?;
    fleet.repo.write(path, &text.replacen("\ndata:\n", "\ndata:\n  new: line\n", 1))?;
    let commit = fleet.commit("one line")?;
    agent.cli(&["reconcile", "source/fleet"])?;
    eventually("the line is applied", LONG, || async {
        let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?.stdout)?;
        let all = status["kustomizations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let here = |one: &&serde_json::Value| one["appliedRevision"] == format!("main@sha1:{commit}");
        ensure!(all.iter().filter(here).count() == workload.kustomizations, "not yet");
        anyhow::Ok(())
    })
    .await;
    Ok(requests(control_plane)? - before)
}

fn measure(agent: &Agent, figures: &mut Figures) -> Result<()> {
    figures.settled = memory(agent.pid(), "VmRSS")?;
    figures.peak = memory(agent.pid(), "VmHWM")?;
    Ok(())
}

/// What the agent asked of the API server so far; a watch counts when it is opened.
fn requests(control_plane: &ControlPlane) -> Result<usize> {
    let asked = control_plane.audit_of("wickie")?;
    Ok(asked.iter().filter(|event| event.verb != "watch").count())
}
