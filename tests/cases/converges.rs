//! What stands in the way for a while: it converges by itself once that is gone, and says meanwhile what it waits for.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use wickie_testbench::fleet::config_map;
use wickie_testbench::port::Port;
use wickie_testbench::{Agent, ApiProxy, ControlPlane, Fleet, Options, When, eventually};

use crate::node::*;

/// Waits until the Kustomization `apps` says that it is not ready, with all of these words.
async fn is_held_up(agent: &Agent, words: &[&str]) {
    status_becomes(agent, &format!("what it waits for is told: {words:?}"), |status| {
        let ready = &kustomization(status, "apps")["ready"];
        let message = ready["message"].as_str().unwrap_or_default();
        ready["status"] != "True" && words.iter().all(|word| message.contains(word))
    })
    .await;
}

async fn uid(client: &Client, namespace: &str) -> Option<String> {
    let found = Api::<Namespace>::all(client.clone()).get_opt(namespace).await.unwrap();
    found.and_then(|found| found.metadata.uid)
}

#[tokio::test]
async fn a_webhook_that_refuses_everything_holds_up_what_it_refuses_alone() {
    let (fleet, client) = fleet("webhook").await;
    let mut maps = maps(&fleet, &client);
    // Nobody answers there, so the API server refuses on the webhook's behalf.
    let nobody = Port::free().unwrap();
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let webhook: ValidatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": fleet.namespace},
        "webhooks": [{
            "name": "nothing.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 2,
            "failurePolicy": "Fail", "clientConfig": {"url": format!("https://{}/", nobody.addr())},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": fleet.namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]
        }]
    }))
    .unwrap();
    webhooks.create(&PostParams::default(), &webhook).await.unwrap();
    let account =
        format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: beside, namespace: {}}}\n", fleet.namespace);
    fleet.repo.write("account.yaml", &account).unwrap();
    fleet.write_map("map.yaml", "refused", "1").unwrap();
    let commit = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    is_held_up(&agent, &["refused", "nothing.example.com"]).await;
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), &fleet.namespace);
    assert!(accounts.get_opt("beside").await.unwrap().is_some(), "what is not refused waits too");

    webhooks.delete(&fleet.namespace, &DeleteParams::default()).await.unwrap();
    value_becomes(&mut agent, &maps, "refused", Some("1")).await;
    applied(&agent, &commit).await;
    // A repair that is refused for a while is made when it can be.
    webhooks.create(&PostParams::default(), &webhook).await.unwrap();
    maps = Api::namespaced(client.clone(), &fleet.namespace);
    webhook_refuses(&maps).await;
    fleet.write_map("map.yaml", "refused", "2").unwrap();
    let commit = fleet.commit("second").unwrap();
    is_held_up(&agent, &["refused", "nothing.example.com"]).await;
    webhooks.delete(&fleet.namespace, &DeleteParams::default()).await.unwrap();
    value_becomes(&mut agent, &maps, "refused", Some("2")).await;
    applied(&agent, &commit).await;
}

/// Waits until the API server knows of the webhook.
async fn webhook_refuses(maps: &Api<ConfigMap>) {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let probe: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "probe"}})).unwrap();
    eventually("the webhook is asked", LONG, || async {
        anyhow::ensure!(maps.create(&params, &probe).await.is_err(), "not yet");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_stuck_is_waited_for_and_made_again_with_all_in_it() {
    let (fleet, client) = fleet("stuck").await;
    let stuck = format!("{}-stuck", fleet.namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &stuck);
    let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {stuck}}}\n");
    fleet.repo.write("namespace.yaml", &text).unwrap();
    fleet.repo.write("map.yaml", &config_map(&stuck, "a", "1")).unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    let before = uid(&client, &stuck).await;

    // Somebody deletes it, and something in it will not go.
    let finalizer = json!({"metadata": {"finalizers": ["example.com/stays"]}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(finalizer)).await.unwrap();
    namespaces.delete(&stuck, &DeleteParams::default()).await.unwrap();
    fleet.repo.write("more.yaml", &config_map(&stuck, "b", "1")).unwrap();
    let second = fleet.commit("more").unwrap();
    is_held_up(&agent, &[&stuck, "terminated"]).await;

    // What kept it goes.
    let none = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    value_becomes(&mut agent, &maps, "b", Some("1")).await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    applied(&agent, &second).await;
    assert_ne!(uid(&client, &stuck).await, before, "it is the same that was deleted");
    namespaces.delete(&stuck, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_is_restarted_in_the_middle_of_an_apply_gets_the_rest() {
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let proxy = ApiProxy::start(&control_plane).unwrap();
    let namespace = control_plane.namespace("restarted").await.unwrap();
    let fleet = Fleet::new("restarted", env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace).unwrap();
    for index in 0..200 {
        fleet.write_map(&format!("{index}.yaml"), &format!("a{index}"), "1").unwrap();
    }
    let commit = fleet.commit("two hundred").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let is_apply =
        |request: &wickie_testbench::Request| request.method == "PATCH" && request.path.contains("/configmaps/a");
    proxy.at_request(60, When::After, is_apply, move || {
        if let Some(tell) = tell.lock().unwrap().take() {
            let _ = tell.send(());
        }
    });
    let agent = fleet.start().unwrap();
    told.await.unwrap();
    control_plane.stop_api();
    status_becomes(&agent, "the cluster is said to be away", |status| {
        kustomization(status, "apps")["ready"]["status"] != "True" && status["cluster"]["reachable"] == false
    })
    .await;
    control_plane.start_api().await.unwrap();
    applied(&agent, &commit).await;
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await, &fleet.namespace);
    let labelled = ListParams::default().labels("kustomize.toolkit.fluxcd.io/name=apps");
    assert_eq!(maps.list(&labelled).await.unwrap().items.len(), 200);
}

#[tokio::test]
async fn a_store_that_is_deleted_is_made_again_and_what_left_git_meanwhile_goes() {
    // Whose an object is, its labels and managed fields tell: other tests have agents with a Kustomization of the same name.
    let (_control_plane, fleet, client) = fleet_alone("lost-store").await;
    let mut maps = maps(&fleet, &client);
    for name in ["stays", "goes"] {
        fleet.write_map(&format!("{name}.yaml"), name, "1").unwrap();
    }
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    let versions = |maps: Api<ConfigMap>| async move {
        let stays = maps.get("stays").await.unwrap().metadata;
        (stays.uid, stays.resource_version)
    };
    let before = versions(maps.clone()).await;
    assert_eq!(agent.stop().await.unwrap(), 0);
    std::fs::remove_dir_all(fleet.data_dir()).unwrap();
    fleet.repo.remove("goes.yaml").unwrap();
    let second = fleet.commit("one less").unwrap();
    agent.restart().unwrap();
    applied(&agent, &second).await;
    value_becomes(&mut agent, &maps, "goes", None).await;
    maps = Api::namespaced(client, &fleet.namespace);
    assert_eq!(versions(maps).await.0, before.0, "it was made again");
    let tree = agent.cli(&["tree", "apps"]).unwrap().stdout;
    assert!(tree.contains("└── ConfigMap/") && tree.contains("/stays") && !tree.contains("goes"), "{tree}");
}
