//! A revision that does harm gives way to the last healthy one, with Git and the world gone, whatever happens meanwhile.

use std::time::Duration;

use anyhow::ensure;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch};
use serde_json::Value;
use wickie_testbench::{Agent, ApiProxy, ControlPlane, Fleet, Receiver, When, agent, eventually};

use crate::heard::*;
use crate::node::*;

/// A Deployment; one that is stuck asks for a node that there is not.
fn deployment(namespace: &str, name: &str, image: &str, stuck: bool) -> String {
    let selector = if stuck { "      nodeSelector: {no: where}\n" } else { "" };
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
{selector}      containers: [{{name: main, image: {image}}}]
"
    )
}

/// Declares a Kustomization of `path` whose health is waited for, with these annotations.
fn keep(fleet: &Fleet, name: &str, path: &str, annotations: &str) {
    keep_annotated(fleet, name, path, annotations, "  wait: true\n  timeout: 30s\n");
}

async fn image(fleet: &Fleet, client: &Client, name: &str) -> String {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let found = deployments.get(name).await.unwrap();
    found.spec.unwrap().template.spec.unwrap().containers[0].image.clone().unwrap()
}

/// The ending of a revision in `wickie history`; with what it was set back to.
fn ending(agent: &Agent, name: &str, commit: &str) -> (String, Option<String>) {
    let answered = agent.cli(&["history", name, "-o", "json"]).unwrap();
    let history: Value = serde_json::from_str(&answered.stdout).expect(&answered.stderr);
    let all = history["revisions"].as_array().unwrap();
    let found = all.iter().find(|trial| trial["revision"] == revision(commit)).unwrap_or(&Value::Null);
    let text = |key: &str| found[key].as_str().map(str::to_owned);
    (text("ending").unwrap_or_default(), text("instead"))
}

async fn rolled_back(agent: &Agent, name: &str, first: &str, second: &str) {
    let status = status_becomes(agent, &format!("{name} is rolled back"), |status| {
        kustomization(status, name)["ready"]["reason"] == "RolledBack"
    })
    .await;
    let one = kustomization(&status, name);
    assert_eq!(one["ready"]["status"], "False");
    assert_eq!(
        (&one["appliedRevision"], &one["attemptedRevision"]),
        (&revision(first).into(), &revision(second).into())
    );
    let message = one["ready"]["message"].to_string();
    assert!(message.contains(&revision(first)) && message.contains(&revision(second)), "{message}");
    assert!(message.contains("Deployment/"), "it does not say what was not healthy: {message}");
    assert_eq!(ending(agent, name, second), ("rolled-back".to_owned(), Some(revision(first))));
    assert_eq!(ending(agent, name, first).0, "healthy");
}

/// When the agent is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// While the bad revision's health is waited for: nothing is judged yet.
    Waiting,
    /// At a request of the rollback: the first there is comes after the judgement was written.
    At(&'static str, usize, When),
    /// When it is rolled back.
    Done,
}

#[tokio::test]
async fn killed_at_any_step_it_is_back_on_the_last_healthy_revision_with_the_world_gone() {
    let kills = [
        Kill::Waiting,
        // The ConfigMap, the Deployment, the deletion of what only the bad revision had.
        Kill::At("PATCH", 1, When::Before),
        Kill::At("PATCH", 1, When::After),
        Kill::At("PATCH", 2, When::Before),
        Kill::At("PATCH", 2, When::After),
        Kill::At("DELETE", 1, When::Before),
        Kill::At("DELETE", 1, When::After),
        Kill::Done,
    ];
    let control_plane = ControlPlane::shared().await;
    join_all(kills.into_iter().enumerate().map(|(index, kill)| killed(control_plane, index, kill))).await;
}

async fn killed(control_plane: &ControlPlane, index: usize, kill: Kill) {
    let namespace = control_plane.namespace("undo").await.unwrap();
    let client = control_plane.client().await;
    let proxy = ApiProxy::start(control_plane).unwrap();
    let binary = env!("CARGO_BIN_EXE_wickie");
    let fleet = Fleet::new(&format!("undo-{index}"), binary, proxy.kubeconfig(), namespace.clone()).unwrap();
    let receiver = Receiver::start().unwrap();
    report_to(&fleet, &receiver);
    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    fleet.repo.write("apps/till.yaml", &deployment(&namespace, "till", "till:1", false)).unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    keep(&fleet, "apps", "apps", "wickie.dev/on-unhealthy: rollback");
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;

    fleet.write_map("apps/a.yaml", "a", "2").unwrap();
    fleet.write_map("apps/extra.yaml", "extra", "2").unwrap();
    fleet.repo.write("apps/till.yaml", &deployment(&namespace, "till", "till:2", true)).unwrap();
    let second = fleet.commit("second").unwrap();
    status_becomes(&agent, "the second is waited for", |status| {
        let apps = kustomization(status, "apps");
        apps["phase"] == "waiting" && apps["attemptedRevision"] == revision(&second)
    })
    .await;
    // From here on there is nobody but the cluster.
    fleet.git.down();
    receiver.down();
    match kill {
        Kill::Waiting => {
            agent.kill9();
            agent.restart().unwrap();
        }
        Kill::At(method, nth, when) => {
            let pid = agent.pid();
            proxy.at_request(nth, when, move |request| request.method == method, move || agent::kill9(pid));
            dies(&mut agent, kill).await;
            agent.restart().unwrap();
        }
        Kill::Done => {}
    }
    rolled_back(&agent, "apps", &first, &second).await;
    let maps = maps(&fleet, &client);
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("1"), "{kill:?}");
    assert_eq!(value_of(&maps, "extra").await.unwrap(), None, "{kill:?}");
    assert_eq!(image(&fleet, &client, "till").await, "till:1", "{kill:?}");

    // It stays there over a restart, and drift is repaired to what is there. Nothing of that is news.
    agent.kill9();
    agent.restart().unwrap();
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    assert_eq!(image(&fleet, &client, "till").await, "till:1", "{kill:?}");
    rolled_back(&agent, "apps", &first, &second).await;

    // Heard when the way out is back: the failure once, the rollback once.
    receiver.up();
    fleet.git.up();
    let heard = everything_is_heard(&agent, &receiver).await;
    let failure = the_one(&heard, |heard| heard.reason == "HealthCheckFailed" && heard.about == "Kustomization/apps");
    assert_eq!((failure.severity.as_str(), &failure.revision), ("error", &revision(&second)));
    assert!(failure.message.contains(&revision(&first)), "{failure:?}");
    let undone = the_one(&heard, |heard| heard.reason == "RolledBack");
    assert_eq!((undone.severity.as_str(), &undone.revision), ("error", &revision(&second)));

    // The next revision is followed.
    fleet.repo.write("apps/till.yaml", &deployment(&namespace, "till", "till:3", false)).unwrap();
    let third = fleet.commit("third").unwrap();
    applied(&agent, &third).await;
    assert_eq!(image(&fleet, &client, "till").await, "till:3");
    assert_eq!(value_of(&maps, "extra").await.unwrap().as_deref(), Some("2"));
    assert_eq!(agent.stop().await.unwrap(), 0);
}

async fn dies(agent: &mut Agent, kill: Kill) {
    let agent = std::cell::RefCell::new(agent);
    eventually(&format!("it is killed: {kill:?}"), LONG, || async {
        let code = agent.borrow_mut().exit_code();
        ensure!(code == Some(128 + 9), "it ended with {code:?}\n{}", tail(&agent.borrow().log()));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn kustomizations_of_one_source_are_judged_each_for_itself() {
    let (fleet, client) = fleet("judged").await;
    let write = |path: &str, value: &str, stuck: bool| {
        fleet.write_map(&format!("{path}/map.yaml"), path, value).unwrap();
        let text = deployment(&fleet.namespace, path, &format!("{path}:{value}"), stuck);
        fleet.repo.write(&format!("{path}/deployment.yaml"), &text).unwrap();
    };
    let all = ["undo", "limited", "stop", "good", "first"];
    all.iter().for_each(|path| write(path, "1", *path == "first"));
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    keep(&fleet, "undo", "undo", "wickie.dev/on-unhealthy: rollback");
    // What only the bad revision has is more than may be deleted unasked.
    keep(&fleet, "limited", "limited", "wickie.dev/on-unhealthy: rollback, wickie.dev/prune-limit: \"1\"");
    keep(&fleet, "stop", "stop", "wickie.dev/on-unhealthy: stop");
    keep(&fleet, "good", "good", "wickie.dev/on-unhealthy: rollback");
    keep(&fleet, "first", "first", "wickie.dev/on-unhealthy: rollback");
    let mut agent = fleet.start().unwrap();
    for name in &all[..4] {
        status_becomes(&agent, "all but one are ready", |status| {
            kustomization(status, name)["ready"]["status"] == "True"
        })
        .await;
    }
    let alone = status_becomes(&agent, "the first of its kind is given up", |status| {
        kustomization(status, "first")["ready"]["reason"] == "HealthCheckFailed"
    })
    .await;
    let message = kustomization(&alone, "first")["ready"]["message"].to_string();
    assert!(message.contains("no earlier revision"), "{message}");

    all[..3].iter().for_each(|path| write(path, "2", true));
    write("good", "2", false);
    ["one", "two"].iter().for_each(|name| fleet.write_map(&format!("limited/{name}.yaml"), name, "2").unwrap());
    let second = fleet.commit("second").unwrap();
    let maps = maps(&fleet, &client);
    status_becomes(&agent, "the good one follows", |status| {
        let good = kustomization(status, "good");
        good["appliedRevision"] == revision(&second) && good["ready"]["status"] == "True"
    })
    .await;
    rolled_back(&agent, "undo", &first, &second).await;
    assert_eq!(image(&fleet, &client, "undo").await, "undo:1");
    let stopped = status_becomes(&agent, "the one that stops is given up", |status| {
        let message = kustomization(status, "stop")["ready"]["message"].to_string();
        message.contains("not tried again")
    })
    .await;
    assert_eq!(kustomization(&stopped, "stop")["ready"]["reason"], "HealthCheckFailed");
    assert_eq!(ending(&agent, "stop", &second), ("stopped".to_owned(), None));
    assert_eq!(ending(&agent, "good", &second), ("healthy".to_owned(), None));
    assert_eq!(ending(&agent, "first", &first).0, "unhealthy");
    // Harm is undone; what would be deleted beyond the limit is kept, and said.
    let limited = status_becomes(&agent, "the limited one says what it keeps", |status| {
        kustomization(status, "limited")["ready"]["message"].to_string().contains("prune-limit")
    })
    .await;
    assert_eq!(kustomization(&limited, "limited")["ready"]["status"], "False");
    assert_eq!(image(&fleet, &client, "limited").await, "limited:1");
    assert_eq!(value_of(&maps, "one").await.unwrap().as_deref(), Some("2"));
    // Each is kept up at what it follows.
    for (name, value) in [("undo", "1"), ("stop", "2")] {
        change_by_hand(&maps, name, "by hand").await;
        value_becomes(&mut agent, &maps, name, Some(value)).await;
    }

    all.iter().for_each(|path| write(path, "3", false));
    let third = fleet.commit("third").unwrap();
    for name in all {
        status_becomes(&agent, &format!("{name} is mended"), |status| {
            let one = kustomization(status, name);
            one["appliedRevision"] == revision(&third) && one["ready"]["status"] == "True"
        })
        .await;
        assert_eq!(ending(&agent, name, &third), ("healthy".to_owned(), None));
    }
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn somebody_puts_an_earlier_revision_back() {
    let (fleet, client) = fleet("back").await;
    let maps = maps(&fleet, &client);
    let commit = |value: &str| {
        fleet.write_map("a.yaml", "a", value).unwrap();
        fleet.commit(value).unwrap()
    };
    let first = commit("1");
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    let mut newest = String::new();
    for value in ["2", "3"] {
        newest = commit(value);
        applied(&agent, &newest).await;
    }
    fleet.git.down();
    let short = &first[..10];
    let answered = agent.cli(&["rollback", "apps", "--to", "0000000"]).unwrap();
    assert_eq!(answered.code, 1, "{answered:?}");
    assert!(answered.stderr.contains(short), "it does not name what is stored: {answered:?}");
    assert_eq!(agent.cli(&["rollback", "apps"]).unwrap().code, 2);
    let answered = agent.cli(&["rollback", "apps", "--to", short]).unwrap();
    assert_eq!(answered.code, 0, "{answered:?}");
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(ending(&agent, "apps", &newest), ("set-back".to_owned(), Some(revision(&first))));
    // It stays, over a restart and with Git gone.
    agent.kill9();
    agent.restart().unwrap();
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    fleet.git.up();
    let newest = commit("4");
    applied(&agent, &newest).await;
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("4"));
    assert_eq!(agent.cli(&["rollback", "apps", "--resume"]).unwrap().code, 1, "there is nothing to resume");

    // Where the node wants a permit, a signer's alone opens the way, for this very step.
    let policy = "apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {rollback-needs-permit: true}\n";
    fleet.configure("node.yaml", policy).unwrap();
    let permit = |key: &wickie_testbench::SshKey, to: &str| {
        let text = format!(
            "wickie permit 1\nsource flux-system/fleet\nfrom {newest}\nto {to}\nexpires 2999-01-01T00:00:00Z\n"
        );
        let path = fleet.scratch.join("permit");
        let signature = key.sign_for("wickie-permit", text.as_bytes()).unwrap();
        std::fs::write(&path, format!("{text}{signature}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    eventually("the policy is read", LONG, || async {
        let answered = agent.cli(&["rollback", "apps", "--to", &newest])?;
        ensure!(answered.code == 1, "{answered:?}");
        let answered = agent.cli(&["rollback", "apps", "--to", short])?;
        if answered.code == 0 {
            agent.cli(&["rollback", "apps", "--resume"])?;
        }
        ensure!(answered.code == 1 && answered.stderr.contains("--permit"), "{answered:?}");
        Ok(())
    })
    .await;
    let stranger = wickie_testbench::SshKey::named("mallory");
    for path in [permit(&stranger, &first), permit(&fleet.key, &newest)] {
        let answered = agent.cli(&["rollback", "apps", "--to", short, "--permit", &path]).unwrap();
        assert_eq!(answered.code, 1, "{answered:?}");
    }
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("4"));
    let path = permit(&fleet.key, &first);
    let answered = agent.cli(&["rollback", "apps", "--to", short, "--permit", &path]).unwrap();
    assert_eq!(answered.code, 0, "{answered:?}");
    assert!(answered.stdout.contains("permit of"), "{answered:?}");
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(agent.cli(&["rollback", "apps", "--resume"]).unwrap().code, 0);
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("4"));
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn an_api_server_that_is_away_condemns_nothing() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("blind").await.unwrap();
    let client = control_plane.client().await;
    let proxy = ApiProxy::start(control_plane).unwrap();
    let fleet = Fleet::new("blind", env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace.clone()).unwrap();
    fleet.repo.write("apps/till.yaml", &deployment(&namespace, "till", "till:1", false)).unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    keep(&fleet, "apps", "apps", "wickie.dev/on-unhealthy: rollback");
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    // It cannot be scheduled until a node has this label.
    let text = deployment(&namespace, "till", "till:2", true).replace("no: where", &format!("blind: {namespace}"));
    fleet.repo.write("apps/till.yaml", &text).unwrap();
    let second = fleet.commit("second").unwrap();
    status_becomes(&agent, "the second is waited for", |status| kustomization(status, "apps")["phase"] == "waiting")
        .await;
    proxy.down();
    // The deadline passes while nothing can be seen, and meanwhile it becomes healthy.
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    let label = serde_json::json!({"metadata": {"labels": {"blind": namespace}}});
    nodes.patch(&node, &Default::default(), &Patch::Merge(label)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(ending(&agent, "apps", &second).0, "trying");
    proxy.up();
    applied(&agent, &second).await;
    assert_eq!(ending(&agent, "apps", &second).0, "healthy");
    assert_eq!(agent.stop().await.unwrap(), 0);
}
