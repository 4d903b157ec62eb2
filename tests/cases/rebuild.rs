//! What builds again: a change of anything that a build reads, and of nothing else.

use serde_json::{Value, json};
use wickie_testbench::{Agent, Fleet, eventually, fleet::config_map};

use crate::decryption::vector;
use crate::node::*;

/// How often the Kustomization was built since the agent's start.
fn builds(agent: &Agent) -> usize {
    agent
        .log()
        .lines()
        .filter(|line| line.contains(" built ") && line.contains("kustomization=flux-system/apps"))
        .count()
}

/// Declares the Kustomization: what is substituted, and where more values come from.
fn keep(fleet: &Fleet, one: &str, more: &str) {
    let spec = format!(
        "  path: ./apps\n{more}  decryption: {{provider: sops, secretRef: {{name: keys}}}}\n  postBuild:\n    substitute: {{one: {one}}}\n    substituteFrom:\n    - {{kind: ConfigMap, name: values}}\n    - {{kind: Secret, name: hidden}}\n"
    );
    fleet.keep("apps", &spec).unwrap();
}

fn values(fleet: &Fleet, two: &str, three: &str) {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: values}}\ndata: {{two: {two}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: hidden}}\nstringData: {{three: {three}}}\n"
    );
    fleet.configure("values.yaml", &text).unwrap();
}

/// The private keys of these names, in a Secret.
fn keys(fleet: &Fleet, names: &[&str]) {
    let entries = names.iter().map(|name| (format!("{name}.agekey"), Value::from(vector(&format!("{name}.agekey")))));
    let data: serde_json::Map<String, Value> = entries.collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data});
    fleet.configure("keys.yaml", &secret.to_string()).unwrap();
}

#[tokio::test]
async fn a_change_of_anything_that_a_build_reads_builds_and_nothing_else_does() {
    let (fleet, client) = fleet("rebuild").await;
    let write = |path: &str, text: &str| fleet.repo.write(path, text).unwrap();
    write("apps/kustomization.yaml", "resources: [own.yaml, ../base]\n");
    fleet.write_map("apps/own.yaml", "own", "${one} ${two} ${three}").unwrap();
    write("base/kustomization.yaml", "resources: [base.yaml]\n");
    fleet.write_map("base/base.yaml", "base", "a").unwrap();
    write("elsewhere/note.yaml", "a: b\n");
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    values(&fleet, "b", "c");
    keys(&fleet, &["x25519"]);
    keep(&fleet, "a", "");
    let mut options = fleet.options();
    options.env.push(("WICKIE_LOG".to_owned(), "warn,wickie=debug".to_owned()));
    let mut agent = Agent::spawn(options).unwrap();
    let maps = maps(&fleet, &client);
    applied(&agent, &first).await;
    value_becomes(&mut agent, &maps, "own", Some("a b c")).await;
    assert_eq!(builds(&agent), 1, "{}", agent.log());

    // What no build reads: a folder that nothing names, a commit without a change, a wish to run, values written anew.
    write("elsewhere/note.yaml", "a: c\n");
    let elsewhere = fleet.commit("elsewhere").unwrap();
    applied(&agent, &elsewhere).await;
    let empty = fleet.commit("nothing").unwrap();
    applied(&agent, &empty).await;
    assert_eq!(agent.cli(&["reconcile", "apps", "--with-source"]).unwrap().code, 0);
    values(&fleet, "b", "c");
    assert_eq!(agent.cli(&["reconcile", "apps"]).unwrap().code, 0);
    assert_eq!(builds(&agent), 1, "{}", agent.log());

    // Each of what it reads.
    let expected = std::cell::Cell::new(1);
    let built = |agent: &Agent, what: &str| {
        expected.set(expected.get() + 1);
        assert_eq!(builds(agent), expected.get(), "{what}\n{}", agent.log());
    };
    fleet.write_map("base/base.yaml", "base", "b").unwrap();
    let commit = fleet.commit("a base").unwrap();
    applied(&agent, &commit).await;
    value_becomes(&mut agent, &maps, "base", Some("b")).await;
    built(&agent, "a file of a base");

    write("apps/kustomization.yaml", "resources: [own.yaml, ../base, ../new.yaml]\n");
    write("new.yaml", &config_map(&fleet.namespace, "new", "n"));
    let commit = fleet.commit("the kustomization").unwrap();
    applied(&agent, &commit).await;
    value_becomes(&mut agent, &maps, "new", Some("n")).await;
    built(&agent, "the kustomization itself");

    write("new.yaml", &config_map(&fleet.namespace, "new", "m"));
    let commit = fleet.commit("a file above").unwrap();
    applied(&agent, &commit).await;
    value_becomes(&mut agent, &maps, "new", Some("m")).await;
    built(&agent, "a file outside the path");

    keep(&fleet, "A", "");
    value_becomes(&mut agent, &maps, "own", Some("A b c")).await;
    built(&agent, "a value in the spec");
    values(&fleet, "B", "c");
    value_becomes(&mut agent, &maps, "own", Some("A B c")).await;
    built(&agent, "a value from a ConfigMap");
    values(&fleet, "B", "C");
    value_becomes(&mut agent, &maps, "own", Some("A B C")).await;
    built(&agent, "a value from a Secret");
    keys(&fleet, &["x25519", "hybrid"]);
    eventually("it is built with another key", LONG, || async {
        anyhow::ensure!(builds(&agent) > expected.get(), "{}", agent.log());
        anyhow::Ok(())
    })
    .await;
    built(&agent, "a key to decrypt with");
    keep(&fleet, "A", "  namePrefix: p-\n");
    value_becomes(&mut agent, &maps, "p-own", Some("A B C")).await;
    built(&agent, "another field of the spec");

    // What is not committed yet is compared with the cluster, and builds upon the rest of the working tree.
    let folder = fleet.repo.work().join("apps");
    std::fs::create_dir(fleet.repo.work().join(".git")).unwrap();
    let diff = || agent.cli(&["diff", "apps", "--exit-code", "--path", folder.to_str().unwrap()]);
    eventually("the working tree is what the cluster has", LONG, || async {
        let answered = diff()?;
        anyhow::ensure!(answered.code == 0, "{answered:?}");
        anyhow::Ok(())
    })
    .await;
    write("new.yaml", &config_map(&fleet.namespace, "new", "a draft"));
    let answered = diff().unwrap();
    assert_eq!(answered.code, 3, "{answered:?}");
    assert!(answered.stdout.contains("+  value: a draft") && answered.stdout.contains("p-new"), "{answered:?}");
    assert_eq!(answered.stdout.matches("\n+++").count() + answered.stdout.matches("\n@@").count(), 2, "{answered:?}");

    // So is a revision that was applied before, by what it is called in the history.
    let at = |revision: &str, more: &[&str]| {
        let all = [&["diff", "apps", "--exit-code", "--revision", revision], more].concat();
        agent.cli(&all).unwrap()
    };
    let (now, before) = (fleet.repo.id("main").unwrap(), fleet.repo.id("main~1").unwrap());
    assert_eq!(at(&now[..10], &[]).code, 0);
    let older = at(&before[..10], &["-o", "json"]);
    let answer: serde_json::Value = serde_json::from_str(&older.stdout).unwrap_or_else(|_| panic!("{older:?}"));
    assert_eq!((older.code, &answer["differs"], &answer["revision"]), (3, &true.into(), &before[..10].into()));
    assert!(answer["diff"].as_str().unwrap().contains("\n+++ git/ConfigMap/"), "{answer:#}");
    let unknown = at("0123456789", &[]);
    assert!(unknown.code == 1 && unknown.stderr.contains("no stored snapshot is"), "{unknown:?}");
    assert_eq!(at(&now, &["--path", "."]).code, 2, "one of the two is compared");

    // Nothing that was built is kept on the disk: another version of the agent builds for itself.
    agent.kill9();
    let before = builds(&agent);
    agent.restart().unwrap();
    eventually("it is built by the new process", LONG, || async {
        anyhow::ensure!(builds(&agent) > before, "{}", agent.log());
        anyhow::Ok(())
    })
    .await;
}
