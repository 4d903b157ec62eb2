//! The `flux` command on our objects: each test makes the API calls that the command makes, and goes by what it goes by.
//!
//! Sources: `fluxcd/flux2` v2.9, `cmd/flux/{reconcile,reconcile_with_source,suspend,resume,get_kustomization,
//! tree_kustomization,events,readiness}.go`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_plan::health;
use wickie_testbench::eventually;

use crate::cluster_input::{api, apply, declare_source, install_crds, kustomization_spec, object_becomes, ready};
use crate::node::*;

/// What the command waits for by `kstatus.Compute`; it gives up on what has failed.
fn computed(kind: ResourceKind, object: &Value) -> wickie_model::Health {
    health::health(kind.group(), kind.as_str(), object).health
}

fn handled(object: &Value) -> String {
    object["status"]["lastHandledReconcileAt"].as_str().unwrap_or_default().to_owned()
}

/// `flux reconcile`: annotate, then wait until the request counts as handled and the object is current.
async fn reconcile(objects: &Api<DynamicObject>, kind: ResourceKind, name: &str, at: &str) -> Result<Value, String> {
    let before = serde_json::to_value(objects.get(name).await.unwrap()).unwrap();
    assert_ne!(before["spec"]["suspend"], true, "the command refuses a suspended one");
    let metadata = objects.get_metadata(name).await.unwrap();
    assert_eq!(metadata.metadata.name.as_deref(), Some(name));
    let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": at}}});
    objects.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let before = handled(&before);
    let after = object_becomes(objects, name, "the request is handled and the outcome certain", |object| {
        let health = computed(kind, object);
        handled(object) != before && health != wickie_model::Health::InProgress
    })
    .await;
    assert_eq!(handled(&after), at);
    let condition = ready(&after);
    match condition["status"] == "True" {
        true => Ok(after),
        false => Err(condition["message"].as_str().unwrap_or_default().to_owned()),
    }
}

/// `flux resume` waits until an object is ready, for the generation that it has now.
fn is_ready_now(object: &Value) -> bool {
    let (generation, condition) = (object["metadata"]["generation"].as_i64().unwrap(), ready(object));
    object["status"]["observedGeneration"].as_i64().unwrap_or(0) >= 1
        && condition["observedGeneration"].as_i64() == Some(generation)
        && computed(ResourceKind::Kustomization, object) == wickie_model::Health::Current
}

/// The columns of `flux get kustomizations`: name, revision, suspended, ready, message.
async fn get(objects: &Api<DynamicObject>, name: &str) -> [String; 5] {
    let list = objects.list(&ListParams::default()).await.unwrap();
    let found = list.items.into_iter().find(|object| object.metadata.name.as_deref() == Some(name)).unwrap();
    let object = serde_json::to_value(found).unwrap();
    let (revision, condition) = (object["status"]["lastAppliedRevision"].clone(), ready(&object));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    [
        name.to_owned(),
        text(&revision),
        (object["spec"]["suspend"] == true).to_string(),
        text(&condition["status"]),
        text(&condition["message"]),
    ]
}

/// The id of an inventory's entry, as `flux tree` takes it apart: `object.ParseObjMetadata` of cli-utils. A colon in the
/// name of an RBAC object is written as two underscores.
fn parsed(id: &str) -> [String; 4] {
    let (rest, kind) = id.rsplit_once('_').unwrap();
    let (rest, group) = rest.rsplit_once('_').unwrap();
    let (namespace, name) = rest.split_once('_').unwrap();
    let name = name.replace("__", ":");
    assert!(!name.contains('_'), "{id}: too many fields");
    [namespace.to_owned(), name, group.to_owned(), kind.to_owned()]
}

#[tokio::test]
async fn the_flux_command_works_on_our_objects() {
    let (_control_plane, fleet, client) = fleet_alone("command").await;
    let maps = maps(&fleet, &client);
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: \"till:open\", namespace: {}}}\nrules: []\n",
        fleet.namespace
    );
    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    fleet.repo.write("apps/role.yaml", &role).unwrap();
    // A Kustomization among the objects of another: the tree goes on below it.
    let inner = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "inner", "namespace": fleet.namespace},
        "spec": {"interval": "10m", "prune": true, "path": "./inner", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
    });
    fleet.repo.write("apps/inner.yaml", &serde_json::to_string_pretty(&inner).unwrap()).unwrap();
    fleet.write_map("inner/b.yaml", "b", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    install_crds(&client).await;
    declare_source(&client, &fleet).await;
    let slow = json!({"spec": {"interval": "1h"}});
    let sources = api(&client, ResourceKind::GitRepository, &fleet.namespace);
    sources.patch("fleet", &PatchParams::default(), &Patch::Merge(slow)).await.unwrap();
    let mut spec = kustomization_spec();
    spec["path"] = "./apps".into();
    apply(&client, ResourceKind::Kustomization, &fleet.namespace, "apps", spec).await;
    let kustomizations = api(&client, ResourceKind::Kustomization, &fleet.namespace);
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "b", Some("1")).await;
    object_becomes(&kustomizations, "apps", "it is ready", is_ready_now).await;
    object_becomes(&kustomizations, "inner", "the inner one is ready", is_ready_now).await;

    // get
    let shown = get(&kustomizations, "apps").await;
    assert_eq!(shown[..4], ["apps", &format!("main@sha1:{first}"), "false", "True"], "{shown:?}");
    assert!(shown[4].contains(&first), "{shown:?}");

    // reconcile kustomization --with-source: the source first, which has an hour to wait otherwise.
    fleet.write_map("apps/a.yaml", "a", "2").unwrap();
    let second = fleet.commit("second").unwrap();
    let source = reconcile(&sources, ResourceKind::GitRepository, "fleet", "2026-01-01T00:00:01Z").await.unwrap();
    assert!(ready(&source)["message"].to_string().contains(&second), "{source:#}");
    let done = reconcile(&kustomizations, ResourceKind::Kustomization, "apps", "2026-01-01T00:00:02Z").await.unwrap();
    assert_eq!(done["status"]["lastAppliedRevision"], format!("main@sha1:{second}"));
    assert_eq!(done["status"]["lastAttemptedRevision"], done["status"]["lastAppliedRevision"]);
    assert_eq!(done["status"]["observedGeneration"], done["metadata"]["generation"]);
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("2"));

    // tree: every entry is read as the command reads it, the inner one's below it.
    let tree = async |name: &str| -> BTreeSet<[String; 4]> {
        let object = serde_json::to_value(kustomizations.get(name).await.unwrap()).unwrap();
        let entries = object["status"]["inventory"]["entries"].as_array().unwrap().clone();
        assert!(entries.iter().all(|entry| entry["v"] == "v1"), "{entries:?}");
        entries.iter().map(|entry| parsed(entry["id"].as_str().unwrap())).collect()
    };
    let node = |name: &str, group: &str, kind: &str| [&*fleet.namespace, name, group, kind].map(str::to_owned);
    let outer = [
        node("a", "", "ConfigMap"),
        node("inner", "kustomize.toolkit.fluxcd.io", "Kustomization"),
        node("till:open", "rbac.authorization.k8s.io", "Role"),
    ];
    assert_eq!(tree("apps").await, BTreeSet::from(outer));
    assert_eq!(tree("inner").await, BTreeSet::from([node("b", "", "ConfigMap")]));

    // suspend: the spec alone is patched; the conditions stay as they were, and a commit waits.
    let suspend = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    kustomizations.patch("apps", &PatchParams::default(), &suspend(true)).await.unwrap();
    status_becomes(&agent, "it is suspended", |status| kustomization(status, "apps")["suspended"] == true).await;
    fleet.write_map("apps/a.yaml", "a", "3").unwrap();
    let third = fleet.commit("third").unwrap();
    reconcile(&sources, ResourceKind::GitRepository, "fleet", "2026-01-01T00:00:03Z").await.unwrap();
    let shown = get(&kustomizations, "apps").await;
    assert_eq!(shown[1..4], [format!("main@sha1:{second}"), "true".to_owned(), "True".to_owned()]);
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("2"));

    // resume: it is ready only once it was looked at in its new generation.
    kustomizations.patch("apps", &PatchParams::default(), &suspend(false)).await.unwrap();
    let resumed = object_becomes(&kustomizations, "apps", "it is resumed", is_ready_now).await;
    assert_eq!(resumed["status"]["lastAppliedRevision"], format!("main@sha1:{third}"));
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("3"));

    // A reconcile that fails says why, and ends.
    fleet.repo.write("apps/broken.yaml", "kind: [\n").unwrap();
    fleet.commit("broken").unwrap();
    reconcile(&sources, ResourceKind::GitRepository, "fleet", "2026-01-01T00:00:04Z").await.unwrap();
    let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2026-01-01T00:00:05Z"}}});
    kustomizations.patch("apps", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let failed = object_becomes(&kustomizations, "apps", "the failure is told", |object| {
        handled(object) == "2026-01-01T00:00:05Z" && ready(object)["status"] == "False"
    })
    .await;
    assert!(ready(&failed)["message"].to_string().contains("broken.yaml"), "{failed:#}");

    // events --for Kustomization/apps: found by the fields that the command selects by, and with the columns it shows.
    let events: Api<Event> = Api::namespaced(client.clone(), &fleet.namespace);
    let selected =
        ListParams::default().fields("involvedObject.kind=Kustomization,involvedObject.name=apps").limit(500);
    eventually("the Events are there", LONG, || async {
        let found = events.list(&selected).await?.items;
        let shown = |reason: &str, type_: &str, part: &str| {
            found.iter().any(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.type_.as_deref() == Some(type_)
                    && event.message.as_deref().is_some_and(|message| message.contains(part))
                    && (event.last_timestamp.is_some() || event.event_time.is_some())
                    && event.involved_object.uid.is_some()
            })
        };
        let told = shown("ReconciliationSucceeded", "Normal", "") && shown("BuildFailed", "Warning", "broken.yaml");
        anyhow::ensure!(told, "{found:#?}");
        anyhow::Ok(())
    })
    .await;
    // The command looks for those of its source, too.
    let of_source = ListParams::default().fields("involvedObject.kind=GitRepository,involvedObject.name=fleet");
    assert!(!events.list(&of_source).await.unwrap().items.is_empty());
}
