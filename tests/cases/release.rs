//! The way out: what wickie keeps is handed back, whole, and nobody takes it again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_testbench::{Agent, ApiProxy, ControlPlane, Fault, Fleet, agent, eventually};

use crate::cluster_input::{api, declare, install_crds};
use crate::node::*;

const OWNER: &str = "kustomize.toolkit.fluxcd.io/name";

fn deployment(namespace: &str, image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: till, namespace: {namespace}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: till}}}}
  template:
    metadata: {{labels: {{app: till}}}}
    spec:
      containers: [{{name: main, image: {image}}}]
"
    )
}

/// What an object is, as far as it must stay the same.
#[derive(Debug, PartialEq)]
struct Seen {
    uid: String,
    generation: i64,
    spec: Value,
    data: Value,
}

/// Everything of the test's namespace that was applied: a Deployment and ConfigMaps.
async fn objects(fleet: &Fleet, client: &Client) -> Vec<Value> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let mut all: Vec<Value> = Vec::new();
    for one in deployments.list(&Default::default()).await.unwrap() {
        all.push(serde_json::to_value(one).unwrap());
    }
    for one in maps(fleet, client).list(&Default::default()).await.unwrap() {
        if one.metadata.name.as_deref() != Some("kube-root-ca.crt") {
            all.push(serde_json::to_value(one).unwrap());
        }
    }
    all
}

fn seen(object: &Value) -> Seen {
    Seen {
        uid: object["metadata"]["uid"].as_str().unwrap().to_owned(),
        generation: object["metadata"]["generation"].as_i64().unwrap_or(0),
        spec: object["spec"].clone(),
        data: object["data"].clone(),
    }
}

/// Who owns fields of an object, and how.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| format!("{} {}", text(entry, "manager"), text(entry, "operation"))).collect()
}

/// The answer of a command that speaks to the cluster itself.
fn ask(agent: &Agent, kubeconfig: &Path, args: &[&str]) -> (i32, Value, String) {
    let kubeconfig = kubeconfig.to_str().unwrap();
    let all: Vec<&str> = args.iter().copied().chain(["--kubeconfig", kubeconfig, "-o", "json"]).collect();
    let answered = agent.cli(&all).unwrap();
    let value = serde_json::from_str(&answered.stdout).unwrap_or_default();
    (answered.code, value, answered.stderr)
}

#[tokio::test]
async fn what_is_released_is_flux_s_with_nothing_made_again_until_it_is_resumed() {
    let (control_plane, fleet, client) = fleet_alone("release").await;
    let maps = maps(&fleet, &client);
    install_crds(&client).await;
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.write_map("b.yaml", "b", "1").unwrap();
    fleet.repo.write("till.yaml", &deployment(&fleet.namespace, "till:1")).unwrap();
    fleet.commit("first").unwrap();
    declare(&client, &fleet).await;
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "b", Some("1")).await;
    let kustomizations: Api<DynamicObject> = api(&client, ResourceKind::Kustomization, &fleet.namespace);
    let object = async || serde_json::to_value(kustomizations.get("apps").await.unwrap()).unwrap();
    eventually("its status says so", LONG, || async {
        let object = object().await;
        anyhow::ensure!(
            object["status"]["inventory"]["entries"].as_array().is_some_and(|all| all.len() == 3),
            "{object:#}"
        );
        anyhow::ensure!(object["metadata"]["finalizers"] == json!(["wickie.dev/finalizer"]), "{object:#}");
        anyhow::Ok(())
    })
    .await;
    let before = objects(&fleet, &client).await;
    assert!(before.iter().all(|object| managers(object).contains(&"wickie Apply".to_owned())), "{before:#?}");
    let inventory = object().await["status"]["inventory"].clone();

    let kubeconfig = control_plane.kubeconfig();
    let named = ["release", "apps", "-n", &fleet.namespace];
    let (code, answer, words) = ask(&agent, &kubeconfig, &[&named[..], &["--dry-run"]].concat());
    assert_eq!((code, &answer["kustomizations"][0]["handedOver"]), (0, &json!(3)), "{answer:#} {words}");
    assert_eq!(objects(&fleet, &client).await, before, "a dry run changed something");
    let (code, answer, words) = ask(&agent, &kubeconfig, &named);
    assert_eq!(code, 0, "{answer:#} {words}");
    assert_eq!(answer["kustomizations"][0]["handedOver"], 3, "{answer:#}");

    let after = objects(&fleet, &client).await;
    let both = |all: &[Value]| all.iter().map(seen).collect::<Vec<_>>();
    assert_eq!(both(&after), both(&before));
    for object in &after {
        assert_eq!(managers(object), ["kustomize-controller Apply"], "{object:#}");
        // Flux knows its objects by these; nothing of ours is on them.
        assert_eq!(object["metadata"]["labels"][OWNER], "apps");
        assert!(!object["metadata"]["labels"].to_string().contains("wickie"), "{object:#}");
        assert_eq!(object["metadata"]["finalizers"], Value::Null);
    }
    let released = object().await;
    assert_eq!(released["metadata"]["finalizers"], Value::Null, "{released:#}");
    assert!(!managers(&released).iter().any(|manager| manager.starts_with("wickie")), "{released:#}");
    assert_eq!(released["status"]["inventory"], inventory);
    assert!(!released["status"]["conditions"].to_string().contains("wickie.dev/"), "{released:#}");

    // The running agent does not take it back, whatever happens; nor does it after a restart.
    let quiet = async |agent: &mut Agent, value: &str| {
        fleet.write_map("a.yaml", "a", value).unwrap();
        let commit = fleet.commit(value).unwrap();
        change_by_hand(&maps, "a", "by hand").await;
        status_becomes(agent, "the source has the commit", |status| status["sources"].to_string().contains(&commit))
            .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("by hand"));
        let object = object().await;
        assert_eq!(object["metadata"]["finalizers"], Value::Null);
        assert!(!managers(&object).iter().any(|manager| manager.starts_with("wickie")), "{object:#}");
        assert!(!objects(&fleet, &client).await.iter().any(|it| managers(it).contains(&"wickie Apply".to_owned())));
        commit
    };
    quiet(&mut agent, "2").await;
    agent.kill9();
    agent.restart().unwrap();
    let newest = quiet(&mut agent, "3").await;
    let again = agent.cli(&["reconcile", "apps", "-n", &fleet.namespace]).unwrap();
    assert!(again.code == 1 && again.stderr.contains("wickie resume"), "{again:?}");

    // As kustomize-controller applies: without a conflict, and what is not in its manifests goes.
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"other": "flux"}});
    let applied = maps.patch("b", &PatchParams::apply("kustomize-controller"), &Patch::Apply(theirs)).await.unwrap();
    assert_eq!(json!(applied.data), json!({"other": "flux"}));

    // To release it once more changes nothing; resumed, it is adopted again.
    let (code, answer, _) = ask(&agent, &kubeconfig, &named);
    assert_eq!((code, &answer["kustomizations"][0]["handedOver"]), (0, &json!(0)), "{answer:#}");
    let resumed = agent.cli(&["resume", "apps", "-n", &fleet.namespace]).unwrap();
    assert_eq!(resumed.code, 0, "{resumed:?}");
    value_becomes(&mut agent, &maps, "a", Some("3")).await;
    value_becomes(&mut agent, &maps, "b", Some("1")).await;
    status_becomes(&agent, "it is followed again", |status| {
        kustomization(status, "apps")["appliedRevision"] == format!("main@sha1:{newest}")
    })
    .await;
    eventually("its finalizer is back", LONG, || async {
        let object = object().await;
        anyhow::ensure!(object["metadata"]["finalizers"] == json!(["wickie.dev/finalizer"]), "{object:#}");
        anyhow::Ok(())
    })
    .await;
    let uids = |all: &[Value]| all.iter().map(|object| seen(object).uid).collect::<Vec<_>>();
    assert_eq!(uids(&objects(&fleet, &client).await), uids(&before));
    assert_eq!(agent.stop().await.unwrap(), 0);
}

/// Starts the command beside the test.
fn start(fleet: &Fleet, kubeconfig: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wickie"));
    command.args(args).arg("--kubeconfig").arg(kubeconfig).arg("--data-dir").arg(fleet.data_dir());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn killed_half_way_and_run_again_it_ends_the_same_with_an_agent_and_without() {
    for running in [true, false] {
        let (fleet, client) = fleet(if running { "let-go" } else { "let-go-alone" }).await;
        let control_plane = ControlPlane::shared().await;
        let maps = maps(&fleet, &client);
        // More than are let go of at once.
        let names: Vec<String> = ('a'..='m').map(String::from).collect();
        for name in &names {
            fleet.write_map(&format!("{name}.yaml"), name, "1").unwrap();
        }
        let first = fleet.commit("first").unwrap();
        fleet.follow("1s").unwrap();
        fleet.keep("apps", "").unwrap();
        let mut agent = fleet.start().unwrap();
        applied(&agent, &first).await;
        let before = objects(&fleet, &client).await;
        if !running {
            assert_eq!(agent.stop().await.unwrap(), 0);
        }
        let proxy = ApiProxy::start(control_plane).unwrap();
        // Three are let go of; then the way to the API server is so slow that somebody loses patience.
        proxy.inject(Fault::Stall.on(|request| request.method == "PATCH").skip(3));
        // To nobody, or to somebody who is no Flux.
        let to = if running { "nobody" } else { "next" };
        let args = ["release", "--all", "--to", to];
        let mut child = start(&fleet, &proxy.kubeconfig(), &args);
        let left = async || {
            let all = objects(&fleet, &client).await;
            all.iter().filter(|object| managers(object).contains(&"wickie Apply".to_owned())).count()
        };
        eventually("three are let go of", LONG, || async {
            let left = left().await;
            anyhow::ensure!(left == names.len() - 3, "{left} of {} are left", names.len());
            anyhow::Ok(())
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        // Half of it is handed over, and the other half is no longer looked after.
        change_by_hand(&maps, "a", "by hand").await;
        change_by_hand(&maps, "m", "by hand").await;
        let (code, answer, words) = ask(&agent, &control_plane.kubeconfig(), &args);
        assert_eq!(code, 0, "{answer:#} {words}");
        assert_eq!(answer["to"].as_str(), (!running).then_some("next"));

        let after = objects(&fleet, &client).await;
        for (object, before) in after.iter().zip(&before) {
            assert_eq!(object["metadata"]["uid"], before["metadata"]["uid"]);
            assert!(!managers(object).iter().any(|manager| manager.starts_with("wickie")), "{object:#}");
            assert!(object["metadata"]["labels"].get(OWNER).is_none(), "{object:#}");
        }
        if !running {
            agent.restart().unwrap();
        }
        fleet.write_map("a.yaml", "a", "2").unwrap();
        fleet.commit("second").unwrap();
        status_becomes(&agent, "it says that it is left alone", |status| {
            kustomization(status, "apps")["suspended"] == true
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        for name in ["a", "m"] {
            assert_eq!(value_of(&maps, name).await.unwrap().as_deref(), Some("by hand"), "{name}, agent: {running}");
        }
        assert!(!objects(&fleet, &client).await.iter().any(|it| managers(it).contains(&"wickie Apply".to_owned())));
        // Whoever it was given to has no conflict; of what is nobody's, the API server itself keeps the fields at first.
        let data = json!({"other": "next"});
        let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": data});
        let next = PatchParams::apply("next");
        let next = if running { next.force() } else { next };
        let applied = maps.patch("b", &next, &Patch::Apply(theirs)).await.unwrap();
        let expected = if running { json!({"value": "1", "other": "next"}) } else { data };
        assert_eq!(json!(applied.data), expected);
        assert_eq!(agent.stop().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn nothing_is_released_where_an_agent_might_take_it_back() {
    let (fleet, _) = fleet("let-go-blind").await;
    let options = fleet.options();
    let kubeconfig = ControlPlane::shared().await.kubeconfig();
    let args = ["release", "--all", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let answered = agent::cli(&options, &args).unwrap();
    assert_eq!(answered.code, 2, "{answered:?}");
    assert!(answered.stderr.contains("--no-agent"), "{answered:?}");
    let answered = agent::cli(&options, &["release"]).unwrap();
    assert_eq!(answered.code, 2, "{answered:?}");
    let answered = agent::cli(&options, &["uninstall", "--kubeconfig", kubeconfig.to_str().unwrap()]).unwrap();
    assert!(answered.code == 2 && answered.stderr.contains("--yes"), "{answered:?}");
}

#[tokio::test]
async fn uninstalled_it_leaves_the_workloads_and_nothing_of_its_own() {
    let (control_plane, fleet, client) = fleet_alone("uninstall").await;
    let maps = maps(&fleet, &client);
    install_crds(&client).await;
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.repo.write("till.yaml", &deployment(&fleet.namespace, "till:1")).unwrap();
    fleet.commit("first").unwrap();
    declare(&client, &fleet).await;
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    let home: Api<ConfigMap> = Api::namespaced(client.clone(), &fleet.home);
    let floors = async || home.get_opt("wickie-floors").await.unwrap();
    eventually("the floors are in the cluster", LONG, || async {
        anyhow::ensure!(floors().await.is_some());
        anyhow::Ok(())
    })
    .await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let count = async || {
        let all = crds.list(&Default::default()).await.unwrap();
        all.iter().filter(|crd| crd.spec.group.ends_with("toolkit.fluxcd.io")).count()
    };
    eventually("everything is there", LONG, || async {
        let there = objects(&fleet, &client).await.len();
        anyhow::ensure!(there == 2, "{there} objects");
        anyhow::Ok(())
    })
    .await;
    let before = objects(&fleet, &client).await;

    // Where Flux works with the CRDs, they stay, and every object with them.
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let flux = json!({"metadata": {"name": "kustomize-controller", "labels": {"app.kubernetes.io/part-of": "flux"}}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    }});
    deployments.create(&PostParams::default(), &serde_json::from_value(flux).unwrap()).await.unwrap();
    let kubeconfig = control_plane.kubeconfig();
    let (code, answer, words) = ask(&agent, &kubeconfig, &["uninstall", "--dry-run"]);
    assert_eq!(code, 0, "{words}");
    assert_eq!(answer["left"].as_array().unwrap().len(), ResourceKind::ALL.len(), "{answer:#}");
    assert!(answer["deleted"].to_string().contains("wickie-floors"), "{answer:#}");
    assert!(floors().await.is_some() && count().await == ResourceKind::ALL.len());
    deployments.delete("kustomize-controller", &Default::default()).await.unwrap();

    let (code, answer, words) = ask(&agent, &kubeconfig, &["uninstall", "--yes", "--to", "nobody"]);
    assert_eq!(code, 0, "{answer:#} {words}");
    eventually("the CRDs are gone", LONG, || async {
        let left = count().await;
        anyhow::ensure!(left == 0, "{left} are left");
        anyhow::Ok(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(floors().await.is_none());
    let after = objects(&fleet, &client).await;
    assert_eq!(after.iter().map(seen).collect::<Vec<_>>(), before.iter().map(seen).collect::<Vec<_>>());
    for object in &after {
        assert!(!managers(object).iter().any(|manager| manager.starts_with("wickie")), "{object:#}");
        assert!(object["metadata"]["labels"].get(OWNER).is_none(), "{object:#}");
        assert_eq!(object["metadata"]["deletionTimestamp"], Value::Null);
    }
    // Run again, there is nothing left to do.
    let (code, answer, _) = ask(&agent, &kubeconfig, &["uninstall", "--yes"]);
    assert_eq!((code, &answer["deleted"]), (0, &json!([])), "{answer:#}");
    assert_eq!(agent.stop().await.unwrap(), 0);
}
