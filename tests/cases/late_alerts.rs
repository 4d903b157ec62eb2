//! Events that happen before it is known who must hear of them: Alerts in a cluster that answers late.

use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use wickie_model::ResourceKind;
use wickie_testbench::{ApiProxy, Fault, Receiver};

use crate::cluster_input::{apply, install_crds};
use crate::heard::{KEY, everything_is_heard};
use crate::node::applied;
use crate::node::fleet_alone;

#[tokio::test]
async fn alerts_of_the_cluster_miss_nothing_that_was_said_before_they_were_read() {
    let (control_plane, mut fleet, client) = fleet_alone("late").await;
    let proxy = ApiProxy::start(&control_plane).unwrap();
    fleet.through(&proxy.kubeconfig());
    let receiver = Receiver::start().unwrap();
    install_crds(&client).await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ci"}, "stringData": {"token": KEY}});
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    secrets.patch("ci", &PatchParams::apply("test"), &Patch::Apply(secret)).await.unwrap();
    let provider = json!({"type": "generic-hmac", "address": receiver.url(), "secretRef": {"name": "ci"}});
    apply(&client, ResourceKind::Provider, &fleet.namespace, "ci", provider).await;
    let sources =
        ["GitRepository", "Kustomization"].map(|kind| json!({"kind": kind, "name": "*", "namespace": "flux-system"}));
    apply(
        &client,
        ResourceKind::Alert,
        &fleet.namespace,
        "all",
        json!({"providerRef": {"name": "ci"}, "eventSources": sources}),
    )
    .await;

    // The node works from its files, and the API server says nothing of Alerts.
    let stalls = || Fault::Stall.on(|request| request.path.ends_with("/alerts"));
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  wait: true\n").unwrap();
    fleet.write_map("map.yaml", "map", "one").unwrap();
    let first = fleet.commit("first").unwrap();
    proxy.inject(stalls());
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    assert_eq!(receiver.deliveries().len(), 0, "nobody knows yet who must hear of it");
    proxy.heal();
    let heard = everything_is_heard(&agent, &receiver).await;
    assert!(heard.iter().any(|heard| heard.reason == "NewArtifact"), "{heard:#?}");

    // After a restart, those that were known serve before they are read again.
    agent.kill9();
    proxy.inject(stalls());
    fleet.write_map("map.yaml", "map", "two").unwrap();
    let second = fleet.commit("second").unwrap();
    agent.restart().unwrap();
    applied(&agent, &second).await;
    let heard = everything_is_heard(&agent, &receiver).await;
    assert!(heard.iter().any(|heard| heard.revision.contains(&second)), "{heard:#?}");
    proxy.heal();
}
