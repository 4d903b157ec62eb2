use serde_json::json;
use wickie_model::ResourceKind;

use super::*;
use crate::config::{Declared, NodeConfig};
use crate::store::Origin;

fn kustomization(more: Value) -> Kustomization {
    let mut spec = json!({"interval": "10m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "shop"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let document = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "shop"}, "spec": spec
    });
    let declared = Declared::new(ResourceKind::Kustomization, &document, Origin::File, "flux-system").unwrap();
    Kustomization::new(&declared, &NodeConfig::default()).unwrap()
}

fn files(entries: &[(&str, &str)]) -> Files {
    entries.iter().map(|(path, text)| ((*path).to_owned(), Bytes::from((*text).to_owned()))).collect()
}

fn built(entries: &[(&str, &str)]) -> Built {
    build_plain(&kustomization(json!({})), &files(entries)).unwrap()
}

fn names(built: &Built) -> Vec<String> {
    built.manifests.keys().map(ToString::to_string).collect()
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, namespace: shop}\n";

fn map(name: &str) -> String {
    MAP.replace("NAME", name)
}

#[test]
fn every_yaml_file_below_the_path_is_taken() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Namespace, metadata: {{name: shop}}}}\n---\n{}",
        map("c")
    );
    let built = built(&[("a.yaml", &map("a")), ("deep/er/b.yml", &map("b")), ("README.md", "# no"), ("l.yaml", &list)]);
    assert_eq!(names(&built), ["ConfigMap/shop/a", "ConfigMap/shop/b", "ConfigMap/shop/c", "Namespace/shop"]);
    assert!(built.complete());
}

#[test]
fn a_broken_file_does_not_hide_the_others_and_stops_pruning() {
    let built = built(&[("a.yaml", "a: [\n"), ("b.yaml", &map("b")), ("c.yaml", "apiVersion: v1\nkind: ConfigMap\n")]);
    assert_eq!(names(&built), ["ConfigMap/shop/b"]);
    assert!(!built.complete());
    assert_eq!(built.broken.iter().map(|broken| &broken.file[..6]).collect::<Vec<_>>(), ["a.yaml", "c.yaml"]);
}

#[test]
fn an_object_that_stands_twice_is_named_with_both_places() {
    let built = built(&[("a.yaml", &map("a")), ("b.yaml", &map("a"))]);
    let why = built.broken[0].to_string();
    assert!(why.contains("b.yaml") && why.contains("a.yaml") && why.contains("ConfigMap/shop/a"), "{why}");
}

#[test]
fn objects_are_marked_as_their_owner_s() {
    let owner = kustomization(json!({"commonMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}));
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r, namespace: lost}\n";
    let built = build_plain(&owner, &files(&[("a.yaml", &map("a")), ("r.yaml", role)])).unwrap();
    assert_eq!(names(&built), ["ConfigMap/shop/a", "ClusterRole/r"]);
    for manifest in built.manifests.values() {
        assert_eq!(manifest.label(OWNER_NAME), Some("shop"));
        assert_eq!(manifest.label(OWNER_NAMESPACE), Some("flux-system"));
        assert_eq!((manifest.label("a"), manifest.annotation("c")), (Some("b"), Some("d")));
    }
}

#[test]
fn an_overlay_is_built_from_the_whole_snapshot() {
    let owner = kustomization(json!({
        "path": "clusters/oslo", "targetNamespace": "till", "namePrefix": "oslo-",
        "postBuild": {"substitute": {"city": "Oslo"}}
    }));
    let value = format!("{}data: {{city: \"${{city}}\"}}\n", map("a"));
    let all = files(&[
        ("base/kustomization.yaml", "resources: [a.yaml]\n"),
        ("base/a.yaml", &value),
        ("clusters/oslo/kustomization.yaml", "resources: [../../base]\n"),
        ("clusters/bergen/broken.yaml", "a: [\n"),
    ]);
    assert!(takes_kustomize(&owner, all.keys().map(String::as_str)));
    let built = build_kustomize(&owner, &all).unwrap();
    assert_eq!(names(&built), ["ConfigMap/till/oslo-a"]);
    assert_eq!(built.manifests.values().next().unwrap().body()["data"]["city"], "Oslo");
}

#[test]
fn string_data_is_sent_as_data() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\ndata: {a: b2xk}\nstringData: {a: new, b: x}\n";
    let built = built(&[("s.yaml", secret)]);
    let body = built.manifests.values().next().unwrap().body();
    assert_eq!(body["data"], json!({"a": "bmV3", "b": "eA=="}));
    assert_eq!(body.get("stringData"), None);
}

#[test]
fn what_must_not_be_applied_is_refused_with_the_way_out() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: a, namespace: b}\n";
    let sealed = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: b}\nsops: {mac: x}\n";
    let controller = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: source-controller, namespace: flux-system, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\n";
    let built = built(&[("a.yaml", release), ("b.yaml", sealed), ("c.yaml", controller)]);
    assert!(built.manifests.is_empty());
    assert!(built.broken[0].why.contains("pipeline") && built.broken[1].why.contains("SOPS"), "{:?}", built.broken);
    assert_eq!(built.held_back[0].to_string(), "Deployment/flux-system/source-controller");
}

#[test]
fn what_cannot_be_built_says_why() {
    let owner = kustomization(json!({"path": "clusters/oslo"}));
    assert_eq!(build_plain(&owner, &Files::new()).unwrap_err(), RenderError::NoPath("clusters/oslo".into()));
    let overlay = files(&[("clusters/oslo/kustomization.yaml", "resources: [gone.yaml]\n")]);
    let error = build_kustomize(&owner, &overlay).unwrap_err().to_string();
    assert!(error.contains("gone.yaml") && error.contains("clusters/oslo/kustomization.yaml"), "{error}");
}
