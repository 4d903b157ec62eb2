use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, WatchParams};
use kube::{Api, core::WatchEvent};
use serde_json::json;
use wickie_testbench::{ApiProxy, ApiProxyOptions, ControlPlane, Fault, When, eventually, kubeconfig};

fn config_map(name: &str, value: &str) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": value } })
}

#[tokio::test]
async fn requests_pass_and_are_counted_and_watches_stream() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("proxy").await.expect("a namespace");
    for tls in [false, true] {
        let proxy =
            ApiProxy::start_with(control_plane, &ApiProxyOptions { tls, ..Default::default() }).expect("starts");
        let client = kubeconfig::client(&proxy.kubeconfig()).await.expect("a client");
        let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
        let mut watch = maps.watch(&WatchParams::default(), "0").await.expect("watches").boxed();
        let name = format!("a-{tls}");
        maps.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(config_map(&name, "1"))).await.expect("applies");
        while let Some(event) = watch.try_next().await.expect("streams") {
            if matches!(&event, WatchEvent::Added(map) if map.metadata.name.as_ref() == Some(&name)) {
                break;
            }
        }
        assert_eq!(proxy.count(|request| request.method == "PATCH" && request.path.ends_with(&name)), 1);
        assert_eq!(proxy.count(|request| request.query.contains("watch=true") && request.took.is_none()), 1);
        drop(watch);
        eventually("the watch is over", Duration::from_secs(30), || async {
            anyhow::ensure!(proxy.count(|request| request.took.is_none()) == 0, "{:?}", proxy.requests());
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn too_many_requests_and_a_lost_answer() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("proxy").await.expect("a namespace");
    let proxy = ApiProxy::start(control_plane).expect("starts");
    // Not kube's client: it would try again by itself.
    let direct: Api<ConfigMap> = Api::namespaced(control_plane.client().await, &namespace);
    let client = kubeconfig::client(&proxy.kubeconfig()).await.expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    proxy.inject(Fault::Refuse.once());
    maps.patch("before", &PatchParams::apply("bench"), &Patch::Apply(config_map("before", "1")))
        .await
        .expect_err("broken");
    assert!(direct.get_opt("before").await.expect("answers").is_none());
    proxy.inject(Fault::Lose.once());
    maps.patch("after", &PatchParams::apply("bench"), &Patch::Apply(config_map("after", "1")))
        .await
        .expect_err("broken");
    assert!(direct.get_opt("after").await.expect("answers").is_some(), "served, though its answer was lost");
    proxy.down();
    maps.get("after").await.expect_err("refused");
    proxy.up();
    maps.get("after").await.expect("is up again");
}

#[tokio::test]
async fn a_hook_at_the_nth_write() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("proxy").await.expect("a namespace");
    let proxy = ApiProxy::start(control_plane).expect("starts");
    let client = kubeconfig::client(&proxy.kubeconfig()).await.expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let rang = Arc::new(AtomicBool::new(false));
    let bell = rang.clone();
    proxy.at_request(2, When::After, |request| request.method == "PATCH", move || bell.store(true, Ordering::SeqCst));
    for (name, expected) in [("one", false), ("two", true)] {
        maps.patch(name, &PatchParams::apply("bench"), &Patch::Apply(config_map(name, "1"))).await.expect("applies");
        assert_eq!(rang.load(Ordering::SeqCst), expected);
    }
}
