//! Values that a Kustomization takes from ConfigMaps and Secrets: of the cluster, seen at once when they change; of files
//! beside it. What a Secret holds is written down nowhere.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;
use wickie_model::Digest;
use wickie_testbench::{Agent, Fleet};

use crate::node::*;

/// Declares the Kustomization `apps` in the test's namespace, where the objects are that it names.
pub(crate) fn keep_here(fleet: &Fleet, more: &str) {
    let text = format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: apps, namespace: {}}}
spec:
  prune: true
  interval: 10m
  retryInterval: 10m
  sourceRef: {{kind: GitRepository, name: fleet, namespace: flux-system}}
{more}",
        fleet.namespace
    );
    fleet.configure("apps.yaml", &text).unwrap();
}

pub(crate) async fn set_secret(client: &Client, fleet: &Fleet, name: &str, entries: serde_json::Value) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries});
    secrets.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(secret)).await.unwrap();
}

async fn set_map(client: &Client, fleet: &Fleet, name: &str, entries: serde_json::Value) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &fleet.namespace);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": entries});
    maps.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(map)).await.unwrap();
}

/// Looks for a text in all that the agent has written: its data directory and its log.
#[track_caller]
pub(crate) fn assert_not_written(agent: &Agent, fleet: &Fleet, what: &[u8]) {
    let found = |bytes: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    assert!(!found(agent.log().as_bytes()), "it stands in the log");
    let mut folders = vec![fleet.data_dir()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files += 1;
                assert!(!found(&std::fs::read(&path).unwrap()), "it stands in {}", path.display());
            }
        }
    }
    assert!(files > 0, "there is nothing in {}", fleet.data_dir().display());
}

#[tokio::test]
async fn variables_come_from_the_cluster_and_a_change_is_seen_at_once() {
    let (fleet, client) = fleet("values").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("till.yaml", "till", "${city} ${pin} ${none:=default}").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    set_map(&client, &fleet, "vars", json!({"city": "Oslo", "pin": "overridden"})).await;
    set_secret(&client, &fleet, "pins", json!({"pin": "4711-pin"})).await;
    keep_here(
        &fleet,
        "  postBuild:
    substituteFrom:
    - {kind: ConfigMap, name: vars}
    - {kind: Secret, name: pins}
    - {kind: ConfigMap, name: perhaps, optional: true}
",
    );
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "till", Some("Oslo 4711-pin default")).await;
    set_map(&client, &fleet, "vars", json!({"city": "Bergen"})).await;
    value_becomes(&mut agent, &maps, "till", Some("Bergen 4711-pin default")).await;
    set_map(&client, &fleet, "perhaps", json!({"none": "here"})).await;
    value_becomes(&mut agent, &maps, "till", Some("Bergen 4711-pin here")).await;

    // The Secret goes: nothing is built, nothing is lost, and it is said which one. It comes back, and work goes on.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    secrets.delete("pins", &DeleteParams::default()).await.unwrap();
    let status = status_becomes(&agent, "the missing Secret is named", |status| {
        kustomization(status, "apps")["ready"]["reason"] == "BuildFailed"
    })
    .await;
    let message = kustomization(&status, "apps")["ready"]["message"].to_string();
    assert!(message.contains("Secret/") && message.contains("pins"), "{message}");
    assert_eq!(value_of(&maps, "till").await.unwrap().as_deref(), Some("Bergen 4711-pin here"));
    set_secret(&client, &fleet, "pins", json!({"pin": "4712-pin"})).await;
    value_becomes(&mut agent, &maps, "till", Some("Bergen 4712-pin here")).await;
    status_becomes(&agent, "it is ready again", |status| kustomization(status, "apps")["ready"]["status"] == "True")
        .await;

    // Killed, with Git gone: the values are read again, and what drifted is put right.
    fleet.git.down();
    agent.kill9();
    change_by_hand(&maps, "till", "by hand").await;
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "till", Some("Bergen 4712-pin here")).await;

    // Neither the value nor a digest that it could be guessed by.
    let labels =
        json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": fleet.namespace});
    let manifest = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"value": "Bergen 4712-pin here"},
        "metadata": {"name": "till", "namespace": fleet.namespace, "labels": labels}
    });
    let digest = Digest::of_json(&manifest);
    for what in [&b"4712-pin"[..], b"4711-pin", digest.as_bytes(), digest.to_string().as_bytes()] {
        assert_not_written(&agent, &fleet, what);
    }
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn variables_may_stand_beside_the_kustomization() {
    let (fleet, client) = fleet("beside").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("till.yaml", "till", "${city}").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let vars = |city: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: vars, namespace: {}}}\ndata: {{city: {city}}}\n",
            fleet.namespace
        )
    };
    keep_here(&fleet, "  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}\n");
    let mut agent = fleet.start().unwrap();
    status_becomes(&agent, "the missing ConfigMap is named", |status| {
        kustomization(status, "apps")["ready"]["reason"] == "BuildFailed"
    })
    .await;
    fleet.configure("vars.yaml", &vars("Oslo")).unwrap();
    value_becomes(&mut agent, &maps, "till", Some("Oslo")).await;
    fleet.configure("vars.yaml", &vars("Tromso")).unwrap();
    value_becomes(&mut agent, &maps, "till", Some("Tromso")).await;
    assert_eq!(agent.stop().await.unwrap(), 0);
}
