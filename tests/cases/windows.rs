//! A window for changes: what is new waits for it, and what was applied is kept up meanwhile.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_testbench::{Agent, ApiProxy, ControlPlane, Fault, Fleet, Receiver, eventually};

use crate::cluster_input::{apply, install_crds};
use crate::heard::*;
use crate::node::*;

/// A window of an hour that opens in `ahead`, at a full minute.
fn window(ahead: SignedDuration) -> (String, Timestamp) {
    let from = Timestamp::now() + ahead;
    let from = from.round(jiff::Unit::Minute).unwrap();
    let shown = |at: Timestamp| at.strftime("%H:%M").to_string();
    (format!("{}-{} UTC", shown(from), shown(from + SignedDuration::from_hours(1))), from)
}

/// One that is shut for two hours.
fn shut() -> (String, Timestamp) {
    window(SignedDuration::from_hours(2))
}

/// Declares Kustomization `name` of the folder of that name; `more` is the rest of its spec.
fn keep(fleet: &Fleet, name: &str, annotations: &str, more: &str) {
    keep_annotated(fleet, name, name, annotations, more);
}

/// As [`keep`], and waits until the agent has looked at its files.
async fn keep_now(agent: &Agent, fleet: &Fleet, name: &str, annotations: &str, more: &str) {
    let runs = || causes(agent, name).iter().filter(|cause| *cause == "spec").count();
    let before = runs();
    keep(fleet, name, annotations, more);
    eventually("the files are read", LONG, || async {
        anyhow::ensure!(runs() > before, "{}", tail(&agent.log()));
        anyhow::Ok(())
    })
    .await;
}

/// Waits until `name` says that something waits which `names`.
async fn waits(agent: &Agent, name: &str, names: &str) -> Value {
    let status = status_becomes(agent, &format!("{name} says that {names} waits"), |status| {
        kustomization(status, name)["held"]["message"].to_string().contains(names)
    })
    .await;
    kustomization(&status, name).clone()
}

async fn ready(agent: &Agent, name: &str, commit: &str) {
    status_becomes(agent, &format!("{name} is ready at {commit}"), |status| {
        let one = kustomization(status, name);
        one["appliedRevision"] == revision(commit) && one["ready"]["status"] == "True"
    })
    .await;
}

fn causes(agent: &Agent, name: &str) -> Vec<String> {
    let answered = agent.cli(&["history", name, "-o", "json"]).unwrap();
    let history: Value = serde_json::from_str(&answered.stdout).expect(&answered.stderr);
    history["runs"].as_array().unwrap().iter().map(|run| run["cause"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_new_revision_waits_while_what_was_applied_is_kept_up() {
    let (fleet, client) = fleet("window").await;
    let maps = maps(&fleet, &client);
    let receiver = Receiver::start().unwrap();
    report_to(&fleet, &receiver);
    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    fleet.write_map("apps/b.yaml", "b", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    keep(&fleet, "apps", "", "");
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    let (text, opens) = shut();
    keep_now(&agent, &fleet, "apps", &format!("wickie.dev/apply-window: \"{text}\""), "").await;

    fleet.write_map("apps/a.yaml", "a", "2").unwrap();
    fleet.write_map("apps/c.yaml", "c", "2").unwrap();
    fleet.repo.remove("apps/b.yaml").unwrap();
    let second = fleet.commit("second").unwrap();
    let one = waits(&agent, "apps", &revision(&second)).await;
    let message = one["held"]["message"].as_str().unwrap();
    for word in ["1 to create", "1 to change", "1 to delete", &opens.to_string(), &text] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    assert_eq!(one["held"]["until"], opens.to_string());
    assert_eq!((&one["ready"]["status"], &one["appliedRevision"]), (&"True".into(), &revision(&first).into()));
    assert_eq!(one["attemptedRevision"], Value::Null, "it was not tried");
    let shown = agent.cli(&["status"]).unwrap();
    let words = shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("waits until {opens}")) && words.contains("All is well"), "{}", shown.stdout);

    // By hand, and over a restart with Git gone: the first revision is what is kept.
    let untouched = async |agent: &mut Agent| {
        change_by_hand(&maps, "a", "by hand").await;
        value_becomes(agent, &maps, "a", Some("1")).await;
        maps.delete("b", &DeleteParams::default()).await.unwrap();
        value_becomes(agent, &maps, "b", Some("1")).await;
        assert_eq!(value_of(&maps, "c").await.unwrap(), None);
    };
    untouched(&mut agent).await;
    // Nobody's word breaks it: who asks is told that it waits, by the exit code, too.
    let asked = agent.cli(&["reconcile", "apps"]).unwrap();
    assert_eq!(asked.code, 3, "{asked:?}");
    assert!(asked.stderr.contains(&revision(&second)), "{asked:?}");
    let diff = agent.cli(&["diff", "apps"]).unwrap();
    assert!(diff.stdout.contains("+  value: \"2\"") && diff.stdout.contains("would be deleted"), "{diff:?}");
    fleet.git.down();
    agent.kill9();
    agent.restart().unwrap();
    waits(&agent, "apps", &revision(&second)).await;
    untouched(&mut agent).await;
    fleet.git.up();

    // One that opens in a moment: the change is made when it does, and no sooner.
    let (text, opens) = window(SignedDuration::from_secs(50));
    keep(&fleet, "apps", &format!("wickie.dev/apply-window: \"{text}\""), "");
    waits(&agent, "apps", &opens.to_string()).await;
    ready(&agent, "apps", &second).await;
    assert!(Timestamp::now() >= opens, "it was applied before {opens}");
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
    assert_eq!(value_of(&maps, "c").await.unwrap().as_deref(), Some("2"));
    assert_eq!(value_of(&maps, "b").await.unwrap(), None);
    let status = status(&agent).unwrap();
    assert_eq!(kustomization(&status, "apps")["held"], Value::Null);
    assert!(causes(&agent, "apps").contains(&"window".to_owned()), "{:?}", causes(&agent, "apps"));

    // It was said once for each window, also over the restart.
    let heard = everything_is_heard(&agent, &receiver).await;
    let said: Vec<_> = heard.iter().filter(|heard| heard.reason == "OutsideWindow").collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().all(|heard| heard.revision == revision(&second) && heard.severity == "info"), "{said:#?}");
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn drift_may_wait_for_the_window_too_and_what_is_misspelt_is_refused() {
    let (fleet, client) = fleet("window-drift").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let (text, _) = shut();
    keep(&fleet, "apps", &format!("wickie.dev/apply-window: \"{text}\", wickie.dev/drift-window: apply-window"), "");
    let mut agent = fleet.start().unwrap();
    // The first apply is a change as well.
    let one = waits(&agent, "apps", &revision(&first)).await;
    assert_eq!((&one["ready"]["status"], &one["ready"]["reason"]), (&"False".into(), &"OutsideWindow".into()));
    assert_eq!(value_of(&maps, "a").await.unwrap(), None);
    let asked = agent.cli(&["reconcile", "apps"]).unwrap();
    assert_eq!(asked.code, 3, "{asked:?}");
    keep(&fleet, "apps", "", "");
    applied(&agent, &first).await;

    let both = format!("wickie.dev/apply-window: \"{text}\", wickie.dev/drift-window: apply-window");
    keep_now(&agent, &fleet, "apps", &both, "").await;
    change_by_hand(&maps, "a", "by hand").await;
    let one = waits(&agent, "apps", "drift is left").await;
    let message = one["held"]["message"].to_string();
    assert!(message.contains(&format!("ConfigMap/{}/a", fleet.namespace)), "{message}");
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("by hand"));
    // That it is left costs nothing, however long.
    let before = causes(&agent, "apps").len();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(causes(&agent, "apps").len(), before);
    assert_eq!(agent.log().matches("drift is left").count(), 1, "{}", agent.log());
    keep(&fleet, "apps", &format!("wickie.dev/apply-window: \"{text}\""), "");
    value_becomes(&mut agent, &maps, "a", Some("1")).await;

    for (annotation, value) in [("apply-window", "Mon-Fry 22:00-04:00"), ("drift-window", "never")] {
        keep(&fleet, "apps", &format!("wickie.dev/{annotation}: \"{value}\""), "");
        let status = status_becomes(&agent, &format!("{value} is refused"), |status| {
            let ready = &kustomization(status, "apps")["ready"];
            ready["reason"] == "InvalidSpec" && ready["message"].to_string().contains(value)
        })
        .await;
        let message = kustomization(&status, "apps")["ready"]["message"].to_string();
        assert!(message.contains(&format!("wickie.dev/{annotation}")), "{message}");
    }
    // The node's window holds all of them; an object's own cannot widen it.
    fleet.write_map("apps/a.yaml", "a", "2").unwrap();
    let second = fleet.commit("second").unwrap();
    let node = format!("apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {{apply-window: \"{text}\"}}\n");
    fleet.configure("node.yaml", &node).unwrap();
    status_becomes(&agent, "the source has the commit", |status| status["sources"].to_string().contains(&second)).await;
    keep(&fleet, "apps", "wickie.dev/apply-window: 00:00-24:00", "");
    waits(&agent, "apps", &revision(&second)).await;
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("1"));
    std::fs::remove_file(fleet.config().join("node.yaml")).unwrap();
    applied(&agent, &second).await;
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn a_changed_spec_waits_and_so_does_who_depends_on_it_and_harm_is_undone_all_the_same() {
    let (fleet, client) = fleet("window-spec").await;
    let maps = maps(&fleet, &client);
    let write = |value: &str| {
        for name in ["base", "apps"] {
            fleet.write_map(&format!("{name}/map.yaml"), name, value).unwrap();
        }
        fleet.commit(value).unwrap()
    };
    let first = write("1");
    fleet.follow("1s").unwrap();
    let (text, _) = shut();
    let annotation = format!("wickie.dev/apply-window: \"{text}\"");
    let on = "  dependsOn: [{name: base}]\n";
    keep(&fleet, "base", "", "");
    keep(&fleet, "apps", "", on);
    let mut agent = fleet.start().unwrap();
    for name in ["base", "apps"] {
        ready(&agent, name, &first).await;
    }
    // Only the first has a window; the second waits with it, and both are kept up.
    keep_now(&agent, &fleet, "base", &annotation, "").await;
    let second = write("2");
    waits(&agent, "base", &revision(&second)).await;
    waits(&agent, "apps", "dependency 'flux-system/base'").await;
    for name in ["base", "apps"] {
        change_by_hand(&maps, name, "by hand").await;
        value_becomes(&mut agent, &maps, name, Some("1")).await;
    }
    keep(&fleet, "base", "", "");
    for name in ["base", "apps"] {
        ready(&agent, name, &second).await;
        value_becomes(&mut agent, &maps, name, Some("2")).await;
    }

    // A changed spec is a change, and what the old one made is kept up.
    let more = "  commonMetadata: {labels: {changed: \"yes\"}}\n";
    keep(&fleet, "base", &annotation, more);
    let one = waits(&agent, "base", "the changed spec").await;
    assert_eq!(one["ready"]["status"], "True");
    change_by_hand(&maps, "base", "by hand").await;
    value_becomes(&mut agent, &maps, "base", Some("2")).await;
    let label = async || maps.get("base").await.unwrap().metadata.labels.unwrap_or_default().contains_key("changed");
    assert!(!label().await);
    // What cannot be built is known before the window opens, and keeps nothing from being kept up.
    fleet.repo.write("base/broken.yaml", "kind: [").unwrap();
    let broken = fleet.commit("broken").unwrap();
    let one = waits(&agent, "base", "cannot be built").await;
    assert!(one["held"]["message"].to_string().contains(&revision(&broken)), "{one:#}");
    maps.delete("base", &DeleteParams::default()).await.unwrap();
    value_becomes(&mut agent, &maps, "base", Some("2")).await;
    fleet.repo.remove("base/broken.yaml").unwrap();
    fleet.commit("mended").unwrap();
    keep(&fleet, "base", "", more);
    eventually("the label is there", LONG, || async {
        anyhow::ensure!(label().await);
        anyhow::Ok(())
    })
    .await;

    // Somebody who goes back undoes harm: that is not held. To go on again is.
    keep_now(&agent, &fleet, "base", &annotation, more).await;
    let answered = agent.cli(&["rollback", "base", "--to", &first[..10]]).unwrap();
    assert_eq!(answered.code, 0, "{answered:?}");
    assert_eq!(value_of(&maps, "base").await.unwrap().as_deref(), Some("1"));
    let answered = agent.cli(&["rollback", "base", "--resume"]).unwrap();
    assert_eq!(answered.code, 3, "{answered:?}");
    assert_eq!(value_of(&maps, "base").await.unwrap().as_deref(), Some("1"));
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn a_revision_that_does_harm_is_rolled_back_after_its_window_has_shut() {
    let (mut fleet, client) = fleet("window-undo").await;
    let proxy = ApiProxy::start(ControlPlane::shared().await).unwrap();
    fleet.through(&proxy.kubeconfig());
    let maps = maps(&fleet, &client);
    let deployment = |stuck: bool| {
        let node = if stuck { "      nodeSelector: {no: where}\n" } else { "" };
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: till, namespace: {}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: till}}}}
  template:
    metadata: {{labels: {{app: till}}}}
    spec:
{node}      containers: [{{name: main, image: till}}]
",
            fleet.namespace
        )
    };
    let write = |value: &str, stuck: bool| {
        fleet.write_map("apps/map.yaml", "a", value).unwrap();
        fleet.repo.write("apps/till.yaml", &deployment(stuck)).unwrap();
        fleet.commit(value).unwrap()
    };
    let first = write("1", false);
    fleet.follow("1s").unwrap();
    let more = "  wait: true\n  timeout: 30s\n";
    keep(&fleet, "apps", "wickie.dev/on-unhealthy: rollback", more);
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    let second = write("2", true);
    status_becomes(&agent, "the second is waited for", |status| {
        let apps = kustomization(status, "apps");
        apps["phase"] == "waiting" && apps["attemptedRevision"] == revision(&second)
    })
    .await;
    let node = format!("apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {{apply-window: \"{}\"}}\n", shut().0);
    fleet.configure("node.yaml", &node).unwrap();
    // Nothing can be put back at first, and meanwhile there is a newer revision, which has to wait.
    proxy.inject(Fault::answer(500).on(|request| request.method == "PATCH"));
    status_becomes(&agent, "it is condemned", |status| {
        kustomization(status, "apps")["ready"]["message"].to_string().contains("500")
    })
    .await;
    let third = write("3", false);
    status_becomes(&agent, "the source has the third", |status| status["sources"].to_string().contains(&third)).await;
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("2"));
    proxy.heal();
    // Harm is undone first; what mends it waits, and what was put back is kept up.
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    waits(&agent, "apps", &revision(&third)).await;
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    std::fs::remove_file(fleet.config().join("node.yaml")).unwrap();
    applied(&agent, &third).await;
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_a_kustomization_waits_for_its_window_unless_it_leaves_its_objects() {
    let (_control_plane, fleet, client) = fleet_alone("window-end").await;
    let maps = maps(&fleet, &client);
    install_crds(&client).await;
    for name in ["gone", "left"] {
        fleet.write_map(&format!("{name}/map.yaml"), name, "1").unwrap();
    }
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let spec = |name: &str| {
        json!({"interval": "10m", "prune": true, "path": name,
               "sourceRef": {"kind": "GitRepository", "name": "fleet", "namespace": "flux-system"}})
    };
    let mut agent = fleet.start().unwrap();
    let kind = ResourceKind::Kustomization;
    let gvk = kube::core::GroupVersionKind::gvk(kind.group(), kind.version(), kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    let kustomizations: Api<DynamicObject> = Api::namespaced_with(client.clone(), &fleet.namespace, &resource);
    let (text, opens) = shut();
    for name in ["gone", "left"] {
        apply(&client, kind, &fleet.namespace, name, spec(name)).await;
        ready(&agent, name, &first).await;
        let annotated = json!({"metadata": {"annotations": {"wickie.dev/apply-window": text}}});
        kustomizations.patch(name, &PatchParams::default(), &Patch::Merge(annotated)).await.unwrap();
    }
    let orphan = json!({"spec": {"deletionPolicy": "Orphan"}});
    kustomizations.patch("left", &PatchParams::default(), &Patch::Merge(orphan)).await.unwrap();
    for name in ["gone", "left"] {
        kustomizations.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let is_gone = async |name: &str| {
        eventually(&format!("{name} is gone"), LONG, || async {
            anyhow::ensure!(kustomizations.get_opt(name).await?.is_none(), "it is there");
            anyhow::Ok(())
        })
        .await;
    };
    is_gone("left").await;
    assert_eq!(value_of(&maps, "left").await.unwrap().as_deref(), Some("1"));
    eventually("the other says that it waits", LONG, || async {
        let object = serde_json::to_value(kustomizations.get("gone").await?)?;
        let said = object["status"]["conditions"].to_string();
        anyhow::ensure!(said.contains("its deletion") && said.contains(&opens.to_string()), "{said}");
        anyhow::Ok(())
    })
    .await;
    assert_eq!(value_of(&maps, "gone").await.unwrap().as_deref(), Some("1"));
    // Over a restart, too, until somebody takes the window away.
    agent.kill9();
    agent.restart().unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(value_of(&maps, "gone").await.unwrap().as_deref(), Some("1"));
    let free = json!({"metadata": {"annotations": {"wickie.dev/apply-window": null}}});
    kustomizations.patch("gone", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    is_gone("gone").await;
    assert_eq!(value_of(&maps, "gone").await.unwrap(), None);
    assert_eq!(agent.stop().await.unwrap(), 0);
}
