//! The agent's home in a cluster: the manifests are accepted as they are, and their rights are enough and no more.

mod home;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use wickie::install::KnownKinds;
use wickie_model::ResourceKind;
use wickie_testbench::audit::AuditEvent;
use wickie_testbench::{Fleet, eventually};

use crate::cluster_input::{api, declare_source, object_becomes, ready};
use crate::node::*;
use home::{HOME, Home, exported, fill, install};

/// What Pod Security says of a pod at the restricted level, point by point.
async fn beyond_restricted(client: &Client, template: &Value) -> BTreeSet<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let strict =
        json!({"metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(strict).unwrap()).await.unwrap();
    let mut pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "wickie"}, "spec": template["spec"]})).unwrap();
    // Of the namespace's own account, which is there in a moment.
    let spec = pod.spec.as_mut().unwrap();
    (spec.service_account_name, spec.service_account) = (None, None);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "strict");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually("Pod Security judges it", LONG, || async {
        let refused = pods.create(&dry, &pod).await.err().map(|error| error.to_string()).unwrap_or_default();
        let points = refused.split_once("violates PodSecurity \"restricted:latest\": ").map(|(_, points)| points);
        let points = points.ok_or_else(|| anyhow::anyhow!("{refused}"))?;
        let (points, _) = points.split_once(": Forbidden").unwrap_or((points, ""));
        let name = |point: &str| point.split([' ', '(']).take_while(|it| !it.is_empty()).collect::<Vec<_>>().join(" ");
        anyhow::Ok(points.split("), ").map(name).collect())
    })
    .await
}

/// A kind whose CRD is not in the repository: refused by name, unless a cluster may be asked.
async fn a_kind_of_somebody_else_s_is_asked_for(home: &Home) {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "tillies.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Till", "listKind": "TillList", "plural": "tillies", "singular": "till"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    install(&home.client, std::slice::from_ref(&crd)).await;
    let folder = home.fleet.scratch.join("tills");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("till.yaml"),
        "{apiVersion: example.com/v1, kind: Till, metadata: {name: a, namespace: shop}}",
    )
    .unwrap();
    let folder = folder.to_str().unwrap();
    let unknown = home.agent.cli(&["install", "--export", "--for", folder]).unwrap();
    assert!(unknown.code == 1 && unknown.stdout.is_empty(), "{unknown:?}");
    assert!(unknown.stderr.contains("Till (example.com)") && unknown.stderr.contains("--kubeconfig"), "{unknown:?}");
    let kubeconfig = home.control_plane.kubeconfig();
    let kubeconfig = ["--for", folder, "--kubeconfig", kubeconfig.to_str().unwrap()];
    let known = eventually("the kind is served", LONG, || async {
        let args: Vec<_> = ["install", "--export"].into_iter().chain(kubeconfig).collect();
        let known = home.agent.cli(&args)?;
        anyhow::ensure!(known.code == 0, "{known:?}");
        anyhow::Ok(known.stdout)
    })
    .await;
    assert!(known.contains("- tillies") && known.contains("namespace: shop"), "{known}");
}

#[tokio::test]
async fn what_is_installed_does_the_whole_job() {
    let mut home = Home::new("install", None, fill).await;
    let sets: Api<DaemonSet> = Api::namespaced(home.client.clone(), HOME);
    eventually("a pod of the DaemonSet is admitted and runs", LONG, || async {
        let set = sets.get("wickie").await?;
        let ready = set.status.as_ref().map(|status| (status.desired_number_scheduled, status.number_ready));
        anyhow::ensure!(ready == Some((1, 1)), "{ready:?}");
        anyhow::Ok(())
    })
    .await;
    let template = serde_json::to_value(sets.get("wickie").await.unwrap().spec.unwrap().template).unwrap();
    let beyond = beyond_restricted(&home.client, &template).await;
    let named = [
        "host namespaces",
        "probe or lifecycle host",
        "restricted volume types",
        "runAsNonRoot != true",
        "runAsUser=0",
    ];
    assert_eq!(beyond, named.map(str::to_owned).into(), "what the Namespace's comment names, and no more");

    // How built-in kinds are served is what this API server says.
    let kinds = KnownKinds::default();
    for group in home.client.list_api_groups().await.unwrap().groups {
        for version in group.versions {
            let served = home.client.list_api_group_resources(&version.group_version).await.unwrap();
            for resource in served.resources {
                let kept = ["list", "delete"].iter().all(|verb| resource.verbs.iter().any(|it| it == verb));
                if let Some(known) = kinds.of(&group.name, &resource.kind).filter(|_| kept) {
                    assert_eq!(
                        (known.plural, known.namespaced),
                        (resource.name, resource.namespaced),
                        "{}",
                        resource.kind
                    );
                }
            }
        }
    }
    for resource in home.client.list_core_api_resources("v1").await.unwrap().resources {
        let known = kinds.of("", &resource.kind).filter(|_| resource.verbs.iter().any(|verb| verb == "delete"));
        if let Some(known) = known.filter(|_| !resource.name.contains('/')) {
            assert_eq!((known.plural, known.namespaced), (resource.name, resource.namespaced));
        }
    }

    a_kind_of_somebody_else_s_is_asked_for(&home).await;

    home.main_job().await;
    // The kubelet's folder is open to the node; the store is not.
    let store = std::fs::metadata(home.fleet.data_dir().join("wickie.db")).unwrap();
    assert_eq!(store.permissions().mode() & 0o777, 0o600);
    // The DaemonSet, its account, binding and files, five CRDs, and the copy of the floors.
    home.uninstall(10).await;
}

#[tokio::test]
async fn with_the_rights_of_its_repository_it_does_the_same_and_no_more() {
    let mut home = Home::new("install-for", Some("."), fill).await;
    let roles: Api<ClusterRole> = Api::all(home.client.clone());
    let role = json!(roles.get("wickie").await.unwrap().rules).to_string();
    assert!(!role.contains('*') && !role.contains("secrets") && !role.contains("configmaps"), "{role}");
    home.main_job().await;

    // Nothing that it asks is denied, by its own judgement too.
    let account = home.control_plane.folder().join(format!("{HOME}-wickie.kubeconfig"));
    let config = home.fleet.config();
    let (config, account) = (config.to_str().unwrap(), account.to_str().unwrap());
    let doctor = home.agent.cli(&["doctor", "--config", config, "--kubeconfig", account]).unwrap();
    assert!(doctor.stdout.contains("● it may do all that it asks of this cluster"), "{doctor:?}");
    assert_eq!(doctor.code, 0, "{doctor:?}");
    home.nothing_was_forbidden();

    // Killed, with its store lost, it knows what it kept, with the same rights.
    home.agent.kill9();
    std::fs::remove_dir_all(home.fleet.data_dir()).unwrap();
    let maps = maps(&home.fleet, &home.client);
    change_by_hand(&maps, "a", "by hand").await;
    home.agent.restart().unwrap();
    value_becomes(&mut home.agent, &maps, "a", Some("2")).await;
    home.nothing_was_forbidden();

    // A kind and a namespace outside of the role are refused by name; the rest goes on.
    let Home { fleet, client, agent, .. } = &mut home;
    let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: more, namespace: {}}}\n", fleet.namespace);
    fleet.repo.write("secret.yaml", &secret).unwrap();
    let elsewhere = wickie_testbench::fleet::config_map("kube-system", "elsewhere", "1");
    fleet.repo.write("elsewhere.yaml", &elsewhere).unwrap();
    fleet.write_map("b.yaml", "b", "1").unwrap();
    fleet.commit("more than it may").unwrap();
    value_becomes(agent, &maps, "b", Some("1")).await;
    let kustomizations = api(client, ResourceKind::Kustomization, HOME);
    object_becomes(&kustomizations, "apps", "what it may not is named", |object| {
        let message = ready(object)["message"].to_string();
        let named = [format!("Secret/{}/more", fleet.namespace), "ConfigMap/kube-system/elsewhere".to_owned()];
        ready(object)["status"] == "False"
            && named.iter().all(|name| message.contains(name))
            && message.contains("forbidden")
    })
    .await;
    change_by_hand(&maps, "b", "by hand").await;
    value_becomes(agent, &maps, "b", Some("1")).await;
    // A source whose Secret nobody has named says that it may not be read, and not that it is missing.
    declare_source(client, fleet).await;
    let sources = api(client, ResourceKind::GitRepository, &fleet.namespace);
    object_becomes(&sources, "fleet", "its Secret may not be read", |object| {
        let message = ready(object)["message"].to_string();
        message.contains("cannot be read") && message.contains("Secret") && message.contains("forbidden")
    })
    .await;

    // With the role for what is there now, it is applied.
    let work = fleet.repo.work().to_str().unwrap().to_owned();
    let documents = exported(fleet, &["--for", &work]);
    let rights: Vec<Value> = documents.into_iter().filter(|it| it["kind"].as_str().unwrap().contains("Role")).collect();
    install(client, &rights).await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    eventually("the Secret is there", LONG, || async {
        anyhow::ensure!(secrets.get_opt("more").await?.is_some(), "{}", tail(&agent.log()));
        anyhow::Ok(())
    })
    .await;
    object_becomes(&kustomizations, "apps", "it is ready again", |object| ready(object)["status"] == "True").await;

    let count = async |client: &Client| {
        let roles: Api<Role> = Api::all(client.clone());
        let bindings: Api<RoleBinding> = Api::all(client.clone());
        let ours = kube::api::ListParams::default().labels("app.kubernetes.io/managed-by=wickie");
        roles.list(&ours).await.unwrap().items.len() + bindings.list(&ours).await.unwrap().items.len()
    };
    // In its home, in the shop's namespace and in kube-system.
    assert_eq!(count(client).await, 6);
    // Its own account may not take it away, and says so, kind by kind.
    let account = home.control_plane.folder().join(format!("{HOME}-wickie.kubeconfig"));
    let dry = ["uninstall", "--dry-run", "-o", "json", "--kubeconfig", account.to_str().unwrap()];
    let denied = home.agent.cli(&dry).unwrap();
    let answer: Value = serde_json::from_str(&denied.stdout).expect(&denied.stderr);
    assert!(denied.code == 1 && denied.stderr.contains("--kubeconfig"), "{denied:?}");
    assert!(answer["left"].to_string().contains("daemonsets"), "{answer:#}");
    // DaemonSet, account, files, floors, CRDs; ClusterRole, its binding, three Roles and theirs.
    home.uninstall(4 + 5 + 2 + 6).await;
    assert_eq!(count(&home.client).await, 0);
}

/// A Kustomization in a file, whose inventory stands in the store alone, and one of a tenant, whose account writes.
fn fill_with_a_tenant(fleet: &Fleet) {
    let namespace = &fleet.namespace;
    // By this the top of a checkout is known.
    std::fs::create_dir(fleet.repo.work().join(".git")).unwrap();
    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    fleet.write_map("apps/goes.yaml", "goes", "1").unwrap();
    let tenant = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: deployer, namespace: {namespace}}}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: deployer, namespace: {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}}\nsubjects: [{{kind: ServiceAccount, name: deployer, namespace: {namespace}}}]\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: tenant, namespace: {namespace}}}\nspec:\n  interval: 10m\n  retryInterval: 2s\n  prune: true\n  path: ./tenant\n  serviceAccountName: deployer\n  sourceRef: {{kind: GitRepository, name: fleet, namespace: {HOME}}}\n"
    );
    fleet.repo.write("apps/tenant.yaml", &tenant).unwrap();
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: till, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    );
    fleet.repo.write("tenant/till.yaml", &service).unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  path: ./apps\n").unwrap();
}

#[tokio::test]
async fn with_those_rights_it_acts_for_a_tenant_and_fills_a_store_that_was_lost() {
    let mut home = Home::new("install-lost", Some("apps"), fill_with_a_tenant).await;
    let maps = maps(&home.fleet, &home.client);
    value_becomes(&mut home.agent, &maps, "goes", Some("1")).await;
    let tenants = api(&home.client, ResourceKind::Kustomization, &home.fleet.namespace);
    object_becomes(&tenants, "tenant", "the tenant's is ready", |object| ready(object)["status"] == "True").await;
    let asked = home.asked();
    let wrote = |resource: &str, acting: bool| {
        let ours = |event: &&AuditEvent| event.writes() && event.impersonated_user.is_some() == acting;
        asked.iter().filter(ours).any(|event| event.object_ref.resource == resource)
    };
    assert!(wrote("configmaps", false) && wrote("services", true) && !wrote("services", false));
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(home.client.clone(), &home.fleet.namespace);
    services.delete("till", &Default::default()).await.unwrap();
    eventually("the tenant's object is back", LONG, || async {
        anyhow::ensure!(services.get_opt("till").await?.is_some(), "it is not there\n{}", tail(&home.agent.log()));
        anyhow::Ok(())
    })
    .await;
    // By its own rights it could not have been: they read Services alone.
    let roles: Api<Role> = Api::namespaced(home.client.clone(), &home.fleet.namespace);
    let rules = roles.get("wickie").await.unwrap().rules.unwrap_or_default();
    let of_services = rules.iter().filter(|rule| rule.resources.iter().flatten().any(|it| it == "services"));
    assert_eq!(of_services.map(|rule| rule.verbs.clone()).collect::<Vec<_>>(), [["get", "list", "watch"]]);

    // What left Git while nobody knew of it any more is found by its labels, in the namespaces that may be looked through.
    let floors: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(home.client.clone(), HOME);
    eventually("the floor is in the cluster", LONG, || async {
        anyhow::ensure!(floors.get_opt("wickie-floors").await?.is_some(), "not yet");
        anyhow::Ok(())
    })
    .await;
    home.agent.kill9();
    std::fs::remove_dir_all(home.fleet.data_dir()).unwrap();
    home.fleet.repo.remove("apps/goes.yaml").unwrap();
    home.fleet.commit("without it").unwrap();
    home.agent.restart().unwrap();
    value_becomes(&mut home.agent, &maps, "goes", None).await;
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("1"));
    // The tenant's account may have been refused while its RoleBinding was new; the agent's never was.
    home.its_own_rights_were_enough();
}
