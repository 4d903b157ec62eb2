//! What the cases say to the cluster and ask of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use wickie_testbench::{Agent, ControlPlane, Fleet, Options, eventually};

/// How long a busy machine may take for anything.
pub(crate) const LONG: Duration = Duration::from_secs(240);

/// A node on the shared control plane, with a namespace of its own.
pub(crate) async fn fleet(name: &str) -> (Fleet, Client) {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace(name).await.expect("a namespace");
    let fleet = Fleet::new(name, env!("CARGO_BIN_EXE_wickie"), control_plane.kubeconfig(), namespace);
    (fleet.expect("git and a server"), control_plane.client().await)
}

/// A node on a control plane of its own, for what is the whole cluster's: CRDs, and whose an object is.
pub(crate) async fn fleet_alone(name: &str) -> (ControlPlane, Fleet, Client) {
    let control_plane = ControlPlane::start(Options::api_only()).await.expect("a control plane");
    let namespace = control_plane.namespace(name).await.expect("a namespace");
    let fleet = Fleet::new(name, env!("CARGO_BIN_EXE_wickie"), control_plane.kubeconfig(), namespace);
    let client = control_plane.client().await;
    (control_plane, fleet.expect("git and a server"), client)
}

/// Declares Kustomization `name` of the folder `path` with these annotations; `more` is the rest of its spec.
pub(crate) fn keep_annotated(fleet: &Fleet, name: &str, path: &str, annotations: &str, more: &str) {
    let text = format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  sourceRef: {{kind: GitRepository, name: fleet}}
  path: {path}
  prune: true
  interval: 10m
  retryInterval: 2s
{more}"
    );
    fleet.configure(&format!("{name}.yaml"), &text).expect("the disk takes it");
}

/// A commit of main, as Flux writes it.
pub(crate) fn revision(commit: &str) -> String {
    format!("main@sha1:{commit}")
}

/// The ConfigMaps of the test's namespace.
pub(crate) fn maps(fleet: &Fleet, client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), &fleet.namespace)
}

/// Waits until a ConfigMap has a value; nothing for one that shall be gone.
pub(crate) async fn value_becomes(agent: &mut Agent, maps: &Api<ConfigMap>, name: &str, value: Option<&str>) {
    let agent = std::cell::RefCell::new(agent);
    eventually(&format!("{name} becomes {value:?}"), LONG, || async {
        agent.borrow_mut().check()?;
        let found = value_of(maps, name).await?;
        ensure!(found.as_deref() == value, "{name} is {found:?}\n{}", tail(&agent.borrow().log()));
        anyhow::Ok(())
    })
    .await;
}

/// The value of a ConfigMap; nothing where it is not there.
pub(crate) async fn value_of(maps: &Api<ConfigMap>, name: &str) -> Result<Option<String>> {
    let map = maps.get_opt(name).await?;
    Ok(map.and_then(|map| map.data?.get("value").cloned()))
}

/// Changes a ConfigMap's value by hand, as `kubectl edit` does.
pub(crate) async fn change_by_hand(maps: &Api<ConfigMap>, name: &str, value: &str) {
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    maps.patch(name, &params, &Patch::Merge(json!({"data": {"value": value}}))).await.expect("the edit is taken");
}

/// Waits until `wickie status` says of a Kustomization what `probe` wants; gives what it said.
pub(crate) async fn status_becomes(
    agent: &Agent,
    what: &str,
    probe: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    eventually(what, LONG, || async {
        let status = status(agent)?;
        ensure!(probe(&status), "{status:#}\n{}", tail(&agent.log()));
        anyhow::Ok(status)
    })
    .await
}

/// `wickie status -o json`.
pub(crate) fn status(agent: &Agent) -> Result<serde_json::Value> {
    let answered = agent.cli(&["status", "-o", "json"])?;
    serde_json::from_str(&answered.stdout).with_context(|| format!("{answered:?}"))
}

/// The Kustomization `name` in a status.
pub(crate) fn kustomization<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let all = status["kustomizations"].as_array();
    all.and_then(|all| all.iter().find(|one| one["name"] == name)).unwrap_or(&serde_json::Value::Null)
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Waits until the Kustomization `apps` is ready at `commit` of main.
pub(crate) async fn applied(agent: &Agent, commit: &str) -> serde_json::Value {
    status_becomes(agent, &format!("{commit} is applied"), |status| {
        let apps = kustomization(status, "apps");
        apps["appliedRevision"] == format!("main@sha1:{commit}") && apps["ready"]["status"] == "True"
    })
    .await
}
