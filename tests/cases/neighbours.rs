//! Others in the same cluster: managers of our fields, broken manifests beside good ones, objects two want.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::node::*;

#[tokio::test]
async fn a_field_that_another_manager_owns_is_taken_back_and_that_is_said() {
    let (fleet, client) = fleet("conflict").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("a.yaml", "a", "git").unwrap();
    fleet.commit("first").unwrap();
    // Somebody was here first, with a field that is in Git and one that is not.
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"value": "theirs", "more": "theirs"}});
    maps.patch("a", &PatchParams::apply("another-tool"), &Patch::Apply(theirs)).await.unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("git")).await;
    status_becomes(&agent, "it is ready", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    let more = maps.get("a").await.unwrap().data.unwrap();
    assert_eq!(more["more"], "theirs", "a field that is not in Git was touched");
    let events = agent.cli(&["events"]).unwrap().stdout;
    assert!(events.contains("another-tool") && events.contains(".data.value"), "{events}");
}

#[tokio::test]
async fn a_broken_kustomization_hurts_neither_its_neighbour_nor_its_own_good_objects() {
    let (fleet, client) = fleet("broken").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("good/a.yaml", "good", "1").unwrap();
    fleet.write_map("bad/a.yaml", "beside-the-bad", "1").unwrap();
    fleet.repo.write("bad/yaml.yaml", "kind: [\n").unwrap();
    let unknown =
        format!("apiVersion: example.com/v1\nkind: Till\nmetadata: {{name: till, namespace: {}}}\n", fleet.namespace);
    fleet.repo.write("bad/unknown.yaml", &unknown).unwrap();
    // The API server's own admission refuses a pod that breaks the namespace's security level.
    let level = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
    namespaces.patch(&fleet.namespace, &PatchParams::default(), &Patch::Merge(level)).await.unwrap();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: root, namespace: {}}}\nspec: {{hostNetwork: true, containers: [{{name: a, image: a}}]}}\n",
        fleet.namespace
    );
    fleet.repo.write("bad/refused.yaml", &pod).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("good", "  path: good\n").unwrap();
    fleet.keep("bad", "  path: bad\n").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "good", Some("1")).await;
    value_becomes(&mut agent, &maps, "beside-the-bad", Some("1")).await;
    // Until the namespace has its default ServiceAccount, the pod is refused for want of that.
    status_becomes(&agent, "one is ready, the other names all that is wrong", |status| {
        let ready = |name| &kustomization(status, name)["ready"];
        let message = ready("bad")["message"].as_str().unwrap_or_default();
        let named = ["bad/yaml.yaml", "Till", "Pod/", "PodSecurity"];
        ready("good")["status"] == "True"
            && ready("bad")["status"] == "False"
            && named.iter().all(|named| message.contains(named))
    })
    .await;

    // While a file cannot be read, nothing is deleted; once it can, what left Git goes.
    fleet.repo.remove("bad/a.yaml").unwrap();
    fleet.commit("out, while broken").unwrap();
    let settled = fleet.repo.id("main").unwrap();
    status_becomes(&agent, "the second commit was tried", |status| {
        kustomization(status, "bad")["attemptedRevision"] == format!("main@sha1:{settled}")
    })
    .await;
    assert_eq!(value_of(&maps, "beside-the-bad").await.unwrap().as_deref(), Some("1"));
    for file in ["bad/yaml.yaml", "bad/unknown.yaml", "bad/refused.yaml"] {
        fleet.repo.remove(file).unwrap();
    }
    fleet.write_map("bad/b.yaml", "mended", "1").unwrap();
    fleet.commit("mended").unwrap();
    value_becomes(&mut agent, &maps, "mended", Some("1")).await;
    value_becomes(&mut agent, &maps, "beside-the-bad", None).await;
}

#[tokio::test]
async fn an_object_that_two_want_belongs_to_one_and_moves_without_being_made_again() {
    let (fleet, client) = fleet("moves").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("one/a.yaml", "a", "one").unwrap();
    fleet.write_map("one/keep.yaml", "one-keeps", "1").unwrap();
    fleet.write_map("two/keep.yaml", "two-keeps", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("one", "  path: one\n").unwrap();
    fleet.keep("two", "  path: two\n").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("one")).await;
    value_becomes(&mut agent, &maps, "two-keeps", Some("1")).await;
    let uid = maps.get("a").await.unwrap().metadata.uid;

    fleet.write_map("two/a.yaml", "a", "two").unwrap();
    fleet.commit("both want it").unwrap();
    let status = status_becomes(&agent, "the second is refused", |status| {
        kustomization(status, "two")["ready"]["status"] == "False"
    })
    .await;
    let message = kustomization(&status, "two")["ready"]["message"].to_string();
    assert!(message.contains("flux-system/one"), "{message}");
    assert_eq!(value_of(&maps, "a").await.unwrap().as_deref(), Some("one"));

    fleet.repo.remove("one/a.yaml").unwrap();
    fleet.commit("the first lets go").unwrap();
    value_becomes(&mut agent, &maps, "a", Some("two")).await;
    assert_eq!(maps.get("a").await.unwrap().metadata.uid, uid, "it was deleted and made again");
}

#[tokio::test]
async fn an_object_that_moves_in_one_commit_is_not_deleted_whoever_comes_first() {
    let (fleet, client) = fleet("handover").await;
    let maps = maps(&fleet, &client);
    let spec = |path: &str, more: &str| format!("  path: {path}\n{more}");
    // The new owner of one has more to build; that of the other may not even begin before the old owner is ready.
    fleet.write_map("old/to-slow.yaml", "to-slow", "1").unwrap();
    fleet.write_map("old/to-held.yaml", "to-held", "1").unwrap();
    fleet.write_map("old/leaves.yaml", "leaves", "1").unwrap();
    for name in ["old", "slow", "held"] {
        fleet.write_map(&format!("{name}/keep.yaml"), &format!("{name}-keeps"), "1").unwrap();
    }
    for index in 0..300 {
        fleet.write_map(&format!("slow/{index}.yaml"), &format!("slow-{index}"), "1").unwrap();
    }
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("old", &spec("old", "")).unwrap();
    fleet.keep("slow", &spec("slow", "")).unwrap();
    fleet.keep("held", &spec("held", "  dependsOn: [{name: old}]\n")).unwrap();
    let mut agent = fleet.start().unwrap();
    for name in ["to-slow", "to-held", "leaves", "slow-299", "held-keeps"] {
        value_becomes(&mut agent, &maps, name, Some("1")).await;
    }
    let uid = async |name: &str| maps.get(name).await.unwrap().metadata.uid;
    let before = [uid("to-slow").await, uid("to-held").await];

    for (name, to) in [("to-slow", "slow"), ("to-held", "held")] {
        fleet.repo.remove(&format!("old/{name}.yaml")).unwrap();
        fleet.write_map(&format!("{to}/{name}.yaml"), name, "2").unwrap();
    }
    fleet.repo.remove("old/leaves.yaml").unwrap();
    let moved = fleet.commit("moved").unwrap();
    for name in ["to-slow", "to-held"] {
        value_becomes(&mut agent, &maps, name, Some("2")).await;
    }
    value_becomes(&mut agent, &maps, "leaves", None).await;
    assert_eq!([uid("to-slow").await, uid("to-held").await], before, "deleted and made again");
    for name in ["old", "slow", "held"] {
        status_becomes(&agent, "all are ready", |status| {
            let one = kustomization(status, name);
            one["appliedRevision"] == format!("main@sha1:{moved}") && one["ready"]["status"] == "True"
        })
        .await;
    }

    // One that cannot be built holds up what has left, and not for ever.
    fleet.repo.write("slow/kustomization.yaml", "resources: [missing.yaml]\n").unwrap();
    fleet.repo.remove("held/to-held.yaml").unwrap();
    fleet.commit("one is broken").unwrap();
    status_becomes(&agent, "the deletion waits, and says for what", |status| {
        let message = kustomization(status, "held")["ready"]["message"].to_string();
        message.contains("to-held") && message.contains("flux-system/slow")
    })
    .await;
    assert_eq!(value_of(&maps, "to-held").await.unwrap().as_deref(), Some("2"));
    value_becomes(&mut agent, &maps, "to-held", None).await;
}
