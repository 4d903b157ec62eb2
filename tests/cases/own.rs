//! The agent's own manifests among those that it enforces.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use wickie_model::ResourceKind;
use wickie_testbench::eventually;

use crate::cluster_input::{apply, install_crds};
use crate::node::*;

/// The DaemonSet as our manifests have it, for this image.
fn daemon_set(namespace: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: wickie
  namespace: {namespace}
  labels: {{app.kubernetes.io/name: wickie, app.kubernetes.io/part-of: wickie}}
spec:
  selector: {{matchLabels: {{app.kubernetes.io/name: wickie}}}}
  template:
    metadata: {{labels: {{app.kubernetes.io/name: wickie}}}}
    spec: {{containers: [{{name: wickie, image: {image:?}}}]}}
"
    )
}

#[tokio::test]
async fn it_upgrades_itself_from_git_and_a_commit_that_drops_it_does_not_end_it() {
    // CRDs are the whole cluster's: a control plane of its own.
    let (_control_plane, mut fleet, client) = fleet_alone("own").await;
    fleet.home = fleet.namespace.clone();
    install_crds(&client).await;
    for crd in wickie::config::crds() {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        fleet.repo.write(&format!("wickie/{name}.yaml"), &crd.to_string()).unwrap();
    }
    let home = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n", fleet.namespace);
    fleet.repo.write("wickie/namespace.yaml", &home).unwrap();
    fleet.repo.write("wickie/agent.yaml", &daemon_set(&fleet.namespace, "wickie:1")).unwrap();
    fleet.write_map("stays.yaml", "stays", "1").unwrap();
    fleet.write_map("goes.yaml", "goes", "1").unwrap();
    let first = fleet.commit("with the agent").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;

    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), &fleet.namespace);
    fleet.repo.write("wickie/agent.yaml", &daemon_set(&fleet.namespace, "wickie:2")).unwrap();
    let second = fleet.commit("an upgrade").unwrap();
    applied(&agent, &second).await;
    let image = sets.get("wickie").await.unwrap().spec.unwrap().template.spec.unwrap().containers.remove(0).image;
    assert_eq!(image.as_deref(), Some("wickie:2"));

    // Somebody's Kustomization, which would go with its definition.
    let spec = serde_json::json!({"interval": "10m", "prune": false, "suspend": true, "path": "./none",
        "sourceRef": {"kind": "GitRepository", "name": "none"}});
    apply(&client, ResourceKind::Kustomization, &fleet.namespace, "somebody-s", spec).await;

    fleet.repo.remove("wickie").unwrap();
    fleet.repo.remove("goes.yaml").unwrap();
    let third = fleet.commit("without it, by accident").unwrap();
    let maps = maps(&fleet, &client);
    value_becomes(&mut agent, &maps, "goes", None).await;
    applied(&agent, &third).await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in wickie::config::crds() {
        let kept = crds.get(crd["metadata"]["name"].as_str().unwrap()).await.unwrap();
        assert_eq!(kept.metadata.deletion_timestamp, None);
    }
    assert_eq!(sets.get("wickie").await.unwrap().metadata.deletion_timestamp, None);
    let home = Api::<Namespace>::all(client.clone()).get(&fleet.namespace).await.unwrap();
    assert_eq!(home.metadata.deletion_timestamp, None);
    assert_eq!(value_of(&maps, "stays").await.unwrap().as_deref(), Some("1"));
    eventually("that it stays is said", LONG, || async {
        let events = agent.cli(&["events"])?.stdout;
        anyhow::ensure!(events.contains("wickie's own"), "{events}");
        anyhow::Ok(())
    })
    .await;
}
