//! What is asked of the cluster on behalf of nobody who is measured.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::json;
use wickie_testbench::{ControlPlane, eventually};

use crate::{LONG, Workload};

/// The kinds of [`wickie_testbench::manifests::many`].
pub(crate) const KINDS: [(&str, &str, &str); 4] =
    [("", "v1", "ConfigMap"), ("", "v1", "Service"), ("apps", "v1", "Deployment"), ("", "v1", "ServiceAccount")];

/// In which time the status of a Deployment changes once.
const CHURN: Duration = Duration::from_secs(60);

/// A namespace that one of them works in.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Namespace {
    pub(crate) async fn new(control_plane: &ControlPlane, name: &str) -> Result<Self> {
        Ok(Self { name: control_plane.namespace(name).await?, client: control_plane.client().await })
    }

    /// The objects of a kind in it.
    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, version, kind) = KINDS.into_iter().find(|known| known.2 == kind).unwrap_or(KINDS[0]);
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.name, &resource)
    }

    /// The manifests, as files of a repository.
    pub(crate) fn manifests(&self, workload: Workload) -> Vec<(String, String)> {
        let each = workload.objects.div_ceil(workload.kustomizations);
        let all = wickie_testbench::manifests::many(workload.objects, Some(&self.name));
        all.into_iter()
            .enumerate()
            .map(|(index, (path, text))| match workload.kustomizations {
                1 => (path, text),
                _ => {
                    let file = path.rsplit('/').next().unwrap_or_default().to_owned();
                    (format!("{}/{file}", folder(index / each)), text)
                }
            })
            .collect()
    }

    /// Waits until all objects exist, and gives how long it took since `start`.
    pub(crate) async fn all_exist(&self, workload: Workload, start: Instant) -> Duration {
        let ours = ListParams::default().labels("app.kubernetes.io/part-of=bench");
        eventually("all objects exist", LONG, || async {
            let mut found = 0;
            // The last kind first: while it is incomplete the others need not be counted.
            for (_, _, kind) in KINDS.into_iter().rev() {
                found += self.api(kind).list_metadata(&ours).await?.items.len();
                ensure!(found > 0, "none yet");
            }
            ensure!(found == workload.objects, "{found}");
            anyhow::Ok(())
        })
        .await;
        start.elapsed()
    }

    /// Changes the status of some Deployments, each once in [`CHURN`], until `quiet` is over; how many changes that were.
    /// What changes is a condition that no controller knows, so that nobody answers with a change of his own.
    pub(crate) async fn churn(&self, workload: Workload) -> Result<usize> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.name);
        let all = deployments.list(&ListParams::default()).await?.items;
        let names: Vec<_> = all.iter().take(workload.churning).filter_map(|one| one.metadata.name.clone()).collect();
        let begin = tokio::time::Instant::now();
        let mut changes = 0;
        while begin.elapsed() < workload.quiet {
            let Some(name) = names.get(changes % names.len().max(1)) else {
                tokio::time::sleep_until(begin + workload.quiet).await;
                break;
            };
            let condition = json!([{"type": "Churn", "status": "True", "message": format!("change {changes}")}]);
            let patch = Patch::Strategic(json!({"status": {"conditions": condition}}));
            deployments.patch_status(name, &PatchParams::default(), &patch).await?;
            changes += 1;
            tokio::time::sleep_until(begin + CHURN / names.len() as u32 * changes as u32).await;
        }
        Ok(changes)
    }

    /// Deletes it, with all that is in it, so that the next one has the API server to himself.
    pub(crate) async fn clear(self) -> Result<()> {
        let namespaces: Api<KubeNamespace> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        eventually("the namespace is gone", LONG, || async {
            ensure!(namespaces.get_opt(&self.name).await?.is_none(), "it is there");
            anyhow::Ok(())
        })
        .await;
        Ok(())
    }
}

/// The folder of a Kustomization, where there are many.
pub(crate) fn folder(index: usize) -> String {
    format!("apps/app-{index:04}")
}

/// A figure out of `/proc/PID/status`, in bytes.
pub(crate) fn memory(pid: u32, figure: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Processor time of a process, user and system, in seconds.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // The kernel counts in hundredths on every architecture that Rust runs on.
    Ok(ticks as f64 / 100.0)
}
