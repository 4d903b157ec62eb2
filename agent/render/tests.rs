use std::rc::Rc;

use serde_json::json;
use wickie_model::{Digest, ResourceKind, ResourceName};

use super::*;
use crate::config::{Declared, NodeConfig, SecretData, ValuesKind, ValuesName};
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

/// What a Kustomization takes that names no ConfigMap and no Secret.
fn no_values(owner: &Kustomization) -> Inputs {
    Inputs::new(owner, &Found::new()).unwrap()
}

fn tree(files: &Files) -> wickie_kustomize::Files {
    files.iter().map(|(path, bytes)| (path.clone(), bytes.as_ref())).collect()
}

fn built(entries: &[(&str, &str)]) -> Built {
    build_plain(&kustomization(json!({})), &Inputs::default(), &files(entries)).unwrap()
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
    let built = build_plain(&owner, &Inputs::default(), &files(&[("a.yaml", &map("a")), ("r.yaml", role)])).unwrap();
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
    let built = build_kustomize(&owner, &no_values(&owner), &tree(&all), &owner.path).unwrap();
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
    assert_eq!(
        build_plain(&owner, &no_values(&owner), &Files::new()).unwrap_err(),
        RenderError::NoPath("clusters/oslo".into())
    );
    let overlay = files(&[("clusters/oslo/kustomization.yaml", "resources: [gone.yaml]\n")]);
    let error = build_kustomize(&owner, &no_values(&owner), &tree(&overlay), &owner.path).unwrap_err().to_string();
    assert!(error.contains("gone.yaml") && error.contains("clusters/oslo/kustomization.yaml"), "{error}");
}

const NAMES_VALUES: &str = r#"{"postBuild": {"substitute": {"a": "own"}, "substituteFrom": [
    {"kind": "ConfigMap", "name": "first"}, {"kind": "Secret", "name": "second"}, {"kind": "ConfigMap", "name": "third", "optional": true}
]}}"#;

fn values(kind: ValuesKind, name: &str, entries: &[(&str, &str)]) -> (ValuesName, Rc<Values>) {
    let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    let name = ValuesName { kind, name: ResourceName::new("flux-system", name) };
    (name, Rc::new(Values { uid: "1".to_owned(), entries: SecretData::new(entries) }))
}

fn found(secret: &str) -> Found {
    let first = [("a", "first"), ("b", "first"), ("c", "first\n")];
    Found::from([
        values(ValuesKind::ConfigMap, "first", &first),
        values(ValuesKind::Secret, "second", &[("a", "second"), ("b", secret)]),
    ])
}

/// Each `${..}` of the objects that are built with these values.
fn substituted(inputs: &Inputs, owner: &Kustomization, text: &str) -> Result<Built, RenderError> {
    let files = files(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("a.yaml", text)]);
    build_kustomize(owner, inputs, &tree(&files), &owner.path)
}

#[test]
fn a_later_source_of_variables_wins_over_an_earlier_one_and_the_spec_over_all() {
    let owner = kustomization(serde_json::from_str(NAMES_VALUES).unwrap());
    let inputs = Inputs::new(&owner, &found("second")).unwrap();
    let text = format!("{}data: {{v: \"${{a}} ${{b}} ${{c}}\"}}\n", map("a"));
    let built = substituted(&inputs, &owner, &text).unwrap();
    assert_eq!(built.manifests.values().next().unwrap().body()["data"]["v"], "own second first");
}

#[test]
fn what_is_missing_is_named_and_what_is_optional_may_be() {
    let owner = kustomization(serde_json::from_str(NAMES_VALUES).unwrap());
    let mut found = found("second");
    found.retain(|name, _| name.kind == ValuesKind::ConfigMap);
    let error = Inputs::new(&owner, &found).unwrap_err().to_string();
    assert!(error.contains("Secret/flux-system/second"), "{error}");
    let (name, entries) = values(ValuesKind::Secret, "second", &[("not-a-name", "hunter2")]);
    found.insert(name, entries);
    let error = Inputs::new(&owner, &found).unwrap_err().to_string();
    assert!(error.contains("not-a-name") && !error.contains("hunter2"), "{error}");
}

#[test]
fn an_object_with_a_secret_value_is_marked_and_its_digest_tells_nothing() {
    let owner = kustomization(serde_json::from_str(NAMES_VALUES).unwrap());
    let text = format!("{}data: {{v: \"${{b}}\"}}\n---\n{}data: {{v: plain}}\n", map("a"), map("b"));
    let built = |secret: &str| {
        let inputs = Inputs::new(&owner, &found(secret)).unwrap();
        (substituted(&inputs, &owner, &text).unwrap(), inputs.digest())
    };
    let ((one, digest_one), (two, digest_two)) = (built("1234"), built("1235"));
    assert_ne!(digest_one, digest_two);
    let ids: Vec<_> = one.secret.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["ConfigMap/shop/a"]);
    for (id, manifest) in &one.manifests {
        assert_eq!(manifest.holds_secrets(), one.secret.contains(id));
        assert_eq!(manifest.digest() == Digest::of_json(manifest.body()), !one.secret.contains(id), "{id}");
        assert_eq!(manifest.digest() == two.manifests[id].digest(), !one.secret.contains(id), "{id}");
    }
}

#[test]
fn an_error_does_not_repeat_a_secret_value() {
    let owner = kustomization(serde_json::from_str(NAMES_VALUES).unwrap());
    let inputs = Inputs::new(&owner, &found("hunter2: [")).unwrap();
    let error = substituted(&inputs, &owner, &format!("{}data:\n  v: ${{b}}\n", map("a"))).unwrap_err().to_string();
    assert!(error.contains("line") && !error.contains("hunter2"), "{error}");
}

/// Source: kustomize-controller 1.9, where the feature gate `StrictPostBuildSubstitutions` is on by default.
#[test]
fn a_variable_without_a_value_fails_the_build_unless_the_node_says_otherwise() {
    let text = format!("{}data: {{v: \"${{none}}\"}}\n", map("a"));
    let strict = kustomization(json!({"postBuild": {"substitute": {"a": "b"}}}));
    let error = substituted(&no_values(&strict), &strict, &text).unwrap_err().to_string();
    assert!(error.contains("none"), "{error}");
    let mut lax = strict.clone();
    lax.substitution.as_mut().unwrap().strict = false;
    assert!(substituted(&no_values(&lax), &lax, &text).is_ok());
}
