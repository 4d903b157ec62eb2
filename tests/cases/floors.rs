//! History that went back, on the real agent: a fleet whose branch had to be rewritten, a node with an old copy of its
//! store, clocks and disks that fail. Git's side of it is in `source/attacks`.

use std::path::Path;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_testbench::{Agent, AgentOptions, ControlPlane, Fleet, Receiver, SshKey, When, eventually, git_server};

use crate::heard::*;
use crate::node::*;

/// The ConfigMap that holds the floors' copy.
const FLOORS: &str = "wickie-floors";

/// Stops an agent so that its store is closed. One that was told so before it listens for it has not opened it yet.
async fn stop(agent: &mut Agent) {
    let code = agent.stop().await.unwrap();
    assert!(matches!(code, 0 | 143), "{code}\n{}", tail(&agent.log()));
}

async fn copy_store(data: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["wickie.db", "wickie.db-wal", "floors"] {
        if data.join(file).exists() {
            std::fs::copy(data.join(file), to.join(file)).unwrap();
        }
    }
}

fn put_back(from: &Path, data: &Path, files: &[&str]) {
    for file in ["wickie.db", "wickie.db-wal", "wickie.db-shm"] {
        let _ = std::fs::remove_file(data.join(file));
    }
    for file in files.iter().filter(|file| from.join(file).exists()) {
        std::fs::copy(from.join(file), data.join(file)).unwrap();
    }
}

/// A node that has applied two commits, and what its data directory was after the first.
struct Node {
    fleet: Fleet,
    maps: Api<ConfigMap>,
    floors: Api<ConfigMap>,
    agent: Agent,
    commits: [String; 2],
}

impl Node {
    async fn new(name: &str) -> Self {
        let (fleet, client) = fleet(name).await;
        Self::on(fleet, client).await
    }

    async fn on(fleet: Fleet, client: Client) -> Self {
        let maps = maps(&fleet, &client);
        let floors = Api::namespaced(client.clone(), &fleet.home);
        fleet.write_map("a.yaml", "a", "1").unwrap();
        let first = fleet.commit("first").unwrap();
        fleet.follow("1s").unwrap();
        fleet.keep("apps", "").unwrap();
        let mut agent = fleet.start().unwrap();
        applied(&agent, &first).await;
        kept_in_cluster(&floors, &first).await;
        stop(&mut agent).await;
        copy_store(&fleet.data_dir(), &fleet.scratch.join("old")).await;
        agent.restart().unwrap();
        fleet.write_map("a.yaml", "a", "2").unwrap();
        let second = fleet.commit("second").unwrap();
        applied(&agent, &second).await;
        kept_in_cluster(&floors, &second).await;
        value_becomes(&mut agent, &maps, "a", Some("2")).await;
        Self { fleet, maps, floors, agent, commits: [first, second] }
    }

    fn put_back(&self, files: &[&str]) {
        put_back(&self.fleet.scratch.join("old"), &self.fleet.data_dir(), files);
    }
}

/// Waits until the copy in the cluster names a commit.
async fn kept_in_cluster(floors: &Api<ConfigMap>, commit: &str) {
    eventually(&format!("the cluster's copy of the floor names {commit}"), LONG, || async {
        let map = floors.get_opt(FLOORS).await?.context("it is not there")?;
        ensure!(map.data.iter().flatten().any(|(_, line)| line.contains(commit)), "{:?}", map.data);
        Ok(())
    })
    .await;
}

fn source(status: &Value) -> &Value {
    &status["sources"][0]
}

/// The node says that its store is behind, and leaves the cluster as it is.
async fn is_held(node: &mut Node, knows: &str) {
    let [first, second] = node.commits.clone();
    let status = status_becomes(&node.agent, "the old copy is not enforced", |status| {
        let ready = &source(status)["ready"];
        let says = ready["message"].as_str().unwrap_or_default();
        let held = kustomization(status, "apps")["ready"]["status"] == "False";
        held && ready["status"] == "False" && [&first, &second, knows].iter().all(|word| says.contains(*word))
    })
    .await;
    assert!(status["sources"][0]["snapshot"].is_object(), "{status:#}");
    // Neither back nor forward: what somebody changes by hand is not this node's to judge until it knows more.
    change_by_hand(&node.maps, "a", "by hand").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(value_of(&node.maps, "a").await.unwrap().as_deref(), Some("by hand"));
    node.agent.check().unwrap();
}

#[tokio::test]
async fn an_old_copy_of_the_store_moves_nothing_back() {
    // By the file beside the store, with the cluster's copy gone; and by the cluster's copy, with the file old too.
    let mut node = Node::new("old-store").await;
    for (restored, knows) in [
        (&["wickie.db", "wickie.db-wal"][..], "the file beside the store"),
        (&["wickie.db", "wickie.db-wal", "floors"][..], "the ConfigMap in the cluster"),
    ] {
        stop(&mut node.agent).await;
        node.fleet.git.down();
        if knows.contains("file") {
            node.floors.delete(FLOORS, &DeleteParams::default()).await.unwrap();
        }
        node.put_back(restored);
        node.agent.restart().unwrap();
        is_held(&mut node, knows).await;
        // Git is back, with what was accepted last.
        node.fleet.git.up();
        applied(&node.agent, &node.commits[1]).await;
        value_becomes(&mut node.agent, &node.maps, "a", Some("2")).await;
        kept_in_cluster(&node.floors, &node.commits[1]).await;
    }
    // A server that plays along with the old copy is refused, too.
    stop(&mut node.agent).await;
    node.put_back(&["wickie.db", "wickie.db-wal"]);
    node.fleet.repo.set_ref("refs/heads/main", &node.commits[0]).unwrap();
    node.agent.restart().unwrap();
    status_becomes(&node.agent, "the step back is refused", |status| {
        source(status)["ready"]["message"].as_str().is_some_and(|says| says.contains("history went back"))
    })
    .await;
    assert_eq!(value_of(&node.maps, "a").await.unwrap().as_deref(), Some("2"));
    stop(&mut node.agent).await;
}

#[tokio::test]
async fn a_copy_in_the_cluster_that_is_deleted_or_changed_weakens_nothing_and_is_written_again() {
    let mut node = Node::new("config-map").await;
    let key = node.floors.get(FLOORS).await.unwrap().data.unwrap().into_keys().next().unwrap();
    let change = |value: &str| json!({"data": {&key: value}});
    for (value, damage) in [None, Some("garbage".to_owned()), Some(String::new())].into_iter().enumerate() {
        match &damage {
            None => drop(node.floors.delete(FLOORS, &DeleteParams::default()).await.unwrap()),
            Some(text) => {
                let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
                node.floors.patch(FLOORS, &params, &Patch::Merge(change(text))).await.unwrap();
            }
        }
        node.fleet.write_map("a.yaml", "a", &format!("on {value}")).unwrap();
        let commit = node.fleet.commit("on").unwrap();
        applied(&node.agent, &commit).await;
        kept_in_cluster(&node.floors, &commit).await;
    }
    let log = node.agent.log();
    for words in ["it was deleted; it is written again", "it is no floor"] {
        assert!(log.contains(words), "{words:?} is missing in:\n{log}");
    }
    stop(&mut node.agent).await;
}

#[tokio::test]
async fn every_file_of_the_data_directory_is_damaged_in_turn_and_it_converges_again() {
    // Alone: an agent without its store looks for what carries its Kustomization's labels in the whole cluster, and the
    // Kustomizations of the other cases bear the same name.
    let (_control_plane, fleet, client) = fleet_alone("damage").await;
    let mut node = Node::on(fleet, client).await;
    let data = node.fleet.data_dir();
    let mut damaged = Vec::new();
    for round in 0.. {
        stop(&mut node.agent).await;
        let mut files: Vec<_> = std::fs::read_dir(&data)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && !path.to_string_lossy().contains(".damaged-"))
            .collect();
        files.sort();
        let Some(path) = files.get(round / 2) else { break };
        let length = std::fs::metadata(path).unwrap().len().max(64);
        // Once with noise all over, once emptied.
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(length as usize).collect();
        std::fs::write(path, if round % 2 == 0 { &noise[..] } else { b"" }).unwrap();
        damaged.push(path.file_name().unwrap().to_owned());
        node.agent.restart().unwrap();
        let value = format!("round {round}");
        node.fleet.write_map("a.yaml", "a", &value).unwrap();
        let commit = node.fleet.commit("on").unwrap();
        applied(&node.agent, &commit).await;
        value_becomes(&mut node.agent, &node.maps, "a", Some(&value)).await;
        // History is not forgotten with a file: the older commit is refused all the same.
        node.fleet.repo.set_ref("refs/heads/main", &node.commits[1]).unwrap();
        status_becomes(&node.agent, &format!("{path:?} was damaged, and a step back is refused"), |status| {
            source(status)["ready"]["message"].as_str().is_some_and(|says| says.contains("history went back"))
        })
        .await;
        node.fleet.repo.set_ref("refs/heads/main", &commit).unwrap();
    }
    eprintln!("damaged in turn: {damaged:?}");
    for file in ["wickie.db", "floors", "lock"] {
        assert!(damaged.iter().any(|name| name == file), "{file} was not among {damaged:?}");
    }
    stop(&mut node.agent).await;
}

#[tokio::test]
async fn reconcile_with_source_fails_where_the_source_refuses() {
    let mut node = Node::new("with-source").await;
    let order = |agent: &Agent| agent.cli(&["reconcile", "apps", "--with-source"]).unwrap();
    let done = order(&node.agent);
    assert_eq!(done.code, 0, "{done:?}");
    node.fleet.repo.set_ref("refs/heads/main", &node.commits[0]).unwrap();
    let refused = order(&node.agent);
    assert_eq!(refused.code, 1, "{refused:?}");
    for word in ["GitRepository/flux-system/fleet", "history went back", &node.commits[1]] {
        assert!(refused.stdout.replace("\n  ", " ").contains(word), "{word:?} is missing in {refused:?}");
    }
    // The snapshot itself can still be enforced at once.
    let kept = node.agent.cli(&["reconcile", "apps"]).unwrap();
    assert_eq!(kept.code, 0, "{kept:?}");
    stop(&mut node.agent).await;
}

/// SIGKILL before and after each request of an acceptance: what the next start finds is the old snapshot or the new one,
/// and every copy of the floor is at one of the two.
#[tokio::test]
async fn killed_while_it_accepts_it_has_the_old_or_the_new() {
    let mut node = Node::new("killed").await;
    let mut last = node.commits[1].clone();
    for nth in 1..=3 {
        for when in [When::Before, When::After] {
            let pid = node.agent.pid();
            node.fleet.git.at_request(nth, when, git_server::is_fetch, move || wickie_testbench::agent::kill9(pid));
            let value = format!("{nth} {when:?}");
            node.fleet.write_map("a.yaml", "a", &value).unwrap();
            node.fleet.write_map(&format!("{nth}.yaml"), &format!("more-{nth}"), &value).unwrap();
            let next = node.fleet.commit(&value).unwrap();
            // An acceptance may need fewer requests than that; it is then killed a moment after it.
            let agent = std::cell::RefCell::new(&mut node.agent);
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async {
                while agent.borrow_mut().exit_code().is_none() {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
            node.agent.kill9();
            node.fleet.git.heal();
            let kept = std::fs::read_to_string(node.fleet.data_dir().join("floors")).unwrap();
            assert!(kept.contains(&last) || kept.contains(&next), "{kept}");
            node.agent.restart().unwrap();
            applied(&node.agent, &next).await;
            value_becomes(&mut node.agent, &node.maps, "a", Some(&value)).await;
            kept_in_cluster(&node.floors, &next).await;
            last = next;
        }
    }
    stop(&mut node.agent).await;
}

/// A node of a fleet: an agent of its own, in a namespace of its own, at the repository of the first.
async fn another(fleet: &Fleet, name: &str) -> (Fleet, Api<ConfigMap>) {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace(name).await.unwrap();
    let client = control_plane.client().await;
    let mut node = Fleet::new(name, env!("CARGO_BIN_EXE_wickie"), control_plane.kubeconfig(), namespace).unwrap();
    node.key = fleet.key.clone();
    let maps = maps(&node, &client);
    (node, maps)
}

/// The drill of `agent/source/README.md`: the branch was pushed by a thief, who has a key; the fleet is brought back with
/// one permit, signed by the key that is left. Three nodes: one that has taken the thief's second commit, one that went
/// off the net after the first, and one that comes back late.
#[tokio::test]
async fn a_fleet_whose_key_was_stolen_comes_back_by_one_permit() {
    let (stolen, spare) = (SshKey::named("stolen"), SshKey::named("spare"));
    let (main, _) = fleet("drill").await;
    let keys = |names: &[&SshKey]| {
        let lines: String =
            names.iter().enumerate().map(|(index, key)| format!("  k{index}.pub: {}\n", key.public())).collect();
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: fleet}}
spec:
  url: {}
  interval: 1s
  ref: {{branch: main}}
  verify: {{mode: HEAD, secretRef: {{name: signers}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: signers}}
stringData:
{lines}",
            main.git.url("fleet")
        )
    };
    let mut nodes = Vec::new();
    for number in 0..3 {
        let (node, maps) = another(&main, &format!("drill-{number}")).await;
        node.configure("fleet.yaml", &keys(&[&stolen, &spare])).unwrap();
        // Each has a file of its own in the repository, as each cluster has its folder.
        node.keep("apps", &format!("  path: ./{number}\n")).unwrap();
        nodes.push((node, maps));
    }
    let write = |value: &str| {
        for (number, (node, _)) in nodes.iter().enumerate() {
            let text = wickie_testbench::fleet::config_map(&node.namespace, "a", value);
            main.repo.write(&format!("{number}/a.yaml"), &text).unwrap();
        }
    };
    let commit = |value: &str, key: &SshKey| {
        write(value);
        main.repo.commit(value, &key.signer()).unwrap()
    };
    let good = commit("good", &stolen);
    let mut agents: Vec<Agent> = nodes.iter().map(|(node, _)| node.start().unwrap()).collect();
    for agent in &agents {
        applied(agent, &good).await;
    }
    let theft = commit("theft", &stolen);
    for agent in &agents {
        applied(agent, &theft).await;
    }
    stop(&mut agents[1]).await;
    let more = commit("more", &stolen);
    applied(&agents[0], &more).await;
    applied(&agents[2], &more).await;
    stop(&mut agents[2]).await;

    // The branch is put back to before the theft, and goes on from there, signed by the spare key. The stolen key goes.
    main.repo.set_ref("refs/heads/main", &good).unwrap();
    let mended = commit("mended", &spare);
    let key = main.scratch.join("spare.key");
    std::fs::write(&key, spare.private()).unwrap();
    for (node, _) in &nodes {
        node.configure("fleet.yaml", &keys(&[&spare])).unwrap();
    }
    status_becomes(&agents[0], "the rewritten branch is refused", |status| {
        source(status)["ready"]["status"] == "False"
    })
    .await;

    let options = AgentOptions { binary: env!("CARGO_BIN_EXE_wickie").into(), ..main.options() };
    let made = wickie_testbench::agent::cli(
        &options,
        &[
            "permit",
            "create",
            "--source",
            "flux-system/fleet",
            "--from",
            &theft,
            "--from",
            &more,
            "--to",
            &mended,
            "--expires",
            "7d",
            "--key",
            key.to_str().unwrap(),
        ],
    )
    .unwrap();
    assert_eq!(made.code, 0, "{made:?}");
    let permit = main.scratch.join("permit");
    std::fs::write(&permit, &made.stdout).unwrap();
    let public = main.scratch.join("spare.pub");
    std::fs::write(&public, spare.public()).unwrap();
    let worth = wickie_testbench::agent::cli(
        &options,
        &["verify", "--permit", permit.to_str().unwrap(), "--signers", public.to_str().unwrap()],
    )
    .unwrap();
    assert_eq!(worth.code, 0, "{worth:?}");

    let blob = main.repo.object("blob", made.stdout.as_bytes()).unwrap();
    main.repo.set_ref("refs/wickie/permits/1", &blob).unwrap();
    applied(&agents[0], &mended).await;
    agents[1].restart().unwrap();
    applied(&agents[1], &mended).await;
    // The branch has grown when the last one hears of it, and the permit comes on a stick.
    let later = commit("later", &spare);
    main.repo.git(&["update-ref", "-d", "refs/wickie/permits/1"]).unwrap();
    let folder = nodes[2].0.data_dir().join("permits");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&permit, folder.join("permit")).unwrap();
    agents[2].restart().unwrap();
    for (agent, (_, maps)) in agents.iter_mut().zip(&nodes) {
        applied(agent, &later).await;
        value_becomes(agent, maps, "a", Some("later")).await;
    }
    // What the thief signed is believed by nobody any more, not even as a step forward.
    main.repo.set_ref("refs/heads/main", &more).unwrap();
    for agent in &agents {
        status_becomes(agent, "the theft is refused", |status| source(status)["ready"]["status"] == "False").await;
    }
    for agent in &mut agents {
        stop(agent).await;
    }
}

/// A changed spec begins a new floor, the first contact is told, and a commit that grows old is.
#[tokio::test]
async fn how_a_floor_began_and_how_old_it_is_are_told() {
    let (fleet, client) = fleet("told").await;
    let maps = maps(&fleet, &client);
    let receiver = Receiver::start().unwrap();
    report_to(&fleet, &receiver);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    let old = jiff::Timestamp::now().as_second() - 25 * 24 * 3600;
    let mut draft = fleet.repo.draft("refs/heads/main", "weeks ago").unwrap();
    draft.when = old;
    let first = fleet.repo.object("commit", &draft.signed(&fleet.signer()).unwrap()).unwrap();
    fleet.repo.set_ref("refs/heads/main", &first).unwrap();
    fleet.repo.set_ref("refs/heads/other", &first).unwrap();
    let declare = |branch: &str, age: &str| {
        let text = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: fleet, annotations: {{wickie.dev/max-age: {age}}}}}
spec:
  url: {}
  interval: 1s
  ref: {{branch: {branch}}}
  verify: {{mode: HEAD, secretRef: {{name: signers}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: signers}}
stringData: {{ada.pub: {}}}
",
            fleet.git.url("fleet"),
            fleet.key.public()
        );
        fleet.configure("fleet.yaml", &text).unwrap();
    };
    declare("main", "30d");
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    let told = async |reason: &str, words: &[&str]| {
        eventually(&format!("{reason} is told"), LONG, || async {
            let heard = heard(&receiver).0;
            let found: Vec<_> = heard.iter().filter(|heard| heard.reason == reason).collect();
            ensure!(found.len() == 1, "{heard:#?}");
            ensure!(words.iter().all(|word| found[0].message.contains(word)), "{found:#?}");
            Ok(())
        })
        .await;
    };
    told("FirstContact", &[&first]).await;
    told("Aging", &["max-age is 30d"]).await;
    status_becomes(&agent, "it warns", |status| {
        source(status)["warnings"][0].as_str().is_some_and(|says| says.contains("30d"))
    })
    .await;
    // Tighter: too old, said once more; and it stays enforced.
    declare("main", "7d");
    told("TooOld", &["stays enforced"]).await;
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    // Somebody offers what is a day newer, and far too old.
    let mut draft = fleet.repo.draft("refs/heads/main", "kept back").unwrap();
    draft.when = old + 24 * 3600;
    let second = fleet.repo.object("commit", &draft.signed(&fleet.signer()).unwrap()).unwrap();
    fleet.repo.set_ref("refs/heads/main", &second).unwrap();
    status_becomes(&agent, "it is not adopted", |status| {
        let says = source(status)["ready"]["message"].as_str().unwrap_or_default();
        says.contains(&second) && says.contains("max-age is 7d")
    })
    .await;
    declare("other", "30d");
    told("NewTrack", &["another URL or reference", &first]).await;
    stop(&mut agent).await;
}

#[tokio::test]
async fn verify_says_who_signed_what_and_whether_it_is_believed() {
    let mut node = Node::new("verify").await;
    let [first, second] = node.commits.clone();
    let config = node.fleet.config();
    let config = config.to_str().unwrap();
    let key = |key: &SshKey| {
        let path = node.fleet.scratch.join(format!("{}.pub", key.fingerprint().replace(['/', ':'], "_")));
        std::fs::write(&path, key.public()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ada, eve) = (key(&node.fleet.key), key(&SshKey::named("eve")));
    let (url, folder) = (node.fleet.git.url("fleet"), node.fleet.repo.bare().to_str().unwrap().to_owned());
    let ada_print = node.fleet.key.fingerprint();
    let options = node.agent.options().clone();
    let is = |args: &[&str], code: i32, words: &[&str]| {
        let answered = wickie_testbench::agent::cli(&options, &[&["verify"], args].concat()).unwrap();
        let said = format!("{} {}", answered.stdout, answered.stderr).replace("\n  ", " ");
        assert_eq!(answered.code, code, "{args:?}: {answered:?}");
        for word in words {
            assert!(said.contains(word), "{args:?}: {word:?} is missing in {answered:?}");
        }
    };
    // What the store holds; what the server offers, held against the floor of the store; anything else, against nothing.
    is(&["fleet", "--config", config], 0, &[&second, &ada_print, "is believed", "the store"]);
    is(&["fleet", "--config", config, "--revision", "main"], 0, &[&second, "is believed", "the store"]);
    is(&["fleet", "--config", config, "--revision", &first], 3, &[&first, "not believed", "history went back"]);
    is(&[&url, "--signers", &ada], 0, &[&second, &ada_print, "nothing was accepted before"]);
    is(&[&url, "--signers", &ada, "--revision", &first], 0, &[&first]);
    is(&[&url, "--signers", &eve], 3, &["not believed", "not among the allowed signers"]);
    is(&[&folder, "--signers", &ada], 0, &[&second, &ada_print]);
    // A source without signers is taken unsigned by the agent; what it is worth is said all the same.
    is(&[&url], 0, &[&second, "nobody was named"]);
    is(&[&url, "--signers", &ada, "--revision", "nowhere"], 1, &["nowhere"]);
    is(&["nobody", "--config", config], 1, &["GitRepository/flux-system/nobody", "--config"]);
    is(&[], 2, &[]);
    let json = node.agent.cli(&["verify", &url, "--signers", &eve, "-o", "json"]).unwrap();
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["believed"], &json["objects"][0]["id"]), (&json!(false), &json!(second)), "{json:#}");
    // Nothing of it reached the agent, nor its store.
    node.fleet.git.down();
    is(&[&url, "--signers", &ada], 1, &["127.0.0.1"]);
    is(&["fleet", "--config", config], 0, &[&second]);
    node.agent.check().unwrap();
    stop(&mut node.agent).await;
    is(&["fleet", "--config", config], 0, &[&second]);
}
