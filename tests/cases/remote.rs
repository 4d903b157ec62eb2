//! Another cluster than the agent's own, by a kubeconfig in a Secret: two control planes, one agent.

use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_testbench::{ApiProxy, ControlPlane, Options, eventually};

use crate::cluster_input::{api, apply, declare_source, install_crds, kustomization_spec, object_becomes, ready};
use crate::node::*;

/// Another cluster, with the namespace of the test in it.
async fn away(namespace: &str) -> (ControlPlane, Client) {
    let away = ControlPlane::start(Options::api_only()).await.unwrap();
    let client = away.client().await;
    let made: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    Api::<Namespace>::all(client.clone()).create(&Default::default(), &made).await.unwrap();
    (away, client)
}

fn text(kubeconfig: &Path) -> String {
    std::fs::read_to_string(kubeconfig).unwrap()
}

fn deployment(namespace: &str, name: &str) -> String {
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
        "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
        .to_string()
}

/// Says of a Deployment what its controller would, once its pod is there.
async fn becomes_available(deployments: &Api<Deployment>, name: &str) {
    let there =
        eventually("the Deployment is there", LONG, || async { anyhow::Ok(deployments.get(name).await?) }).await;
    let generation = there.metadata.generation;
    let status = json!({"status": {
        "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "conditions": [{"type": "Available", "status": "True"}]
    }});
    deployments.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn a_kustomization_is_kept_in_the_cluster_that_its_kubeconfig_names() {
    let (_home, fleet, client) = fleet_alone("remote").await;
    let (plane, away) = away(&fleet.namespace).await;
    let proxy = ApiProxy::start(&plane).unwrap();
    let (here, there) = (maps(&fleet, &client), maps(&fleet, &away));
    let deployments: Api<Deployment> = Api::namespaced(away.clone(), &fleet.namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    let give = async |kubeconfig: &str| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "edge"}, "stringData": {"value": kubeconfig}});
        secrets.patch("edge", &PatchParams::apply("test").force(), &Patch::Apply(secret)).await.unwrap();
    };
    let commit = |value: &str| {
        fleet.write_map("edge/a.yaml", "a", value).unwrap();
        fleet.write_map("here/a.yaml", "a", &format!("here {value}")).unwrap();
        fleet.commit(value).unwrap()
    };
    fleet.write_map("edge/b.yaml", "b", "1").unwrap();
    fleet.repo.write("edge/web.yaml", &deployment(&fleet.namespace, "web")).unwrap();
    commit("1");
    install_crds(&client).await;
    declare_source(&client, &fleet).await;
    let declare = async |name: &str, more: Value| {
        let mut spec = kustomization_spec();
        spec["path"] = format!("./{name}").into();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        apply(&client, ResourceKind::Kustomization, &fleet.namespace, name, spec).await;
    };
    declare("here", json!({})).await;
    declare("edge", json!({"wait": true, "timeout": "3m", "kubeConfig": {"secretRef": {"name": "edge"}}})).await;
    let mut agent = fleet.start().unwrap();
    let kustomizations = api(&client, ResourceKind::Kustomization, &fleet.namespace);

    // Without the Secret that is said; the other Kustomization waits for nothing.
    value_becomes(&mut agent, &here, "a", Some("here 1")).await;
    object_becomes(&kustomizations, "edge", "the Secret is missed", |object| {
        ready(object)["message"].to_string().contains(&format!("Secret {}/edge, which is not there", fleet.namespace))
    })
    .await;
    give(&text(&proxy.kubeconfig())).await;
    value_becomes(&mut agent, &there, "a", Some("1")).await;
    // An object of one name in each cluster: neither is the other's.
    assert_eq!(value_of(&here, "a").await.unwrap().as_deref(), Some("here 1"));
    assert_eq!(value_of(&here, "b").await.unwrap(), None);

    // Health is that of the other cluster's objects.
    object_becomes(&kustomizations, "edge", "health is waited for", |object| ready(object)["status"] == "Unknown")
        .await;
    becomes_available(&deployments, "web").await;
    let is_ready = |object: &Value| ready(object)["status"] == "True";
    object_becomes(&kustomizations, "edge", "it is ready", is_ready).await;
    let said = status(&agent).unwrap();
    let cluster = kustomization(&said, "edge")["cluster"].clone();
    assert_eq!(
        (cluster["server"].as_str().unwrap().trim_end_matches('/'), &cluster["reachable"]),
        (proxy.origin().as_str(), &json!(true))
    );
    assert_eq!(kustomization(&said, "here")["cluster"], Value::Null);

    // Drift is repaired in each.
    change_by_hand(&there, "a", "by hand").await;
    value_becomes(&mut agent, &there, "a", Some("1")).await;
    change_by_hand(&here, "a", "by hand").await;
    value_becomes(&mut agent, &here, "a", Some("here 1")).await;
    let diff = agent.cli(&["diff", "edge", "-n", &fleet.namespace, "--exit-code"]).unwrap();
    assert_eq!(diff.code, 0, "{diff:?}");

    // While the other is away, nothing else waits; its status names it.
    let before = agent.log().len();
    proxy.down();
    commit("2");
    value_becomes(&mut agent, &here, "a", Some("here 2")).await;
    let origin = proxy.origin();
    object_becomes(&kustomizations, "edge", "it says which cluster is away", |object| {
        ready(object)["status"] == "False" && ready(object)["message"].to_string().contains(&origin)
    })
    .await;
    commit("3");
    value_becomes(&mut agent, &here, "a", Some("here 3")).await;
    // Nothing else changes there. A watch that was open again counted as blind until something did.
    proxy.up();
    value_becomes(&mut agent, &there, "a", Some("3")).await;
    object_becomes(&kustomizations, "edge", "it is ready again", is_ready).await;
    let log = agent.log();
    let told = log[before..].lines().filter(|line| line.contains(" WARN ") && line.contains("/edge ")).count();
    assert_eq!(told, 1, "an outage is told once\n{}", &log[before..]);

    // What left Git goes there, and only there.
    let apart = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"value": "mine"}});
    here.patch("b", &PatchParams::apply("somebody"), &Patch::Apply(apart)).await.unwrap();
    fleet.repo.remove("edge/b.yaml").unwrap();
    commit("4");
    value_becomes(&mut agent, &there, "b", None).await;
    assert_eq!(value_of(&here, "b").await.unwrap().as_deref(), Some("mine"));

    // Another kubeconfig of the same cluster: the old way is not needed any more.
    object_becomes(&kustomizations, "edge", "it is ready", is_ready).await;
    give(&text(&plane.kubeconfig())).await;
    let url = plane.url();
    status_becomes(&agent, "the new way is taken", |status| {
        let cluster = &kustomization(status, "edge")["cluster"];
        cluster["server"].as_str().unwrap_or_default().trim_end_matches('/') == url && cluster["reachable"] == true
    })
    .await;
    proxy.down();
    commit("5");
    value_becomes(&mut agent, &there, "a", Some("5")).await;
    object_becomes(&kustomizations, "edge", "it is ready", is_ready).await;
    change_by_hand(&there, "a", "by hand").await;
    value_becomes(&mut agent, &there, "a", Some("5")).await;

    // A restart finds it all again.
    agent.restart().unwrap();
    status_becomes(&agent, "it is ready", |status| {
        let edge = kustomization(status, "edge");
        edge["ready"]["status"] == "True" && edge["cluster"]["reachable"] == true
    })
    .await;

    // What would run on the node is refused by name, and does not run.
    let mark = fleet.scratch.join("ran");
    let mut hostile: Value = serde_json::from_str(&text(&plane.kubeconfig())).unwrap();
    hostile["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", format!("touch {}", mark.display())]
    }});
    give(&hostile.to_string()).await;
    let refused = object_becomes(&kustomizations, "edge", "exec is refused", |object| {
        ready(object)["message"].to_string().contains("users[].user.exec is refused")
    })
    .await;
    assert_eq!(ready(&refused)["status"], "False", "{refused:#}");
    commit("6");
    value_becomes(&mut agent, &here, "a", Some("here 6")).await;
    assert!(!mark.exists(), "it was run");
    assert_eq!(value_of(&there, "a").await.unwrap().as_deref(), Some("5"));

    // Its deletion waits for a way to the cluster, and then prunes there.
    kustomizations.delete("edge", &Default::default()).await.unwrap();
    object_becomes(&kustomizations, "edge", "it says why it waits", |object| {
        object["metadata"]["deletionTimestamp"].is_string()
            && ready(object)["message"].to_string().contains("cannot be deleted yet: the kubeconfig in Secret")
    })
    .await;
    give(&text(&plane.kubeconfig())).await;
    value_becomes(&mut agent, &there, "a", None).await;
    eventually("it is gone", LONG, || async {
        anyhow::ensure!(kustomizations.get_opt("edge").await?.is_none(), "it is still there\n{}", tail(&agent.log()));
        anyhow::ensure!(deployments.get_opt("web").await?.is_none());
        anyhow::Ok(())
    })
    .await;
    assert_eq!(value_of(&here, "a").await.unwrap().as_deref(), Some("here 6"));
}

/// As in Flux, the rights that count are those of the account of the other cluster; where its kubeconfig may list nothing,
/// objects are read one by one.
#[tokio::test]
async fn the_rights_that_count_are_those_in_the_other_cluster() {
    let (fleet, client) = fleet("rights").await;
    let (plane, away) = away(&fleet.namespace).await;
    let there = maps(&fleet, &away);
    let deployments: Api<Deployment> = Api::namespaced(away.clone(), &fleet.namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(away.clone(), &fleet.namespace);
    for name in ["tenant", "edge"] {
        let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        accounts.create(&Default::default(), &account).await.unwrap();
    }
    let grant = async |name: &str, rules: Value| {
        let role = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
        Api::<Role>::namespaced(away.clone(), &fleet.namespace).create(&Default::default(), &role).await.unwrap();
        let binding = json!({
            "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": fleet.namespace}]
        });
        let binding = serde_json::from_value(binding).unwrap();
        let bindings = Api::<RoleBinding>::namespaced(away.clone(), &fleet.namespace);
        bindings.create(&Default::default(), &binding).await.unwrap();
    };
    let all = json!(["get", "create", "patch", "delete"]);
    grant("tenant", json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": all}])).await;
    let both = json!([{"apiGroups": ["", "apps"], "resources": ["configmaps", "deployments"], "verbs": all}]);
    grant("edge", both).await;

    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    fleet.repo.write("apps/web.yaml", &deployment(&fleet.namespace, "web")).unwrap();
    fleet.write_map("limited/b.yaml", "b", "1").unwrap();
    fleet.repo.write("limited/till.yaml", &deployment(&fleet.namespace, "till")).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    // The Secret stands in a file, with two kubeconfigs: one of an administrator, one that may do little.
    let little = plane.kubeconfig_for_service_account(&fleet.namespace, "edge").await.unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "edge", "namespace": fleet.namespace},
        "stringData": {"admin": text(&plane.kubeconfig()), "little": text(&little)}
    });
    fleet.configure("edge.yaml", &secret.to_string()).unwrap();
    let keep = |name: &str, more: Value| {
        let mut spec = kustomization_spec();
        spec["path"] = format!("./{name}").into();
        spec["sourceRef"]["namespace"] = "flux-system".into();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let object = json!({
            "apiVersion": ResourceKind::Kustomization.api_version(), "kind": "Kustomization",
            "metadata": {"name": name, "namespace": fleet.namespace}, "spec": spec
        });
        fleet.configure(&format!("{name}.yaml"), &object.to_string()).unwrap();
    };
    let by = |key: &str| json!({"secretRef": {"name": "edge", "key": key}});
    keep("limited", json!({"kubeConfig": by("admin"), "serviceAccountName": "tenant"}));
    keep("apps", json!({"kubeConfig": by("little"), "wait": true, "timeout": "3m", "interval": "3s"}));
    let mut agent = fleet.start().unwrap();

    // The service account is one of the other cluster.
    value_becomes(&mut agent, &there, "b", Some("1")).await;
    let refused = status_becomes(&agent, "what it may not do is refused", |status| {
        kustomization(status, "limited")["ready"]["message"].to_string().contains("deployments.apps")
    })
    .await;
    let message = kustomization(&refused, "limited")["ready"]["message"].to_string();
    assert!(message.contains(&format!("system:serviceaccount:{}:tenant", fleet.namespace)), "{message}");
    assert!(deployments.get_opt("till").await.unwrap().is_none());

    // What may not be listed is asked for.
    value_becomes(&mut agent, &there, "a", Some("1")).await;
    becomes_available(&deployments, "web").await;
    status_becomes(&agent, "it is ready", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    change_by_hand(&there, "a", "by hand").await;
    value_becomes(&mut agent, &there, "a", Some("1")).await;

    // As in Flux, one that moves to another cluster leaves behind what it has in the former one.
    keep("apps", json!({}));
    let here = maps(&fleet, &client);
    value_becomes(&mut agent, &here, "a", Some("1")).await;
    change_by_hand(&here, "a", "by hand").await;
    value_becomes(&mut agent, &here, "a", Some("1")).await;
    assert_eq!(value_of(&there, "a").await.unwrap().as_deref(), Some("1"));
}

/// Who is given back is given back where the objects are.
#[tokio::test]
async fn what_is_released_is_released_in_the_other_cluster() {
    let (home, fleet, client) = fleet_alone("handed").await;
    let (plane, away) = away(&fleet.namespace).await;
    let (here, there) = (maps(&fleet, &client), maps(&fleet, &away));
    fleet.write_map("edge/a.yaml", "a", "1").unwrap();
    fleet.write_map("here/a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    install_crds(&client).await;
    declare_source(&client, &fleet).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "edge"}, "stringData": {"value.yaml": text(&plane.kubeconfig())}});
    secrets.patch("edge", &PatchParams::apply("test"), &Patch::Apply(secret)).await.unwrap();
    for (name, more) in [("here", json!({})), ("edge", json!({"kubeConfig": {"secretRef": {"name": "edge"}}}))] {
        let mut spec = kustomization_spec();
        spec["path"] = format!("./{name}").into();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        apply(&client, ResourceKind::Kustomization, &fleet.namespace, name, spec).await;
    }
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &here, "a", Some("1")).await;
    value_becomes(&mut agent, &there, "a", Some("1")).await;
    let managers = async |maps: &Api<ConfigMap>| -> Vec<String> {
        let entries = maps.get("a").await.unwrap().metadata.managed_fields.unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.manager).collect()
    };
    let kubeconfig = home.kubeconfig();
    let args = ["release", "edge", "-n", &fleet.namespace, "--kubeconfig", kubeconfig.to_str().unwrap(), "-o", "json"];
    let answered = agent.cli(&args).unwrap();
    let answer: Value = serde_json::from_str(&answered.stdout).unwrap_or_else(|_| panic!("{answered:?}"));
    assert_eq!((answered.code, &answer["kustomizations"][0]["handedOver"]), (0, &json!(1)), "{answer:#}");
    assert_eq!(managers(&there).await, ["kustomize-controller"]);
    assert_eq!(managers(&here).await, ["wickie"], "the one of the same name here is another's");
}
