//! Objects that were somebody else's before, and Kustomizations that write as somebody else.

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::node::*;

#[tokio::test]
async fn what_git_dropped_goes_from_an_object_that_kubectl_and_flux_applied() {
    let (fleet, client) = fleet("adopted").await;
    let maps = maps(&fleet, &client);
    let theirs = |data: serde_json::Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    // kubectl apply, as it works on the client's side: an update, and a note of what was applied.
    let noted = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}});
    let mut first = theirs(json!({"by-kubectl": "1", "value": "old"}));
    first["metadata"]["annotations"] = noted["metadata"]["annotations"].clone();
    let by_kubectl =
        PostParams { field_manager: Some("kubectl-client-side-apply".to_owned()), ..PostParams::default() };
    let created = maps.create(&by_kubectl, &serde_json::from_value(first).unwrap()).await.unwrap();
    let by_flux = PatchParams::apply("kustomize-controller").force();
    maps.patch("a", &by_flux, &Patch::Apply(theirs(json!({"by-flux": "1", "value": "old"})))).await.unwrap();
    let by_other = PatchParams::apply("another-tool");
    maps.patch("a", &by_other, &Patch::Apply(theirs(json!({"by-another": "1"})))).await.unwrap();

    fleet.write_map("a.yaml", "a", "git").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("git")).await;
    status_becomes(&agent, "it is ready", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    let adopted: ConfigMap = maps.get("a").await.unwrap();
    assert_eq!(adopted.metadata.uid, created.metadata.uid, "it was made again");
    let left: Vec<String> = adopted.data.unwrap().into_keys().collect();
    assert_eq!(left, ["by-another", "value"]);
    assert_eq!(adopted.metadata.annotations, None);
    let managers: Vec<_> =
        adopted.metadata.managed_fields.into_iter().flatten().filter_map(|entry| entry.manager).collect();
    assert_eq!(managers, ["another-tool", "wickie"]);
}

#[tokio::test]
async fn a_kustomization_writes_with_the_rights_of_its_service_account() {
    let (fleet, client) = fleet("tenant").await;
    let maps = maps(&fleet, &client);
    let namespace = "flux-system";
    let account = format!("tenant-{}", fleet.namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let _ = Api::<k8s_openapi::api::core::v1::Namespace>::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap())
        .await;
    let made = serde_json::from_value(json!({"metadata": {"name": account}})).unwrap();
    accounts.create(&PostParams::default(), &made).await.unwrap();
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", &format!("  serviceAccountName: {account}\n  retryInterval: 2s\n")).unwrap();
    let mut agent = fleet.start().unwrap();
    status_becomes(&agent, "the account may not, and that is said", |status| {
        let message = kustomization(status, "apps")["ready"]["message"].to_string();
        message.contains("forbidden") && message.contains(&account)
    })
    .await;

    let roles: Api<Role> = Api::namespaced(client.clone(), &fleet.namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &fleet.namespace);
    let role = json!({"metadata": {"name": "tenant"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]}
    ]});
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let binding = json!({"metadata": {"name": "tenant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]});
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    status_becomes(&agent, "it is ready", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    // What it may do in its own namespace it may not do in another.
    let elsewhere = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stray, namespace: default}\n";
    fleet.repo.write("stray.yaml", elsewhere).unwrap();
    fleet.commit("reaches out").unwrap();
    status_becomes(&agent, "the stray object is refused", |status| {
        kustomization(status, "apps")["ready"]["message"].to_string().contains("stray")
    })
    .await;
    assert!(Api::<ConfigMap>::namespaced(client, "default").get_opt("stray").await.unwrap().is_none());
}
