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
    built.desired.keys().map(ToString::to_string).collect()
}

fn manifests(built: &Built) -> Vec<Manifest> {
    built.manifests.all().unwrap().into_values().collect()
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
    for manifest in manifests(&built) {
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
    assert_eq!(manifests(&built)[0].body()["data"]["city"], "Oslo");
}

#[test]
fn string_data_is_sent_as_data() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\ndata: {a: b2xk}\nstringData: {a: new, b: x}\n";
    let built = built(&[("s.yaml", secret)]);
    let all = manifests(&built);
    let body = all[0].body();
    assert_eq!(body["data"], json!({"a": "bmV3", "b": "eA=="}));
    assert_eq!(body.get("stringData"), None);
}

#[test]
fn what_must_not_be_applied_is_refused_with_the_way_out() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: a, namespace: b}\n";
    let sealed = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: b}\nsops: {mac: x}\n";
    let controller = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: source-controller, namespace: flux-system, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\n";
    let built = built(&[("a.yaml", release), ("b.yaml", sealed), ("c.yaml", controller)]);
    assert!(built.desired.is_empty());
    assert!(built.broken[0].why.contains("pipeline") && built.broken[1].why.contains("SOPS"), "{:?}", built.broken);
    assert_eq!(built.held_back[0].to_string(), "Deployment/flux-system/source-controller");
}

#[test]
fn what_cannot_be_built_says_why() {
    let owner = kustomization(json!({"path": "clusters/oslo"}));
    let error = build_plain(&owner, &no_values(&owner), &Files::new()).unwrap_err();
    assert!(matches!(&error, RenderError::NoPath(path) if path == "clusters/oslo"), "{error}");
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
    assert_eq!(manifests(&built)[0].body()["data"]["v"], "own second first");
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
    let (all, others) = (one.manifests.all().unwrap(), two.manifests.all().unwrap());
    for (id, manifest) in &all {
        assert_eq!(manifest.holds_secrets(), one.secret.contains(id));
        assert_eq!(manifest.digest() == Digest::of_json(manifest.body()), !one.secret.contains(id), "{id}");
        assert_eq!(manifest.digest() == others[id].digest(), !one.secret.contains(id), "{id}");
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

/// A file that the real sops made; see `agent/sops/tests`.
fn vector(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/sops/tests/vectors");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn decrypts(more: Value) -> Kustomization {
    let mut spec = json!({"decryption": {"provider": "sops", "secretRef": {"name": "keys"}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    kustomization(spec)
}

/// With the keys of these vectors.
fn with_keys(owner: &Kustomization, names: &[&str]) -> Result<Inputs, InputError> {
    let entries: Vec<(&str, String)> = names.iter().map(|name| (*name, vector(name))).collect();
    let entries: Vec<(&str, &str)> = entries.iter().map(|(name, text)| (*name, text.as_str())).collect();
    Inputs::new(owner, &Found::from([values(ValuesKind::Secret, "keys", &entries)]))
}

#[test]
fn an_encrypted_object_is_decrypted_in_both_kinds_of_build() {
    let owner = decrypts(json!({"targetNamespace": "shop", "namePrefix": "oslo-"}));
    let inputs = with_keys(&owner, &["x25519.agekey"]).unwrap();
    let overlay = files(&[
        ("kustomization.yaml", "resources: [s.yaml, m.yaml]\ncommonLabels: {city: oslo}\n"),
        ("s.yaml", &vector("secret.yaml")),
        ("m.yaml", &map("m")),
    ]);
    let built = build_kustomize(&owner, &inputs, &tree(&overlay), &owner.path).unwrap();
    assert_eq!(names(&built), ["ConfigMap/shop/oslo-m", "Secret/shop/oslo-till"]);
    let all = manifests(&built);
    let secret = all.iter().find(|manifest| manifest.id().kind == "Secret").unwrap();
    assert_eq!(secret.body()["data"]["password"], "aHVudGVyMjogIzE=");
    assert_eq!(secret.body().get("sops"), None);
    let ids: Vec<_> = built.secret.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["Secret/shop/oslo-till"]);

    let plain = decrypts(json!({}));
    let built =
        build_plain(&plain, &inputs, &files(&[("s.yaml", &vector("secret.yaml")), ("m.yaml", &map("m"))])).unwrap();
    assert!(built.complete(), "{:?}", built.broken);
    assert_eq!(names(&built), ["ConfigMap/shop/m", "Secret/till"]);
    assert_eq!(built.secret.len(), 1);
}

#[test]
fn what_secrets_are_generated_from_is_decrypted_before() {
    let owner = decrypts(json!({}));
    let inputs = with_keys(&owner, &["x25519.agekey"]).unwrap();
    let kustomization = "resources: [base]\nsecretGenerator:\n- {name: env, envs: [all.env]}\n- {name: file, files: [x.json=all.json, config.yaml=all.yaml, blob=blob.bin]}\n";
    let all = files(&[
        ("kustomization.yaml", kustomization),
        ("all.env", &vector("all.env")),
        ("all.json", &vector("all.json")),
        ("all.yaml", &vector("all.yaml")),
        ("blob.bin", &vector("blob.bin")),
        ("base/kustomization.yaml", "secretGenerator: [{name: below, envs: [../regex.env]}]\n"),
        ("regex.env", &vector("regex.env")),
    ]);
    let built = build_kustomize(&owner, &inputs, &tree(&all), &owner.path).unwrap();
    assert_eq!(built.secret.len(), built.desired.len(), "what a decrypted file went into is all secret");
    let all = manifests(&built);
    let data = |start: &str| {
        let found = all.iter().find(|manifest| manifest.id().name.starts_with(start)).unwrap();
        let data = found.body()["data"].as_object().unwrap().clone();
        // kustomize breaks long values into lines.
        let whole = |value: Value| value.as_str().unwrap().replace('\n', "");
        data.into_iter().map(|(name, value)| (name, whole(value))).collect::<BTreeMap<_, _>>()
    };
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    assert_eq!(data("env-")["PASSWORD"], base64("hunter2 # no comment"));
    assert_eq!(data("below-")["PASSWORD"], base64("hunter2 # no comment"));
    assert_eq!(data("file-")["config.yaml"], base64(&vector("all.yaml.plain")));
    assert_eq!(data("file-")["x.json"], base64(&vector("all.json.plain")));
    assert_eq!(data("file-")["blob"], base64(&vector("blob.bin.plain")));
}

#[test]
fn an_entry_of_a_secret_may_be_an_encrypted_file() {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let owner = decrypts(json!({}));
    let inputs = with_keys(&owner, &["x25519.agekey"]).unwrap();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: shop}}\ndata: {{a.env: {}, b: {}}}\n",
        base64(&vector("all.env")),
        base64("plain")
    );
    let built = build_plain(&owner, &inputs, &files(&[("s.yaml", &secret)])).unwrap();
    let all = manifests(&built);
    let data = &all[0].body()["data"];
    assert_eq!(data, &json!({"a.env": base64(&vector("all.env.plain")), "b": base64("plain")}));
    assert_eq!(built.secret.len(), 1);
}

/// Flux would apply it: it does not check the MAC of an object's file.
#[test]
fn a_file_that_was_changed_without_sops_is_refused() {
    let owner = decrypts(json!({}));
    let inputs = with_keys(&owner, &["x25519.agekey"]).unwrap();
    let changed = vector("secret.yaml").replace("app: till", "app: tall");
    let overlay = files(&[("kustomization.yaml", "resources: [s.yaml]\n"), ("s.yaml", &changed)]);
    let error = build_kustomize(&owner, &inputs, &tree(&overlay), &owner.path).unwrap_err().to_string();
    assert!(error.contains("MAC") && error.contains("s.yaml") && error.contains("till"), "{error}");
    let built = build_plain(&owner, &inputs, &files(&[("s.yaml", &changed), ("m.yaml", &map("m"))])).unwrap();
    assert_eq!(names(&built), ["ConfigMap/shop/m"]);
    assert!(built.broken[0].to_string().contains("MAC"), "{:?}", built.broken);
}

#[test]
fn what_cannot_be_decrypted_names_the_keys_it_takes() {
    let owner = decrypts(json!({}));
    let all = files(&[("s.yaml", &vector("secret.yaml"))]);
    let wrong = with_keys(&owner, &["hybrid.agekey"]).unwrap();
    let built = build_plain(&owner, &wrong, &all).unwrap();
    assert!(built.broken[0].why.contains("age age1"), "{:?}", built.broken);
    let missing = Inputs::new(&owner, &Found::new()).unwrap_err().to_string();
    assert!(missing.contains("flux-system/keys"), "{missing}");
    let odd = Found::from([values(ValuesKind::Secret, "keys", &[("key.txt", "AGE-SECRET-KEY-1")])]);
    let odd = Inputs::new(&owner, &odd).unwrap_err().to_string();
    assert!(odd.contains("key.txt") && odd.contains(".agekey"), "{odd}");
    // Not configured at all, and left to somebody else.
    let none = kustomization(json!({}));
    assert!(build_plain(&none, &no_values(&none), &all).unwrap().broken[0].why.contains("spec.decryption"));
    let left = vector("only-encrypted.yaml").replace(
        "    name: till\n",
        "    name: till\n    annotations: {kustomize.toolkit.fluxcd.io/decrypt: Disabled}\n",
    );
    let built = build_plain(&owner, &wrong, &files(&[("s.yaml", &left)])).unwrap();
    assert!(built.complete() && manifests(&built)[0].body().get("sops").is_some());
}

/// A build that decrypted something does not speak of what it read.
#[test]
fn an_error_of_a_build_does_not_repeat_what_was_decrypted() {
    let owner = decrypts(json!({}));
    let inputs = with_keys(&owner, &["x25519.agekey"]).unwrap();
    let all = files(&[
        (
            "kustomization.yaml",
            "resources: [m.yaml]\npatches: [{path: one-line.yaml, target: {kind: ConfigMap}}]\nsecretGenerator: [{name: e, envs: [bad.env]}]\n",
        ),
        ("m.yaml", &map("m")),
        ("one-line.yaml", &vector("all.yaml")),
        ("bad.env", &vector("all.env")),
    ]);
    let error =
        build_kustomize(&owner, &inputs, &tree(&all), &owner.path).map(|built| names(&built)).unwrap_err().to_string();
    assert!(!error.contains("hunter2") && !error.contains("deep"), "{error}");
}
