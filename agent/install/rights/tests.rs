use wickie_model::Manifest;

use super::super::{Kept, read_repository};
use super::*;

fn contents(documents: &[Value]) -> Contents {
    let kept = |document: &Value| Kept { manifest: Manifest::new(document.clone()).unwrap(), by_itself: true };
    Contents { objects: documents.iter().map(kept).collect(), ..Contents::default() }
}

fn object(version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}})
}

/// The rules of a role among those that are made, by kind and namespace.
fn rules(rights: &Rights, kind: &str, namespace: &str) -> Vec<Value> {
    let roles = rights.roles("flux-system", &json!({}));
    let found = roles.iter().find(|role| {
        role["kind"] == kind
            && role["metadata"].get("namespace").and_then(Value::as_str).unwrap_or_default() == namespace
    });
    found.map(|role| role["rules"].as_array().unwrap().clone()).unwrap_or_default()
}

#[test]
fn a_kind_is_given_where_its_objects_are() {
    let contents = contents(&[
        object("v1", "ConfigMap", "shop", "a"),
        object("v1", "Service", "shop", "b"),
        object("apps/v1", "Deployment", "bar", "c"),
        object("v1", "Namespace", "", "shop"),
    ]);
    let rights = Rights::new(&contents, &KnownKinds::default(), "flux-system", false).unwrap();
    let all = json!(["create", "delete", "get", "list", "patch", "watch"]);
    assert_eq!(
        rules(&rights, "Role", "shop"),
        [json!({"apiGroups": [""], "resources": ["configmaps", "services"], "verbs": all})]
    );
    assert_eq!(
        rules(&rights, "Role", "bar"),
        [json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": all})]
    );
    let cluster = rules(&rights, "ClusterRole", "");
    assert!(cluster.contains(&json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": all})), "{cluster:?}");
    // Whether a Flux controller runs is asked where the CRDs are not our own.
    let foreign = Rights::new(&contents, &KnownKinds::default(), "flux-system", true).unwrap();
    let list = json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]});
    assert!(rules(&foreign, "ClusterRole", "").contains(&list) && !cluster.contains(&list));
    let text = json!(cluster).to_string();
    assert!(!text.contains("secrets") && !text.contains("configmaps") && !text.contains('*'), "{text}");
}

#[test]
fn a_kind_that_nobody_knows_is_refused_by_name() {
    let contents = contents(&[object("example.com/v1", "Till", "shop", "a")]);
    let error = Rights::new(&contents, &KnownKinds::default(), "flux-system", false).unwrap_err();
    assert!(error.to_string().contains("Till (example.com)"), "{error}");
}

#[test]
fn what_roles_hand_out_is_given_and_what_is_bound_from_elsewhere_may_be_bound() {
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    let mut role = object("rbac.authorization.k8s.io/v1", "Role", "shop", "reader");
    role["rules"] = json!([rule]);
    let mut binding = object("rbac.authorization.k8s.io/v1", "RoleBinding", "shop", "reader");
    binding["roleRef"] = json!({"kind": "Role", "name": "reader"});
    let mut view = object("rbac.authorization.k8s.io/v1", "RoleBinding", "shop", "viewer");
    view["roleRef"] = json!({"kind": "ClusterRole", "name": "view"});
    let contents = contents(&[role, binding, view]);
    let rights = Rights::new(&contents, &KnownKinds::default(), "flux-system", false).unwrap();
    let shop = rules(&rights, "Role", "shop");
    assert!(shop.contains(&rule), "{shop:?}");
    let bind =
        json!({"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]});
    assert!(shop.contains(&bind), "{shop:?}");
    assert_eq!(shop.iter().filter(|rule| rule.to_string().contains("bind\"")).count(), 1, "{shop:?}");
    assert_eq!(rights.remarks.len(), 1, "{:?}", rights.remarks);
}

#[test]
fn a_repository_is_followed_through_its_kustomizations() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    std::fs::create_dir(folder.path().join(".git")).unwrap();
    write(
        "clusters/oslo/apps.yaml",
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps, namespace: flux-system}\nspec:\n  interval: 10m\n  prune: true\n  path: ./apps\n  targetNamespace: shop\n  sourceRef: {kind: GitRepository, name: fleet}\n  postBuild: {substituteFrom: [{kind: Secret, name: values}]}\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: tenant, namespace: bar}\nspec:\n  interval: 10m\n  prune: true\n  path: ./tenant\n  serviceAccountName: deployer\n  sourceRef: {kind: GitRepository, name: fleet}\n",
    );
    write("apps/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: '${value}'}\n");
    write(
        "apps/secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {a: 'ENC[AES256_GCM,data:x]'}\nsops: {mac: x}\n",
    );
    write("tenant/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: bar}\n");
    let contents = read_repository(&[folder.path().join("clusters/oslo")], "flux-system").unwrap();
    assert_eq!(contents.left_out, Vec::<String>::new());
    let rights = Rights::new(&contents, &KnownKinds::default(), "flux-system", false).unwrap();
    let (shop, bar) = (rules(&rights, "Role", "shop"), rules(&rights, "Role", "bar"));
    assert_eq!(shop[0]["resources"], json!(["configmaps", "secrets"]), "{shop:?}");
    // The tenant's account writes there; the agent's own reads, and may act for it. The third is its Kustomization's.
    let reads = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]});
    let acts = json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["deployer"], "verbs": ["impersonate"]});
    assert!(bar.contains(&reads) && bar.contains(&acts) && bar.len() == 3, "{bar:?}");
    let home = rules(&rights, "Role", "flux-system");
    let values = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["values"], "verbs": ["get", "list", "watch"]});
    assert!(home.contains(&values), "{home:?}");
    let kustomizations = home.iter().any(|rule| rule["apiGroups"] == json!(["kustomize.toolkit.fluxcd.io"]));
    assert!(kustomizations, "{home:?}");

    // The whole repository does not build: its Kustomizations count, wherever they stand.
    write("other/apps/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n");
    write("broken/kustomization.yaml", "resources: [nowhere.yaml]\n");
    let whole = read_repository(&[folder.path().to_owned()], "flux-system").unwrap();
    let names: Vec<_> = whole.kustomizations.iter().map(|spec| spec.name.name.as_str()).collect();
    assert_eq!(names, ["apps", "tenant"]);

    // A variable that decides which object it is.
    write("apps/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 'a-${name}'}\n");
    let error = read_repository(&[folder.path().join("clusters/oslo")], "flux-system").unwrap_err();
    assert!(error.to_string().contains("a-${name}"), "{error}");
}
