//! The agent.

use std::time::Instant;

use anyhow::{Result, ensure};
use wickie_testbench::{Agent, ControlPlane, Fleet, eventually};

use crate::cluster::{Namespace, cpu, folder, memory};
use crate::{Figures, INTERVAL, LONG, Workload};

pub(crate) async fn run(control_plane: &ControlPlane, namespace: &Namespace, workload: Workload) -> Result<Figures> {
    let binary = std::env::var("WICKIE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wickie").to_owned());
    let fleet = Fleet::new("beside-flux", &binary, control_plane.kubeconfig(), namespace.name.clone())?;
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

    let (before, cpu_before, written) = (asked()?, cpu(agent.pid())?, agent.bytes_written()?);
    let churn = namespace.churn(workload);
    let _ = tokio::time::timeout(workload.quiet, churn).await;
    figures.quiet_requests = asked()? - before;
    figures.quiet_cpu = cpu(agent.pid())? - cpu_before;
    figures.quiet_written = Some(agent.bytes_written()? - written);
    measure(&agent, &mut figures)?;
    Ok(figures)
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
