//! Told by objects in the cluster: our CRDs, their statuses, requests, suspension, deletion.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_testbench::{Fleet, SshKey, eventually};

use crate::node::*;

pub(crate) async fn install_crds(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in wickie::config::crds() {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        crds.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(crd)).await.unwrap();
        eventually(&format!("{name} is established"), LONG, || async {
            let crd = crds.get(&name).await?;
            let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
            anyhow::ensure!(
                conditions.iter().any(|it| it.type_ == "Established" && it.status == "True"),
                "{conditions:?}"
            );
            anyhow::Ok(())
        })
        .await;
    }
}

pub(crate) fn api(client: &Client, kind: ResourceKind, namespace: &str) -> Api<DynamicObject> {
    let gvk = kube::core::GroupVersionKind::gvk(kind.group(), kind.version(), kind.as_str());
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&gvk, kind.plural()))
}

pub(crate) async fn apply(client: &Client, kind: ResourceKind, namespace: &str, name: &str, spec: Value) {
    let object =
        json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": name}, "spec": spec});
    api(client, kind, namespace).patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
}

pub(crate) async fn declare(client: &Client, fleet: &Fleet) {
    declare_source(client, fleet).await;
    apply(client, ResourceKind::Kustomization, &fleet.namespace, "apps", kustomization_spec()).await;
}

/// The GitRepository `fleet`, and the Secret with the key that it believes.
pub(crate) async fn declare_source(client: &Client, fleet: &Fleet) {
    declare_source_in(client, fleet, &fleet.namespace).await;
}

/// The same in another namespace.
pub(crate) async fn declare_source_in(client: &Client, fleet: &Fleet, namespace: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "signers"}, "stringData": {"ada.sshpub": SshKey::named("ada").public()}});
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), namespace);
    secrets.patch("signers", &PatchParams::apply("test"), &Patch::Apply(secret)).await.unwrap();
    let source = json!({
        "url": fleet.git.url("fleet"), "interval": "1s", "ref": {"branch": "main"},
        "verify": {"mode": "HEAD", "secretRef": {"name": "signers"}}
    });
    apply(client, ResourceKind::GitRepository, namespace, "fleet", source).await;
}

pub(crate) fn kustomization_spec() -> Value {
    json!({"interval": "10m", "retryInterval": "2s", "prune": true, "path": "./", "sourceRef": {"kind": "GitRepository", "name": "fleet"}})
}

pub(crate) async fn object_becomes(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    probe: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, LONG, || async {
        let object = serde_json::to_value(api.get(name).await?)?;
        anyhow::ensure!(probe(&object), "{:#}", object["status"]);
        anyhow::Ok(object)
    })
    .await
}

pub(crate) fn ready(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default()
}

#[tokio::test]
async fn objects_in_the_cluster_are_followed_and_told_how_they_are() {
    // CRDs are the whole cluster's: a control plane of its own.
    let (_control_plane, fleet, client) = fleet_alone("crds").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    // The agent comes before the CRDs: they are noticed when they come.
    let mut agent = fleet.start().unwrap();
    install_crds(&client).await;
    declare(&client, &fleet).await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;

    let kustomizations = api(&client, ResourceKind::Kustomization, &fleet.namespace);
    let sources = api(&client, ResourceKind::GitRepository, &fleet.namespace);
    let revision = format!("main@sha1:{first}");
    let done = object_becomes(&kustomizations, "apps", "the status says what was applied", |object| {
        object["status"]["lastAppliedRevision"] == revision.as_str() && ready(object)["status"] == "True"
    })
    .await;
    assert_eq!(ready(&done)["reason"], "ReconciliationSucceeded");
    assert_eq!(done["status"]["observedGeneration"], done["metadata"]["generation"]);
    let entry = format!("{}_a__ConfigMap", fleet.namespace);
    assert_eq!(done["status"]["inventory"]["entries"], json!([{"id": entry, "v": "v1"}]));
    assert_eq!(done["metadata"]["finalizers"], json!(["wickie.dev/finalizer"]));
    let source =
        object_becomes(&sources, "fleet", "the source is ready", |object| ready(object)["status"] == "True").await;
    let verified = source["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "SourceVerified");
    assert_eq!(verified.unwrap()["status"], "True", "{source:#}");
    assert!(source["status"].get("artifact").is_none(), "an artifact that nobody serves");

    // Flux's way to ask for a reconciliation.
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now-1"}}});
    kustomizations.patch("apps", &PatchParams::default(), &Patch::Merge(asked)).await.unwrap();
    object_becomes(&kustomizations, "apps", "the request is handled", |object| {
        object["status"]["lastHandledReconcileAt"] == "now-1"
    })
    .await;

    // Kubernetes Events tell of it.
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), &fleet.namespace);
    eventually("an Event is there", LONG, || async {
        let events = events.list(&Default::default()).await?.items;
        let found = events.iter().any(|event| {
            event.involved_object.name.as_deref() == Some("apps")
                && event.reason.as_deref() == Some("ReconciliationSucceeded")
        });
        anyhow::ensure!(found, "{} events", events.len());
        anyhow::Ok(())
    })
    .await;

    // Suspended, a commit waits; resumed, it is applied.
    assert_eq!(agent.cli(&["suspend", "apps", "-n", &fleet.namespace]).unwrap().code, 0);
    object_becomes(&kustomizations, "apps", "spec.suspend is set", |object| object["spec"]["suspend"] == true).await;
    fleet.write_map("a.yaml", "a", "2").unwrap();
    let second = fleet.commit("second").unwrap();
    object_becomes(&sources, "fleet", "the source has the commit", |object| {
        ready(object)["message"].to_string().contains(&second)
    })
    .await;
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(agent.cli(&["resume", "apps", "-n", &fleet.namespace]).unwrap().code, 0);
    value_becomes(&mut agent, &maps, "a", Some("2")).await;

    // A field of Flux that is not followed is refused by name.
    let mut spec = kustomization_spec();
    spec["kubeConfig"] = json!({"configMapRef": {"name": "elsewhere"}});
    apply(&client, ResourceKind::Kustomization, &fleet.namespace, "remote", spec).await;
    let refused =
        object_becomes(&kustomizations, "remote", "it is refused", |object| ready(object)["status"] == "False").await;
    assert!(ready(&refused)["message"].to_string().contains("spec.kubeConfig"), "{refused:#}");

    // Deletion prunes, and only then lets the object go.
    kustomizations.delete("apps", &Default::default()).await.unwrap();
    value_becomes(&mut agent, &maps, "a", None).await;
    eventually("the Kustomization is gone", LONG, || async {
        anyhow::ensure!(kustomizations.get_opt("apps").await?.is_none(), "it is still there\n{}", tail(&agent.log()));
        anyhow::Ok(())
    })
    .await;

    // CRDs that vanish are no order to delete anything.
    apply(&client, ResourceKind::Kustomization, &fleet.namespace, "again", kustomization_spec()).await;
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
    object_becomes(&kustomizations, "again", "it is ready", |object| ready(object)["status"] == "True").await;
    let remove = json!({"metadata": {"finalizers": []}});
    agent.kill9();
    for name in ["again", "remote"] {
        kustomizations.patch(name, &PatchParams::default(), &Patch::Merge(remove.clone())).await.unwrap();
    }
    agent.restart().unwrap();
    status_becomes(&agent, "the agent is up", |status| status["agent"].is_object()).await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.delete("kustomizations.kustomize.toolkit.fluxcd.io", &Default::default()).await.unwrap();
    eventually("the CRD is gone", LONG, || async {
        anyhow::ensure!(crds.get_opt("kustomizations.kustomize.toolkit.fluxcd.io").await?.is_none(), "still there");
        anyhow::Ok(())
    })
    .await;
    status_becomes(&agent, "its Kustomization is gone", |status| {
        status["kustomizations"].as_array().unwrap().is_empty() || agent.log().contains("its declaration is gone")
    })
    .await;
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("2"));
}

/// Where Flux has installed the CRDs, only what opts in is touched; and nothing while a Flux controller is active.
#[tokio::test]
async fn beside_flux_nothing_is_touched_that_does_not_opt_in() {
    let (_control_plane, fleet, client) = fleet_alone("flux").await;
    let maps = maps(&fleet, &client);
    install_crds(&client).await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds.list(&Default::default()).await.unwrap() {
        let flux = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "flux", "app.kubernetes.io/part-of": "flux"}}});
        crds.patch(&crd.metadata.name.unwrap(), &PatchParams::default(), &Patch::Merge(flux)).await.unwrap();
    }
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let controller = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "kustomize-controller", "labels": {"app.kubernetes.io/part-of": "flux"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "k"}}, "template": {
            "metadata": {"labels": {"app": "k"}}, "spec": {"containers": [{"name": "manager", "image": "k"}]}}}
    });
    deployments.patch("kustomize-controller", &PatchParams::apply("flux"), &Patch::Apply(controller)).await.unwrap();
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    declare(&client, &fleet).await;
    let mut agent = fleet.start().unwrap();
    let kustomizations = api(&client, ResourceKind::Kustomization, &fleet.namespace);
    let sources = api(&client, ResourceKind::GitRepository, &fleet.namespace);
    status_becomes(&agent, "the agent is up", |status| status["agent"].is_object()).await;

    // Opted in, it is refused while Flux is active, and says so.
    let opt_in = Patch::Merge(json!({"metadata": {"labels": {"wickie.dev/managed": "true"}}}));
    sources.patch("fleet", &PatchParams::default(), &opt_in).await.unwrap();
    kustomizations.patch("apps", &PatchParams::default(), &opt_in).await.unwrap();
    let refused =
        status_becomes(&agent, "it is refused", |status| kustomization(status, "apps")["ready"]["status"] == "False")
            .await;
    let message = kustomization(&refused, "apps")["ready"]["message"].to_string();
    assert!(message.contains("Flux controller is active"), "{message}");
    assert_eq!(value_of(&maps, "a").await.unwrap(), None);

    // Scaled down, the way is free.
    let down = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch("kustomize-controller", &PatchParams::default(), &down).await.unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
}
