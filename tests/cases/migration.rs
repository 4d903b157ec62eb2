//! From Flux to wickie and back: the real kustomize-controller has applied a cluster, is taken over from, and is handed it back.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use wickie_testbench::flux::{HOME, is_ready};
use wickie_testbench::{
    Agent, AgentOptions, ControlPlane, GitServer, KustomizeController, Options, Repo, Scratch, Signer, eventually,
    manifests,
};

use crate::node::*;

/// What must stay as it is of an object: which one it is, and what its controller acts on.
type Kept = (Option<String>, Option<i64>);

async fn kept(client: &kube::Client, namespace: &str) -> BTreeMap<String, Kept> {
    let mut kept = BTreeMap::new();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels("kustomize.toolkit.fluxcd.io/name=apps");
    for map in maps.list(&ours).await.unwrap().items {
        kept.insert(format!("ConfigMap/{}", map.metadata.name.unwrap()), (map.metadata.uid, None));
    }
    for deployment in deployments.list(&ours).await.unwrap().items {
        let metadata = deployment.metadata;
        kept.insert(format!("Deployment/{}", metadata.name.unwrap()), (metadata.uid, metadata.generation));
    }
    kept
}

/// No field, finalizer or label of ours stands on what was released.
async fn nothing_of_ours_is_left(flux: &KustomizeController, client: &kube::Client, namespace: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let kustomizations = flux.api("kustomize.toolkit.fluxcd.io", "Kustomization");
    let repositories = flux.api("source.toolkit.fluxcd.io", "GitRepository");
    let all = ListParams::default();
    let mut metadata: Vec<_> = maps.list(&all).await.unwrap().items.into_iter().map(|it| it.metadata).collect();
    metadata.extend(deployments.list(&all).await.unwrap().items.into_iter().map(|it| it.metadata));
    metadata.extend(kustomizations.list(&all).await.unwrap().items.into_iter().map(|it| it.metadata));
    metadata.extend(repositories.list(&all).await.unwrap().items.into_iter().map(|it| it.metadata));
    for one in metadata {
        let text = serde_json::to_string(&one).unwrap();
        assert!(!text.contains("wickie"), "{text}");
    }
}

/// The inventory in the Kustomization's status, in order.
async fn inventory(flux: &KustomizeController) -> Vec<String> {
    let apps = flux.api("kustomize.toolkit.fluxcd.io", "Kustomization").get("apps").await.unwrap();
    let entries = apps.data.pointer("/status/inventory/entries").and_then(Value::as_array).cloned();
    let mut ids: Vec<_> = entries.iter().flatten().map(|entry| entry.to_string()).collect();
    ids.sort();
    ids
}

/// Waits until the Kustomization is ready at this commit, whoever has said so.
async fn is_applied(flux: &KustomizeController, agent: Option<&Agent>, commit: &str) {
    let kustomizations = flux.api("kustomize.toolkit.fluxcd.io", "Kustomization");
    eventually(&format!("{commit} is applied"), LONG, || async {
        let apps = kustomizations.get("apps").await?.data;
        let applied = apps["status"]["lastAppliedRevision"] == format!("main@sha1:{commit}");
        anyhow::ensure!(
            applied && is_ready(&apps),
            "{:#}\n{}",
            apps["status"],
            agent.map_or(String::new(), |agent| tail(&agent.log()))
        );
        anyhow::Ok(())
    })
    .await;
}

/// Starts the agent as one does who moves over.
fn take_over(control_plane: &ControlPlane, scratch: &Scratch) -> Agent {
    Agent::spawn(AgentOptions {
        binary: env!("CARGO_BIN_EXE_wickie").into(),
        config: Some(scratch.folder("conf.d")),
        data_dir: scratch.join("data"),
        kubeconfig: Some(control_plane.kubeconfig()),
        args: vec!["--all".into(), "--takeover".into()],
        env: vec![("POD_NAMESPACE".to_owned(), HOME.to_owned())],
    })
    .unwrap()
}

#[tokio::test]
async fn a_cluster_goes_from_flux_to_wickie_and_back_and_nothing_is_made_again() {
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let client = control_plane.client().await;
    let namespace = control_plane.namespace("moves-in").await.unwrap();
    let scratch = Scratch::new("migration");
    let repo = Repo::create(scratch.path(), "fleet").unwrap();
    let git = GitServer::start(scratch.path()).unwrap();
    repo.write_all(&manifests::many(40, Some(&namespace))).unwrap();
    let first = repo.commit("first", &Signer::Nobody).unwrap();

    // As `flux install` leaves it: CRDs that are Flux's.
    let mut kinds = wickie::config::crds();
    kinds.retain(|crd| crd["spec"]["names"]["kind"] == "GitRepository");
    kinds.iter_mut().for_each(|crd| crd["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "flux"}));
    let mut flux = KustomizeController::start(&control_plane, &scratch.folder("flux"), &kinds).await.unwrap();
    let spec = json!({"url": git.url("fleet"), "interval": "1s", "ref": {"branch": "main"}});
    flux.offer(&repo, &first, &spec).await.unwrap();
    flux.keep("apps", json!({"interval": "10m", "retryInterval": "2s", "prune": true, "path": "./apps"}))
        .await
        .unwrap();
    is_applied(&flux, None, &first).await;
    let (before, listed) = (kept(&client, &namespace).await, inventory(&flux).await);
    assert_eq!(listed.len(), 40);
    assert!(!before.is_empty());
    flux.stop();

    let mut agent = take_over(&control_plane, &scratch);
    eventually("the agent has taken over", LONG, || async {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let ours = |map: &ConfigMap| {
            let managers = map.metadata.managed_fields.iter().flatten();
            managers.filter_map(|entry| entry.manager.as_deref()).any(|manager| manager == "wickie")
        };
        let listed = maps.list(&ListParams::default().labels("kustomize.toolkit.fluxcd.io/name=apps")).await?;
        anyhow::ensure!(!listed.items.is_empty() && listed.items.iter().all(ours), "{}", tail(&agent.log()));
        anyhow::Ok(())
    })
    .await;
    is_applied(&flux, Some(&agent), &first).await;
    assert_eq!(kept(&client, &namespace).await, before, "something was made again or changed");
    assert_eq!(inventory(&flux).await, listed);

    // Its work goes on: what leaves Git goes, and what comes into it comes.
    let (path, _) = manifests::many(40, Some(&namespace)).remove(0);
    repo.remove(&path).unwrap();
    repo.write("apps/new.yaml", &wickie_testbench::fleet::config_map(&namespace, "new", "1")).unwrap();
    let second = repo.commit("second", &Signer::Nobody).unwrap();
    is_applied(&flux, Some(&agent), &second).await;

    // And back.
    let kubeconfig = control_plane.kubeconfig();
    let released = agent.cli(&["release", "--all", "--kubeconfig", kubeconfig.to_str().unwrap()]).unwrap();
    assert_eq!(released.code, 0, "{released:?}");
    let (before, listed) = (kept(&client, &namespace).await, inventory(&flux).await);
    assert!(before.contains_key("ConfigMap/new"));
    assert_eq!(listed.len(), 40);
    nothing_of_ours_is_left(&flux, &client, &namespace).await;
    assert_eq!(agent.stop().await.unwrap(), 0);
    flux.go_on().await.unwrap();
    repo.write("apps/newer.yaml", &wickie_testbench::fleet::config_map(&namespace, "newer", "1")).unwrap();
    repo.remove("apps/new.yaml").unwrap();
    let third = repo.commit("third", &Signer::Nobody).unwrap();
    flux.offer(&repo, &third, &spec).await.unwrap();
    is_applied(&flux, None, &third).await;
    let mut after = kept(&client, &namespace).await;
    assert!(after.remove("ConfigMap/newer").is_some());
    let mut expected = before;
    assert!(expected.remove("ConfigMap/new").is_some());
    assert_eq!(after, expected, "something was made again or changed, or was not deleted");
    assert_eq!(inventory(&flux).await.len(), listed.len());
}

/// What `flux bootstrap` commits: the components, shortened to one of each sort, and what syncs them.
fn bootstrap(repo: &Repo, crd: &str, url: &str) {
    let labels =
        "{app.kubernetes.io/instance: flux-system, app.kubernetes.io/part-of: flux, app.kubernetes.io/version: v2.9.0}";
    let components = format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: flux-system, labels: {labels}}}
---
{crd}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: kustomize-controller, namespace: flux-system, labels: {labels}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: kustomize-controller, namespace: flux-system, labels: {labels}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: kustomize-controller}}}}
  template:
    metadata: {{labels: {{app: kustomize-controller}}}}
    spec: {{containers: [{{name: manager, image: ghcr.io/fluxcd/kustomize-controller}}]}}
"
    );
    let sync = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: fleet, namespace: flux-system}}
spec: {{interval: 1s, ref: {{branch: main}}, url: {url:?}}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: apps, namespace: flux-system}}
spec:
  interval: 10m0s
  retryInterval: 2s
  path: ./clusters/shop
  prune: true
  sourceRef: {{kind: GitRepository, name: fleet}}
"
    );
    repo.write("clusters/shop/flux-system/gotk-components.yaml", &components).unwrap();
    repo.write("clusters/shop/flux-system/gotk-sync.yaml", &sync).unwrap();
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [gotk-components.yaml, gotk-sync.yaml]\n";
    repo.write("clusters/shop/flux-system/kustomization.yaml", kustomization).unwrap();
}

#[tokio::test]
async fn a_bootstrapped_repository_is_taken_over_and_flux_s_components_are_left_to_flux() {
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let client = control_plane.client().await;
    let namespace = control_plane.namespace("bootstrapped").await.unwrap();
    let scratch = Scratch::new("bootstrapped");
    let repo = Repo::create(scratch.path(), "fleet").unwrap();
    let git = GitServer::start(scratch.path()).unwrap();
    let url = git.url("fleet");
    let mut kinds = wickie::config::crds();
    kinds.retain(|crd| crd["spec"]["names"]["kind"] == "GitRepository");
    kinds.iter_mut().for_each(|crd| crd["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "flux"}));
    let mut flux = KustomizeController::start(&control_plane, &scratch.folder("flux"), &kinds).await.unwrap();
    // A kind that is Flux's alone.
    let definition = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: helmreleases.helm.toolkit.fluxcd.io, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}
spec:
  group: helm.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: HelmRelease, plural: helmreleases, singular: helmrelease, listKind: HelmReleaseList}
  versions:
  - name: v2
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
    bootstrap(&repo, definition, &url);
    repo.write("clusters/shop/apps.yaml", &wickie_testbench::fleet::config_map(&namespace, "a", "1")).unwrap();
    let first = repo.commit("flux bootstrap", &Signer::Nobody).unwrap();
    let spec = json!({"url": url, "interval": "1s", "ref": {"branch": "main"}});
    flux.offer(&repo, &first, &spec).await.unwrap();
    let keep = json!({"interval": "10m0s", "retryInterval": "2s", "prune": true, "path": "./clusters/shop"});
    flux.keep("apps", keep).await.unwrap();
    is_applied(&flux, None, &first).await;
    flux.stop();

    let agent = take_over(&control_plane, &scratch);
    // A commit that changes something, so that there is something to wait for; and one thing that only Flux can do.
    repo.write("clusters/shop/apps.yaml", &wickie_testbench::fleet::config_map(&namespace, "a", "2")).unwrap();
    let second = repo.commit("second", &Signer::Nobody).unwrap();
    is_applied(&flux, Some(&agent), &second).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), HOME);
    let controller = deployments.get_opt("kustomize-controller").await.unwrap();
    assert!(controller.is_some(), "a component of Flux was pruned\n{}", agent.log());
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    assert!(definitions.get_opt("helmreleases.helm.toolkit.fluxcd.io").await.unwrap().is_some());
    let home: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    assert_eq!(home.get(HOME).await.unwrap().metadata.deletion_timestamp, None);

    let release = format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: shop, namespace: {namespace}}}\nspec: {{}}\n"
    );
    repo.write("clusters/shop/release.yaml", &release).unwrap();
    repo.write("clusters/shop/apps.yaml", &wickie_testbench::fleet::config_map(&namespace, "a", "3")).unwrap();
    repo.commit("a release", &Signer::Nobody).unwrap();
    let kustomizations = flux.api("kustomize.toolkit.fluxcd.io", "Kustomization");
    eventually("the release is refused, with the way out", LONG, || async {
        let apps = kustomizations.get("apps").await?.data;
        let conditions = apps["status"]["conditions"].to_string();
        anyhow::ensure!(conditions.contains("HelmRelease") && conditions.contains("pipeline"), "{conditions}");
        anyhow::Ok(())
    })
    .await;
    // The rest is applied all the same.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    eventually("the rest is applied", LONG, || async {
        anyhow::ensure!(value_of(&maps, "a").await?.as_deref() == Some("3"), "not yet");
        anyhow::Ok(())
    })
    .await;

    // Somebody takes Flux out of the repository, what syncs it included.
    repo.remove("clusters/shop/release.yaml").unwrap();
    repo.remove("clusters/shop/flux-system").unwrap();
    let last = repo.commit("without Flux", &Signer::Nobody).unwrap();
    is_applied(&flux, Some(&agent), &last).await;
    assert!(deployments.get_opt("kustomize-controller").await.unwrap().is_some());
    assert!(definitions.get_opt("helmreleases.helm.toolkit.fluxcd.io").await.unwrap().is_some());
    let apps = kustomizations.get("apps").await.unwrap();
    assert_eq!(apps.metadata.deletion_timestamp, None);
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("3"));
}
