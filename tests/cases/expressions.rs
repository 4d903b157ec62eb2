//! CEL expressions in a spec: what is healthy, and what is ready to be depended on.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_testbench::{Fleet, eventually};

use crate::cluster_input::{api, apply, declare_source, install_crds, kustomization_spec, object_becomes, ready};
use crate::node::*;

/// A kind of its own with any fields, whose status is written by whoever likes.
pub(crate) async fn define_tills(client: &Client, fleet: &Fleet) -> Api<DynamicObject> {
    let group = format!("{}.example.com", fleet.namespace);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let whole = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": open, "status": open}
    });
    let name = format!("tills.{group}");
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": "Till", "plural": "tills", "singular": "till", "listKind": "TillList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": whole}
            }]
        }
    });
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.patch(&name, &PatchParams::apply("test"), &Patch::Apply(crd)).await.unwrap();
    let gvk = kube::core::GroupVersionKind::gvk(&group, "v1", "Till");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "tills");
    let tills: Api<DynamicObject> = Api::namespaced_with(client.clone(), &fleet.namespace, &resource);
    eventually("tills are served", LONG, || async { anyhow::Ok(tills.list(&Default::default()).await.map(drop)?) })
        .await;
    tills
}

fn till(fleet: &Fleet, name: &str) -> String {
    let namespace = &fleet.namespace;
    format!("apiVersion: {namespace}.example.com/v1\nkind: Till\nmetadata: {{name: {name}, namespace: {namespace}}}\n")
}

async fn tell(tills: &Api<DynamicObject>, name: &str, status: Value) {
    let patch = json!({ "status": status });
    eventually(&format!("{name} takes a status"), LONG, || async {
        tills.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_object_is_as_healthy_as_its_expressions_say() {
    let (fleet, client) = fleet("expressions").await;
    let tills = define_tills(&client, &fleet).await;
    let maps = maps(&fleet, &client);
    fleet.repo.write("apps/one.yaml", &till(&fleet, "one")).unwrap();
    fleet.write_map("apps/beside.yaml", "beside", "1").unwrap();
    fleet.repo.write("late/late.yaml", &till(&fleet, "late")).unwrap();
    fleet.repo.write("never/broken.yaml", &till(&fleet, "broken")).unwrap();
    fleet.write_map("after/after.yaml", "after", "1").unwrap();
    fleet.write_map("foreign/foreign.yaml", "foreign", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let rules = |kind: &str, more: &str, current: &str| {
        format!(
            "  healthCheckExprs:\n  - apiVersion: {}.example.com/v1\n{kind}{more}    current: {current}\n",
            fleet.namespace
        )
    };
    let kind = "    kind: Till\n";
    let synced = "status.conditions.filter(e, e.type == 'Synced').all(e, e.status == 'True')";
    let apps = |rules: String| format!("  path: apps\n  wait: true\n  timeout: 5m\n{rules}");
    fleet.keep("apps", &apps(rules(kind, "", synced))).unwrap();
    fleet.keep("after", "  path: after\n  dependsOn: [{name: apps}]\n").unwrap();
    let failed = "    failed: has(status.phase) && status.phase == 'Broken'\n";
    for (path, timeout) in [("late", "30s"), ("never", "1h")] {
        let spec = format!("  path: {path}\n  wait: true\n  timeout: {timeout}\n{}", rules(kind, failed, synced));
        fleet.keep(path, &spec).unwrap();
    }
    // Without a kind, for all of the group; on an object that is not its own.
    let foreign = format!(
        "  path: foreign\n  timeout: 5m\n  healthChecks:\n  - {{apiVersion: {0}.example.com/v1, kind: Till, name: other, namespace: {0}}}\n{1}",
        fleet.namespace,
        rules("", "    inProgress: status.?busy.orValue(false)\n", "status.?phase.orValue('') == 'Open'")
    );
    fleet.keep("foreign", &foreign).unwrap();
    let unknown = format!("  path: apps\n{}", rules(kind, "", "status.at < timestamp('2026-01-01T00:00:00Z')"));
    fleet.keep("unknown", &unknown).unwrap();
    let other: DynamicObject = serde_saphyr::from_str(&till(&fleet, "other")).unwrap();
    tills.create(&Default::default(), &other).await.unwrap();
    tell(&tills, "other", json!({"phase": "Open", "busy": true})).await;
    let mut agent = fleet.start().unwrap();

    let refused = status_becomes(&agent, "an expression that cannot be followed is refused", |status| {
        kustomization(status, "unknown")["ready"]["reason"] == "InvalidSpec"
    })
    .await;
    let message = kustomization(&refused, "unknown")["ready"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.healthCheckExprs[0].current"), "{message}");
    assert!(message.contains("status.at < ") && message.contains("calls timestamp()"), "{message}");

    tell(&tills, "broken", json!({"phase": "Broken"})).await;
    tell(&tills, "one", json!({"conditions": [{"type": "Synced", "status": "False"}]})).await;
    let status = status_becomes(&agent, "what never gets there is given up, late or at once", |status| {
        ["late", "never"].iter().all(|name| kustomization(status, name)["ready"]["reason"] == "HealthCheckFailed")
    })
    .await;
    let said = |name: &str| kustomization(&status, name)["ready"]["message"].to_string();
    assert!(said("late").contains("late (InProgress: healthCheckExprs.failed: status is not there)"), "{status:#}");
    assert!(said("never").contains("healthCheckExprs.failed holds"), "{status:#}");
    assert_ne!(kustomization(&status, "apps")["ready"]["status"], "True", "{status:#}");
    assert_ne!(kustomization(&status, "foreign")["ready"]["status"], "True", "{status:#}");
    assert_eq!(value_of(&maps, "after").await.unwrap(), None);
    // What drifts meanwhile is put right, and the wait goes on.
    change_by_hand(&maps, "beside", "by hand").await;
    value_becomes(&mut agent, &maps, "beside", Some("1")).await;

    tell(&tills, "one", json!({"conditions": [{"type": "Synced", "status": "True"}]})).await;
    tell(&tills, "other", json!({"busy": false})).await;
    value_becomes(&mut agent, &maps, "after", Some("1")).await;
    let ready = |name: &'static str| move |status: &Value| kustomization(status, name)["ready"]["status"] == "True";
    status_becomes(&agent, "both are ready", |status| ready("apps")(status) && ready("foreign")(status)).await;
    let history = agent.cli(&["history", "apps", "-o", "json"]).unwrap();
    let history: Value = serde_json::from_str(&history.stdout).expect(&history.stderr);
    let runs = history["runs"].as_array().unwrap();
    let ended = |cause: &str, message: &str| {
        runs.iter().any(|run| run["cause"] == cause && run["message"].to_string().contains(message))
    };
    assert!(ended("revision", "another run was asked for before it was healthy"), "{history:#}");
    assert!(ended("drift", "Applied revision"), "{history:#}");

    // Another rule: what was seen by the old one counts for nothing.
    fleet.keep("apps", &apps(rules(kind, "", "status.phase == 'Open'"))).unwrap();
    status_becomes(&agent, "it is judged anew", |status| !ready("apps")(status)).await;
    tell(&tills, "one", json!({"phase": "Open"})).await;
    status_becomes(&agent, "it is ready by the new rule", ready("apps")).await;
}

#[tokio::test]
async fn a_dependency_is_as_ready_as_the_expression_says() {
    let (_control_plane, fleet, client) = fleet_alone("ready").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("first/first.yaml", "first", "1").unwrap();
    fleet.write_map("second/second.yaml", "second", "1").unwrap();
    fleet.write_map("third/third.yaml", "third", "1").unwrap();
    fleet.commit("first").unwrap();
    install_crds(&client).await;
    declare_source(&client, &fleet).await;
    let kustomizations = api(&client, ResourceKind::Kustomization, &fleet.namespace);
    let keep = async |name: &str, more: Value| {
        let mut spec = kustomization_spec();
        spec["path"] = format!("./{name}").into();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        apply(&client, ResourceKind::Kustomization, &fleet.namespace, name, spec).await;
    };
    let label = async |name: &str, version: &str| {
        let patch = json!({"metadata": {"labels": {"app/version": version}}});
        kustomizations.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    // As Flux's documentation has it: both of one version.
    let lockstep = "dep.metadata.labels['app/version'] == self.metadata.labels['app/version'] && \
                    dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True') && \
                    dep.metadata.generation == dep.status.observedGeneration";
    keep("first", json!({})).await;
    keep("second", json!({"dependsOn": [{"name": "first", "readyExpr": lockstep}]})).await;
    // One that is suspended, and never ready: the expression stands in for the condition.
    keep("waiting", json!({"suspend": true, "path": "./first"})).await;
    keep("third", json!({"dependsOn": [{"name": "waiting", "readyExpr": "dep.spec.suspend && self.spec.prune"}]}))
        .await;
    keep("wrong", json!({"path": "./third", "dependsOn": [{"name": "first", "readyExpr": "other.spec.suspend"}]}))
        .await;
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "first", Some("1")).await;
    value_becomes(&mut agent, &maps, "third", Some("1")).await;
    let wrong = object_becomes(&kustomizations, "wrong", "a wrong name is refused", |object| {
        ready(object)["reason"] == "InvalidSpec"
    })
    .await;
    let message = ready(&wrong)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("spec.dependsOn[0].readyExpr") && message.contains("self and dep"), "{message}");

    let held = object_becomes(&kustomizations, "second", "what is not there is named", |object| {
        ready(object)["message"].as_str().is_some_and(|message| message.contains("labels is not there"))
    })
    .await;
    assert_eq!(ready(&held)["reason"], "DependencyNotReady");
    label("first", "v1").await;
    label("second", "v2").await;
    object_becomes(&kustomizations, "second", "another version is waited for", |object| {
        ready(object)["message"]
            .as_str()
            .is_some_and(|message| message.ends_with("is not ready according to readyExpr"))
    })
    .await;
    assert_eq!(value_of(&maps, "second").await.unwrap(), None);
    // A label of the one that it depends on changes, and nothing else.
    label("first", "v2").await;
    value_becomes(&mut agent, &maps, "second", Some("1")).await;
    object_becomes(&kustomizations, "second", "it is ready", |object| ready(object)["status"] == "True").await;

    // Where the node says so, the condition must hold as well.
    let node = "apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {additive-ready-expressions: true}\n";
    fleet.configure("node.yaml", node).unwrap();
    let held = object_becomes(&kustomizations, "third", "the expression alone is not enough", |object| {
        ready(object)["reason"] == "DependencyNotReady"
    })
    .await;
    assert!(ready(&held)["message"].as_str().unwrap().ends_with("waiting' is not ready"), "{held:#}");
}
