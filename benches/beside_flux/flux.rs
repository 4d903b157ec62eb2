//! Flux's kustomize-controller, with its own CRD, its default settings, and an archive from a file server.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wickie_testbench::flux::MANAGER;
use wickie_testbench::{ControlPlane, KustomizeController, Repo, Scratch, Signer, eventually};

use crate::cluster::{Namespace, cpu, folder, memory};
use crate::{Figures, INTERVAL, LONG, Workload};

pub(crate) async fn run(control_plane: &ControlPlane, namespace: &Namespace, workload: Workload) -> Result<Figures> {
    let scratch = Scratch::new("flux");
    let repo = Repo::create(scratch.path(), "fleet")?;
    repo.write_all(&namespace.manifests(workload))?;
    let commit = repo.commit("all", &Signer::Nobody)?;
    // The GitRepository's CRD is ours, which has the same fields.
    let kinds = wickie::config::crds().into_iter().filter(|crd| crd["spec"]["names"]["kind"] == "GitRepository");
    let kinds: Vec<_> = kinds.collect();
    let flux = KustomizeController::start(control_plane, &scratch.folder("flux"), &kinds).await?;

    let mut figures = Figures::default();
    let start = Instant::now();
    let interval = format!("{}s", INTERVAL.as_secs());
    let spec = json!({"url": "https://git.example/fleet", "interval": interval, "ref": {"branch": "main"}});
    flux.offer(&repo, &commit, &spec).await?;
    for index in 0..workload.kustomizations {
        let path = if workload.kustomizations == 1 { "apps".to_owned() } else { folder(index) };
        let spec = json!({
            "interval": interval, "path": format!("./{path}"), "prune": true, "wait": true, "timeout": "10m"
        });
        flux.keep(&format!("k-{index:04}"), spec).await?;
    }
    figures.exist = namespace.all_exist(workload, start).await;
    eventually("all are ready", LONG, || async {
        let ready = flux.ready().await?;
        ensure!(ready == workload.kustomizations, "{ready}");
        anyhow::Ok(())
    })
    .await;
    figures.ready = start.elapsed();
    figures.requests = requests(control_plane)?;
    tokio::time::sleep(INTERVAL + INTERVAL / 6).await;

    let pid = flux.pid().context("the controller runs")?;
    println!("Flux is ready; now it has nothing to do");
    let (before, cpu_before) = (requests(control_plane)?, cpu(pid)?);
    figures.churned = namespace.churn(workload).await?;
    figures.quiet_requests = requests(control_plane)? - before;
    figures.quiet_cpu = cpu(pid)? - cpu_before;
    figures.settled = memory(pid, "VmRSS")?;
    figures.peak = memory(pid, "VmHWM")?;
    Ok(figures)
}

fn requests(control_plane: &ControlPlane) -> Result<usize> {
    let asked = control_plane.audit_of(MANAGER)?;
    Ok(asked.iter().filter(|event| event.verb != "watch").count())
}
