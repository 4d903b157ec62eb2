//! Flux's kustomize-controller, with its own CRD, its default settings, and an archive from a file server.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wickie_testbench::child::Child;
use wickie_testbench::port::Port;
use wickie_testbench::{ControlPlane, Repo, Scratch, Signer, eventually, parts};

use crate::cluster::{Namespace, cpu, folder, memory};
use crate::{Figures, INTERVAL, LONG, Workload};

/// Where Flux's own objects live.
const HOME: &str = "flux-system";

pub(crate) async fn run(control_plane: &ControlPlane, namespace: &Namespace, workload: Workload) -> Result<Figures> {
    let program = tokio::task::spawn_blocking(|| parts::find(&parts::KUSTOMIZE_CONTROLLER)).await??;
    let scratch = Scratch::new("flux");
    let repo = Repo::create(scratch.path(), "fleet")?;
    repo.write_all(&namespace.manifests(workload))?;
    let commit = repo.commit("all", &Signer::Nobody)?;
    let archive = scratch.join("all.tar.gz");
    repo.git(&["archive", "--format=tar.gz", "-o", &archive.display().to_string(), &commit])?;
    let (address, _files) = serve_files(scratch.path()).await?;

    define_kinds(namespace).await?;
    let mut command = Command::new(program);
    let (metrics, health) = (Port::free()?, Port::free()?);
    command
        .arg("--enable-leader-election=false")
        .arg("--events-addr=")
        .arg(format!("--metrics-addr={}", metrics.addr()))
        .arg(format!("--health-addr={}", health.addr()))
        .env("KUBECONFIG", control_plane.kubeconfig())
        .env("RUNTIME_NAMESPACE", HOME)
        .env("HOME", scratch.path())
        .env("TMPDIR", scratch.path());
    drop((metrics, health));
    let mut controller = Child::spawn("kustomize-controller", &command, &scratch.join("controller.log"))?;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    controller.check()?;

    let mut figures = Figures::default();
    let start = Instant::now();
    offer(namespace, &commit, &archive, &address).await?;
    let kustomizations = api(namespace, "kustomize.toolkit.fluxcd.io", "Kustomization");
    for index in 0..workload.kustomizations {
        let path = if workload.kustomizations == 1 { "apps".to_owned() } else { folder(index) };
        let object = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": format!("k-{index:04}"), "namespace": HOME},
            "spec": {"interval": format!("{}s", INTERVAL.as_secs()), "path": format!("./{path}"), "prune": true, "wait": true,
                "timeout": "10m", "sourceRef": {"kind": "GitRepository", "name": "fleet"}},
        });
        kustomizations
            .patch(&format!("k-{index:04}"), &PatchParams::apply("bench").force(), &Patch::Apply(object))
            .await?;
    }
    figures.exist = namespace.all_exist(workload, start).await;
    eventually("all are ready", LONG, || async {
        let all = kustomizations.list(&ListParams::default()).await?;
        let ready = all.items.iter().filter(|one| is_ready(&one.data)).count();
        ensure!(ready == workload.kustomizations, "{ready}");
        anyhow::Ok(())
    })
    .await;
    figures.ready = start.elapsed();
    let asked = || anyhow::Ok(requests(control_plane)?);
    figures.requests = asked()?;
    tokio::time::sleep(INTERVAL + INTERVAL / 6).await;

    let pid = controller.pid();
    let (before, cpu_before) = (asked()?, cpu(pid)?);
    let _ = tokio::time::timeout(workload.quiet, namespace.churn(workload)).await;
    figures.quiet_requests = asked()? - before;
    figures.quiet_cpu = cpu(pid)? - cpu_before;
    figures.settled = memory(pid, "VmRSS")?;
    figures.peak = memory(pid, "VmHWM")?;
    Ok(figures)
}

fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn requests(control_plane: &ControlPlane) -> Result<usize> {
    let asked = control_plane.audit_of("kustomize-controller")?;
    Ok(asked.iter().filter(|event| event.verb != "watch").count())
}

fn api(namespace: &Namespace, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(namespace.client.clone(), HOME, &resource)
}

/// Flux's own CRD of the Kustomization; that of the GitRepository is ours, which has the same fields.
async fn define_kinds(namespace: &Namespace) -> Result<()> {
    let module = parts::module_folder(&parts::KUSTOMIZE_CONTROLLER, "github.com/fluxcd/kustomize-controller")?;
    let crd = module.join("config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml");
    let kustomization: Value = serde_saphyr::from_str(&std::fs::read_to_string(&crd)?)?;
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    let definitions: Api<DynamicObject> = Api::all_with(namespace.client.clone(), &resource);
    let repository = wickie::config::crds().into_iter().find(|crd| crd["spec"]["names"]["kind"] == "GitRepository");
    for definition in [Some(kustomization), repository].into_iter().flatten() {
        let name = definition["metadata"]["name"].as_str().context("a CRD has a name")?.to_owned();
        definitions.patch(&name, &PatchParams::apply("bench").force(), &Patch::Apply(definition)).await?;
        eventually("the kind is served", LONG, || async {
            let served = definitions.get(&name).await?;
            let conditions = served.data.pointer("/status/conditions").and_then(Value::as_array).cloned();
            let established =
                conditions.iter().flatten().any(|one| one["type"] == "Established" && one["status"] == "True");
            ensure!(established, "not yet");
            anyhow::Ok(())
        })
        .await;
    }
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}});
    let namespaces: Api<KubeNamespace> = Api::all(namespace.client.clone());
    namespaces.patch(HOME, &PatchParams::apply("bench").force(), &Patch::Apply(home)).await?;
    Ok(())
}

/// A GitRepository as source-controller leaves it.
async fn offer(namespace: &Namespace, commit: &str, archive: &Path, address: &str) -> Result<()> {
    let bytes = std::fs::read(archive)?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let repositories = api(namespace, "source.toolkit.fluxcd.io", "GitRepository");
    let object = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "fleet", "namespace": HOME},
        "spec": {"url": "https://git.example/fleet", "interval": format!("{}s", INTERVAL.as_secs()), "ref": {"branch": "main"}},
    });
    repositories.patch("fleet", &PatchParams::apply("bench").force(), &Patch::Apply(object)).await?;
    let now = jiff::Timestamp::now().to_string();
    let status = json!({"status": {
        "observedGeneration": 1,
        "artifact": {
            "path": "all.tar.gz", "url": format!("http://{address}/all.tar.gz"), "revision": format!("main@sha1:{commit}"),
            "digest": format!("sha256:{digest}"), "lastUpdateTime": now, "size": bytes.len(),
        },
        "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored", "lastTransitionTime": now, "observedGeneration": 1}],
    }});
    repositories.patch_status("fleet", &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Serves the files of a folder until the task is dropped.
async fn serve_files(folder: &Path) -> Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let folder = folder.to_owned();
    let read = move |axum::extract::Path(name): axum::extract::Path<String>| {
        let file = folder.join(name);
        async move { std::fs::read(file).map_err(|_| axum::http::StatusCode::NOT_FOUND) }
    };
    let router = axum::Router::new().route("/{name}", axum::routing::get(read));
    let task = tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok((address, task))
}
