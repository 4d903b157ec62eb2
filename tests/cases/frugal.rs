//! What the API server is asked for, by its own count and by that of a proxy before it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use wickie_testbench::{ApiProxy, ControlPlane, Fleet, Options, eventually, manifests};

use crate::node::*;

/// What the agent has applied.
const OURS: &str = "kustomize.toolkit.fluxcd.io/name=apps";

/// A thousand objects are applied once each; one line of one of them is one apply; nothing is no request at all. What a
/// commit costs beside that is one write of the floor's copy.
#[tokio::test]
async fn a_thousand_objects_cost_a_thousand_applies_and_a_line_costs_one() {
    // The server counts for everybody: one of its own.
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let proxy = ApiProxy::start(&control_plane).unwrap();
    let namespace = control_plane.namespace("frugal").await.unwrap();
    let fleet = Fleet::new("frugal", env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace).unwrap();
    let files = manifests::many(1000, Some(&fleet.namespace));
    fleet.repo.write_all(&files).unwrap();
    let first = fleet.commit("a thousand").unwrap();
    fleet.follow("2s").unwrap();
    fleet.keep("apps", "  path: apps\n  interval: 5s\n").unwrap();

    let applies = || async { control_plane.metrics().await.unwrap().requests(&[("verb", "APPLY")]) };
    let before = applies().await;
    let mut agent = fleet.start().unwrap();
    let applied = |commit: String| {
        move |status: &serde_json::Value| {
            kustomization(status, "apps")["appliedRevision"] == format!("main@sha1:{commit}")
        }
    };
    status_becomes(&agent, "all is applied", applied(first)).await;
    // The floor's copy is one more.
    let sent = async |count: u64| {
        eventually(&format!("{count} applies"), LONG, || async {
            let seen = applies().await - before;
            anyhow::ensure!(seen == count, "{seen}");
            Ok(())
        })
        .await
    };
    sent(1001).await;

    // Watches settle; then two intervals and several polls of Git pass.
    let requests = || {
        let seen = proxy.requests();
        seen.iter().map(|request| format!("{} {}", request.method, request.path)).collect::<Vec<_>>()
    };
    eventually("two intervals pass without a request", LONG, || async {
        let (sent, polls) = (requests().len(), fleet.git.requests().len());
        tokio::time::sleep(Duration::from_secs(12)).await;
        anyhow::ensure!(fleet.git.requests().len() > polls, "Git was not asked: the agent stands still");
        anyhow::ensure!(requests().len() == sent, "{:?}", &requests()[sent..]);
        anyhow::Ok(())
    })
    .await;
    assert_eq!(applies().await - before, 1001);

    let (path, text) = &files[0];
    let changed = text.replace("line 7 of", "line seven of");
    assert_ne!(&changed, text);
    fleet.repo.write(path, &changed).unwrap();
    proxy.forget();
    let second = fleet.commit("one line").unwrap();
    status_becomes(&agent, "the line is applied", applied(second)).await;
    sent(1003).await;
    assert!(requests().len() <= 4, "{:?}", requests());

    // A restart looks at each kind once. What is deleted before and meanwhile comes back, and nothing else is sent.
    agent.kill9();
    let maps = maps(&fleet, &control_plane.client().await);
    let listed = maps.list(&ListParams::default().labels(OURS).limit(20)).await.unwrap().items;
    let gone: Vec<String> = listed.into_iter().filter_map(|map| map.metadata.name).collect();
    proxy.forget();
    for (at, name) in gone.iter().enumerate() {
        maps.delete(name, &DeleteParams::default()).await.unwrap();
        if at == 0 {
            agent.restart().unwrap();
        }
        // So that some are seen while a run repairs others.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sent(1003 + 20).await;
    for name in &gone {
        assert!(maps.get_opt(name).await.unwrap().is_some(), "{name} is not there");
    }
    let lists = proxy.count(|request| request.path == "/api/v1/configmaps" && !request.query.contains("watch="));
    assert_eq!(lists, 1, "ConfigMaps were listed {lists} times, in {} requests", requests().len());
}

/// Intervals that found all at rest are not looked into again; whatever moves after them is seen all the same.
#[tokio::test]
async fn what_moves_after_quiet_intervals_is_put_right() {
    let (fleet, client) = fleet("rest").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("till.yaml", "till", "git").unwrap();
    fleet.write_map("shelf.yaml", "shelf", "git").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  interval: 1s\n").unwrap();
    let mut agent = fleet.start().unwrap();
    let seen = applied(&agent, &first).await;
    let next = |status: &serde_json::Value| -> jiff::Timestamp {
        kustomization(status, "apps")["nextRun"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let mut last = next(&seen);
    let strip = serde_json::json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": null}}});
    for round in ["changed", "deleted", "unlabelled"] {
        let rested = status_becomes(&agent, "quiet intervals pass", |status| {
            next(status).duration_since(last) > jiff::SignedDuration::from_secs(3)
        })
        .await;
        match round {
            "changed" => change_by_hand(&maps, "till", "hand").await,
            "deleted" => drop(maps.delete("till", &DeleteParams::default()).await.unwrap()),
            _ => drop(maps.patch("till", &PatchParams::default(), &Patch::Merge(&strip)).await.unwrap()),
        }
        eventually(&format!("what was {round} is as Git has it"), LONG, || async {
            let found = maps.get("till").await?;
            let labels = found.metadata.labels.unwrap_or_default();
            let value = found.data.unwrap_or_default().remove("value");
            anyhow::ensure!(value.as_deref() == Some("git"), "{value:?}");
            anyhow::ensure!(labels.contains_key("kustomize.toolkit.fluxcd.io/name"), "{labels:?}");
            anyhow::Ok(())
        })
        .await;
        last = next(&rested);
    }
    fleet.repo.remove("shelf.yaml").unwrap();
    fleet.commit("without the shelf").unwrap();
    value_becomes(&mut agent, &maps, "shelf", None).await;
}

/// The controller of Deployments annotates each of them, and moves its metadata by that. Where it is watched whole because
/// its health is waited for, none is read to see that nothing of ours has changed: not while it starts, and not after a restart.
#[tokio::test]
async fn what_is_watched_whole_is_not_read_because_others_write_to_it() {
    let control_plane = ControlPlane::shared().await;
    let proxy = ApiProxy::start(control_plane).unwrap();
    let namespace = control_plane.namespace("annotated").await.unwrap();
    let fleet = Fleet::new("annotated", env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace).unwrap();
    for name in ["till", "scale", "shelf"] {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  replicas: 1\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
             spec: {{containers: [{{name: main, image: till}}]}}\n",
            fleet.namespace
        );
        fleet.repo.write(&format!("{name}.yaml"), &text).unwrap();
    }
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  interval: 1s\n  wait: true\n").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;

    let deployments: Api<Deployment> = Api::namespaced(control_plane.client().await, &fleet.namespace);
    let found = deployments.get("till").await.unwrap();
    assert!(found.metadata.annotations.unwrap_or_default().contains_key("deployment.kubernetes.io/revision"));
    let reads = |name: &str| {
        proxy.count(|request| request.method == "GET" && request.path.ends_with(&format!("/deployments/{name}")))
    };
    agent.kill9();
    agent.restart().unwrap();
    applied(&agent, &first).await;

    // What others write to it is theirs; what they write over ours is put right, and read for that.
    let by_hand = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let theirs = serde_json::json!({"metadata": {"annotations": {"note": "theirs"}}, "spec": {"minReadySeconds": 1}});
    deployments.patch("till", &by_hand, &Patch::Merge(theirs)).await.unwrap();
    let ours = serde_json::json!({"spec": {"replicas": 0}});
    deployments.patch("scale", &by_hand, &Patch::Merge(ours)).await.unwrap();
    eventually("what is ours is put right", LONG, || async {
        let replicas = deployments.get("scale").await?.spec.and_then(|spec| spec.replicas);
        anyhow::ensure!(replicas == Some(1), "{replicas:?}\n{}", tail(&agent.log()));
        anyhow::Ok(())
    })
    .await;
    let till = deployments.get("till").await.unwrap();
    assert_eq!(till.metadata.annotations.unwrap_or_default().get("note").map(String::as_str), Some("theirs"));
    assert_eq!(till.spec.and_then(|spec| spec.min_ready_seconds), Some(1));
    assert!(reads("scale") > 0);
    assert_eq!((reads("till"), reads("shelf")), (0, 0));
}
