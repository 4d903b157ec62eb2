//! Objects that want more than to be sent: health, order, immutable fields, marks, definitions and what they define.

use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::node::*;

fn deployment(namespace: &str, name: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers: [{{name: main, image: {image}}}]
"
    )
}

#[tokio::test]
async fn health_is_waited_for_and_dependents_come_after_it() {
    let (fleet, client) = fleet("health").await;
    let maps = maps(&fleet, &client);
    fleet.repo.write("first/till.yaml", &deployment(&fleet.namespace, "till", "till:1")).unwrap();
    fleet.write_map("second/a.yaml", "after", "1").unwrap();
    // No node has this label: its pod is never scheduled.
    let stuck = deployment(&fleet.namespace, "stuck", "x")
        .replace("containers:", "nodeSelector: {no: where}\n      containers:");
    fleet.repo.write("stuck/stuck.yaml", &stuck).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("second", "  path: second\n  dependsOn: [{name: first}]\n").unwrap();
    fleet.keep("never", "  path: second\n  dependsOn: [{name: stuck}]\n").unwrap();
    let mut agent = fleet.start().unwrap();
    let held = status_becomes(&agent, "the dependent is held", |status| {
        kustomization(status, "second")["ready"]["reason"] == "DependencyNotReady"
    })
    .await;
    assert!(kustomization(&held, "second")["ready"]["message"].to_string().contains("flux-system/first"), "{held:#}");
    fleet.keep("first", "  path: first\n  wait: true\n  timeout: 2m\n").unwrap();
    fleet.keep("stuck", "  path: stuck\n  wait: true\n  timeout: 30s\n").unwrap();
    value_becomes(&mut agent, &maps, "after", Some("1")).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let available = deployments.get("till").await.unwrap().status.and_then(|status| status.available_replicas);
    assert_eq!(available, Some(1), "the dependent came before its dependency was healthy");

    let status = status_becomes(&agent, "the stuck one is given up", |status| {
        kustomization(status, "stuck")["ready"]["reason"] == "HealthCheckFailed"
    })
    .await;
    let message = kustomization(&status, "stuck")["ready"]["message"].to_string();
    assert!(message.contains("Deployment/") && message.contains("stuck"), "{message}");
    assert_eq!(kustomization(&status, "never")["ready"]["reason"], "DependencyNotReady");
    // It becomes healthy later: the next try finds that.
    fleet.repo.write("stuck/stuck.yaml", &deployment(&fleet.namespace, "stuck", "x")).unwrap();
    fleet.commit("mended").unwrap();
    status_becomes(&agent, "the mended one is ready", |status| {
        kustomization(status, "stuck")["ready"]["status"] == "True"
    })
    .await;
}

/// As in Flux: a Deployment that is past its deadline for progress does not get better by itself.
#[tokio::test]
async fn what_has_failed_for_good_is_not_waited_for() {
    let (fleet, client) = fleet("failed").await;
    let write = |folder: &str, image: &str, stuck: bool| {
        let mut text = deployment(&fleet.namespace, folder, image);
        if stuck {
            text = text.replace("containers:", "nodeSelector: {no: where}\n      containers:");
            text = text.replace("  replicas: 1\n", "  replicas: 1\n  progressDeadlineSeconds: 3\n");
        }
        fleet.repo.write(&format!("{folder}/{folder}.yaml"), &text).unwrap();
    };
    write("stuck", "x:1", true);
    write("undone", "x:1", false);
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    // Nobody waits for so long here.
    fleet.keep("stuck", "  path: stuck\n  wait: true\n  timeout: 1h\n  retryInterval: 1h\n").unwrap();
    let undo = "wickie.dev/on-unhealthy: rollback";
    keep_annotated(&fleet, "undone", "undone", undo, "  wait: true\n  timeout: 1h\n");
    let agent = fleet.start().unwrap();
    let status = status_becomes(&agent, "the stuck one is given up", |status| {
        kustomization(status, "stuck")["ready"]["reason"] == "HealthCheckFailed"
    })
    .await;
    let message = kustomization(&status, "stuck")["ready"]["message"].to_string();
    assert!(message.contains("failed early") && message.contains("ProgressDeadlineExceeded"), "{message}");

    // Mended, it is waited for again: what was said of the old one counts no more.
    status_becomes(&agent, "the other is ready", |status| kustomization(status, "undone")["ready"]["status"] == "True")
        .await;
    write("stuck", "x:2", false);
    write("undone", "x:2", true);
    let second = fleet.commit("second").unwrap();
    status_becomes(&agent, "the mended one is ready", |status| {
        let stuck = kustomization(status, "stuck");
        stuck["ready"]["status"] == "True" && stuck["appliedRevision"] == revision(&second)
    })
    .await;
    let status = status_becomes(&agent, "the other is rolled back", |status| {
        kustomization(status, "undone")["ready"]["reason"] == "RolledBack"
    })
    .await;
    assert_eq!(kustomization(&status, "undone")["appliedRevision"], revision(&first), "{status:#}");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let image =
        deployments.get("undone").await.unwrap().spec.unwrap().template.spec.unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("x:1"));
}

/// A try that fails at once is followed by the next after `retryInterval`, however long a try may take.
#[tokio::test]
async fn what_has_failed_is_tried_again_in_time() {
    let (fleet, client) = fleet("again").await;
    let label = format!("{}/shelf", fleet.namespace);
    let text = deployment(&fleet.namespace, "till", "x:1")
        .replace("containers:", &format!("nodeSelector: {{{label}: free}}\n      containers:"))
        .replace("  replicas: 1\n", "  replicas: 1\n  progressDeadlineSeconds: 1\n");
    fleet.repo.write("till/till.yaml", &text).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("till", "  path: till\n  wait: true\n  timeout: 1h\n  retryInterval: 1s\n").unwrap();
    let agent = fleet.start().unwrap();
    let status = status_becomes(&agent, "it is given up", |status| {
        kustomization(status, "till")["ready"]["reason"] == "HealthCheckFailed"
    })
    .await;
    let next = kustomization(&status, "till")["nextRun"].clone();
    let next: Timestamp = next.as_str().unwrap().parse().unwrap();
    status_becomes(&agent, "some tries more have failed", |_| Timestamp::now() > next + 3.seconds()).await;
    // Somebody makes room for it, and tells nobody.
    let nodes: Api<Node> = Api::all(client);
    let node = nodes.list(&Default::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
    let patch = json!({"metadata": {"labels": {label: "free"}}});
    nodes.patch(&node, &Default::default(), &Patch::Merge(patch)).await.unwrap();
    status_becomes(&agent, "it is ready", |status| kustomization(status, "till")["ready"]["status"] == "True").await;
}

#[tokio::test]
async fn a_definition_and_what_it_defines_come_in_one_commit() {
    let (fleet, client) = fleet("definitions").await;
    let group = format!("{}.example.com", fleet.namespace);
    let crd = format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: tills.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Till, plural: tills, singular: till, listKind: TillList}}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{drawer: {{type: integer}}}}}}}}}}}}
"
    );
    let namespace = format!("{}-made", fleet.namespace);
    let till = format!(
        "apiVersion: {group}/v1\nkind: Till\nmetadata: {{name: one, namespace: {namespace}}}\nspec: {{drawer: 1}}\n"
    );
    // Named so that the order of the files is the wrong one.
    fleet.repo.write("a-till.yaml", &till).unwrap();
    fleet
        .repo
        .write("b-namespace.yaml", &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n"))
        .unwrap();
    fleet.repo.write("c-definition.yaml", &crd).unwrap();
    let commit = fleet.commit("all at once").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let agent = fleet.start().unwrap();
    status_becomes(&agent, "all is applied", |status| {
        kustomization(status, "apps")["appliedRevision"] == format!("main@sha1:{commit}")
    })
    .await;
    // At the first try: nothing failed on the way.
    let history = agent.cli(&["history", "apps", "-o", "json"]).unwrap().stdout;
    assert!(!history.contains("ReconciliationFailed"), "{history}");
    let gvk = kube::core::GroupVersionKind::gvk(&group, "v1", "Till");
    let tills: Api<kube::api::DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &kube::api::ApiResource::from_gvk_with_plural(&gvk, "tills"));
    assert_eq!(tills.get("one").await.unwrap().data["spec"]["drawer"], 1);
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client);
    namespaces.delete(&namespace, &Default::default()).await.unwrap();
}

#[tokio::test]
async fn an_immutable_field_is_changed_only_by_force() {
    let (fleet, client) = fleet("immutable").await;
    let job = |image: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: once, namespace: {}}}\nspec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: {image}}}]}}}}}}\n",
            fleet.namespace
        )
    };
    fleet.repo.write("job.yaml", &job("one")).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let agent = fleet.start().unwrap();
    status_becomes(&agent, "it is ready", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    let jobs: Api<Job> = Api::namespaced(client, &fleet.namespace);
    let first = jobs.get("once").await.unwrap().metadata.uid;

    fleet.repo.write("job.yaml", &job("two")).unwrap();
    fleet.commit("second").unwrap();
    let refused = status_becomes(&agent, "the change is refused", |status| {
        kustomization(status, "apps")["ready"]["status"] == "False"
    })
    .await;
    assert!(kustomization(&refused, "apps")["ready"]["message"].to_string().contains("immutable"), "{refused:#}");
    assert_eq!(jobs.get("once").await.unwrap().metadata.uid, first);

    fleet.keep("apps", "  force: true\n").unwrap();
    status_becomes(&agent, "it is made again", |status| kustomization(status, "apps")["ready"]["status"] == "True")
        .await;
    assert_ne!(jobs.get("once").await.unwrap().metadata.uid, first);
}

#[tokio::test]
async fn marks_on_an_object_are_followed() {
    let (fleet, client) = fleet("marks").await;
    let maps = maps(&fleet, &client);
    let marked = |name: &str, value: &str, mark: &str| {
        wickie_testbench::fleet::config_map(&fleet.namespace, name, value)
            .replace("\ndata:", &format!("\n  annotations: {{kustomize.toolkit.fluxcd.io/{mark}}}\ndata:"))
    };
    let write = |value: &str| {
        fleet.repo.write("kept.yaml", &marked("kept", value, "prune: disabled")).unwrap();
        fleet.repo.write("paused.yaml", &marked("paused", value, "reconcile: disabled")).unwrap();
        fleet.repo.write("once.yaml", &marked("once", value, "ssa: IfNotPresent")).unwrap();
        fleet.write_map("plain.yaml", "plain", value).unwrap();
    };
    write("1");
    let theirs =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "once"}, "data": {"value": "theirs"}});
    maps.patch("once", &PatchParams::apply("another-tool"), &Patch::Apply(theirs)).await.unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "plain", Some("1")).await;
    value_becomes(&mut agent, &maps, "kept", Some("1")).await;
    assert_eq!(value_of(&maps, "once").await.unwrap().as_deref(), Some("theirs"));
    assert_eq!(value_of(&maps, "paused").await.unwrap(), None);

    for file in ["kept.yaml", "plain.yaml"] {
        fleet.repo.remove(file).unwrap();
    }
    fleet.write_map("last.yaml", "last", "1").unwrap();
    fleet.commit("second").unwrap();
    value_becomes(&mut agent, &maps, "plain", None).await;
    value_becomes(&mut agent, &maps, "last", Some("1")).await;
    assert_eq!(value_of(&maps, "kept").await.unwrap().as_deref(), Some("1"));

    // The last object leaves Git: that is more often an accident than an order.
    fleet.repo.remove("last.yaml").unwrap();
    fleet.repo.remove("paused.yaml").unwrap();
    fleet.repo.remove("once.yaml").unwrap();
    fleet.repo.write("README.md", "nothing left").unwrap();
    let empty = fleet.commit("nothing left").unwrap();
    let asks = status_becomes(&agent, "it asks before it deletes the last", |status| {
        kustomization(status, "apps")["ready"]["status"] == "False"
    })
    .await;
    assert!(
        kustomization(&asks, "apps")["ready"]["message"].to_string().contains("wickie.dev/prune-approve"),
        "{asks:#}"
    );
    assert_eq!(value_of(&maps, "last").await.unwrap().as_deref(), Some("1"));
    let text = std::fs::read_to_string(fleet.config().join("apps.yaml")).unwrap();
    let approved = text.replace(
        "metadata: {name: apps}",
        &format!("metadata: {{name: apps, annotations: {{wickie.dev/prune-approve: \"main@sha1:{empty}\"}}}}"),
    );
    fleet.configure("apps.yaml", &approved).unwrap();
    value_becomes(&mut agent, &maps, "last", None).await;
}

#[tokio::test]
async fn an_overlay_is_built_on_the_node() {
    let (fleet, client) = fleet("overlay").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("base/a.yaml", "a", "${CITY}").unwrap();
    fleet.repo.write("base/kustomization.yaml", "resources: [a.yaml]\n").unwrap();
    let overlay =
        "resources: [../../base]\nnamePrefix: oslo-\nconfigMapGenerator: [{name: made, literals: [value=1]}]\n";
    fleet.repo.write("clusters/oslo/kustomization.yaml", overlay).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let spec = format!(
        "  path: clusters/oslo\n  targetNamespace: {}\n  postBuild: {{substitute: {{CITY: Oslo}}}}\n",
        fleet.namespace
    );
    fleet.keep("apps", &spec).unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "oslo-a", Some("Oslo")).await;
    let generated = maps.list(&Default::default()).await.unwrap().items;
    assert!(
        generated.iter().any(|map| map.metadata.name.as_deref().is_some_and(|name| name.starts_with("oslo-made-")))
    );
}
