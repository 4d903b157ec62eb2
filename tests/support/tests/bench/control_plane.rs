use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams, WatchParams};
use kube::{Api, core::WatchEvent};
use serde_json::json;
use wickie_testbench::{ControlPlane, Options, eventually, kubeconfig};

fn config_map(value: &str) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "key": value } })
}

#[tokio::test]
async fn a_config_map_round_trips_and_is_counted() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("round-trip").await.expect("a namespace");
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await, &namespace);
    let before =
        control_plane.metrics().await.expect("metrics").requests(&[("verb", "APPLY"), ("resource", "configmaps")]);
    maps.patch("settings", &PatchParams::apply("bench"), &Patch::Apply(config_map("1"))).await.expect("applies");
    let data = maps.get("settings").await.expect("is there").data.expect("has data");
    assert_eq!(data["key"], "1");
    let after =
        control_plane.metrics().await.expect("metrics").requests(&[("verb", "APPLY"), ("resource", "configmaps")]);
    // Other tests share this control plane.
    assert!(after > before, "{before} {after}");
    eventually("the audit log has it", Duration::from_secs(30), || async {
        let events = control_plane.audit()?;
        let ours = events
            .iter()
            .filter(|event| event.object_ref.namespace == namespace && event.object_ref.resource == "configmaps");
        let verbs: Vec<_> = ours
            .filter(|event| event.user.username == "admin")
            .map(|event| (event.verb.as_str(), event.response_status.code))
            .collect();
        anyhow::ensure!(verbs == [("patch", 201), ("get", 200)], "{verbs:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_deployment_becomes_available() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("deployment").await.expect("a namespace");
    let deployments: Api<Deployment> = Api::namespaced(control_plane.client().await, &namespace);
    let wish = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app" },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "app" } }, "template": {
            "metadata": { "labels": { "app": "app" } },
            "spec": { "containers": [{ "name": "main", "image": "example.com/app:1" }] } } },
    });
    deployments.patch("app", &PatchParams::apply("bench"), &Patch::Apply(wish)).await.expect("applies");
    eventually("three replicas are available", Duration::from_secs(120), || async {
        let status = deployments.get("app").await?.status.unwrap_or_default();
        anyhow::ensure!(status.available_replicas == Some(3), "{status:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn others_may_do_what_rbac_lets_them() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("rbac").await.expect("a namespace");
    let nobody = control_plane.kubeconfig_for("nobody", &["guests", "others"]).expect("a kubeconfig");
    let client = kubeconfig::client(&nobody).await.expect("a client");
    let error =
        Api::<ConfigMap>::namespaced(client, &namespace).list(&ListParams::default()).await.expect_err("is refused");
    assert!(error.to_string().contains("User \"nobody\" cannot list"), "{error}");
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(control_plane.client().await, &namespace);
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "agent" } });
    accounts.patch("agent", &PatchParams::apply("bench"), &Patch::Apply(account)).await.expect("applies");
    let agent = control_plane.kubeconfig_for_service_account(&namespace, "agent").await.expect("a token");
    let client = kubeconfig::client(&agent).await.expect("a client");
    let error =
        Api::<ConfigMap>::namespaced(client, &namespace).list(&ListParams::default()).await.expect_err("is refused");
    assert!(error.to_string().contains(&format!("system:serviceaccount:{namespace}:agent")), "{error}");
}

#[tokio::test]
async fn the_api_goes_away_comes_back_and_forgets() {
    let control_plane = ControlPlane::start(Options::api_only()).await.expect("starts");
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await, "default");
    let version =
        maps.list(&ListParams::default()).await.expect("lists").metadata.resource_version.expect("has a version");
    for value in ["1", "2", "3"] {
        maps.patch("settings", &PatchParams::apply("bench"), &Patch::Apply(config_map(value))).await.expect("applies");
    }
    control_plane.stop_api();
    maps.get("settings").await.expect_err("is away");
    control_plane.expire_resource_versions().await.expect("comes back");
    assert_eq!(maps.get("settings").await.expect("is there").data.expect("has data")["key"], "3");
    let first = match maps.watch(&WatchParams::default(), &version).await {
        Ok(watch) => match watch.boxed().try_next().await {
            Ok(Some(WatchEvent::Error(status))) => status.code,
            other => panic!("expected 410, got {other:?}"),
        },
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("expected 410, got {other:?}"),
    };
    assert_eq!(first, 410);
}
