//! Only what is used is fetched, and what a build reaches beyond that comes with it.

use std::fmt::Write as _;

use wickie_testbench::{Fleet, GitServer, GitServerOptions, Repo, Scratch, Signer};

use crate::node::*;

/// Two hundred clusters' folders of ten files each, over a base that they share, which stands upon another one.
fn fill(fleet: &Fleet) {
    let mut random = fastrand::Rng::with_seed(7);
    for cluster in 0..200 {
        let mut resources = String::from("resources:\n- ../../base\n");
        for number in 0..10 {
            let path = format!("m{number}.yaml");
            let own: String = std::iter::repeat_with(|| random.alphanumeric()).take(1_500).collect();
            let map = wickie_testbench::fleet::config_map(&fleet.namespace, &format!("c{cluster}-m{number}"), &own);
            fleet.repo.write(&format!("clusters/c{cluster}/{path}"), &map).unwrap();
            let _ = writeln!(resources, "- {path}");
        }
        let text = format!(
            "{resources}patches:\n- path: ../../patches/common.yaml\n  target: {{kind: ConfigMap, name: base}}\n"
        );
        fleet.repo.write(&format!("clusters/c{cluster}/kustomization.yaml"), &text).unwrap();
    }
    fleet.repo.write("base/kustomization.yaml", "resources: [base.yaml, ../deeper]\n").unwrap();
    fleet.write_map("base/base.yaml", "base", "one").unwrap();
    fleet.repo.write("deeper/kustomization.yaml", "resources: [deeper.yaml]\n").unwrap();
    fleet.write_map("deeper/deeper.yaml", "deeper", "one").unwrap();
    let patch = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: base}\ndata: {patched: \"yes\"}\n";
    fleet.repo.write("patches/common.yaml", patch).unwrap();
}

/// What a full shallow clone sends.
fn clone_costs(fleet: &Fleet) -> u64 {
    fleet.repo.git(&["repack", "-adq"]).unwrap();
    fleet.git.forget();
    let to = fleet.scratch.join("clone");
    let url = fleet.git.url("fleet");
    fleet.repo.git(&["clone", "--quiet", "--depth", "1", "--bare", &url, to.to_str().unwrap()]).unwrap();
    let cost = fleet.git.bytes_sent();
    fleet.git.forget();
    cost
}

#[tokio::test]
async fn a_cluster_fetches_its_own_folder_and_what_that_builds_upon() {
    let (fleet, client) = fleet("reach").await;
    fill(&fleet);
    let first = fleet.commit("clusters").unwrap();
    let whole = clone_costs(&fleet);
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  path: ./clusters/c7\n").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    let maps = maps(&fleet, &client);
    value_becomes(&mut agent, &maps, "deeper", Some("one")).await;
    let fetched = fleet.git.bytes_sent();
    println!("a full shallow clone: {whole} bytes; one cluster of it: {fetched}");
    assert!(fetched * 100 <= whole * 3, "{fetched} of {whole}");
    assert_eq!(maps.get("base").await.unwrap().data.unwrap()["patched"], "yes");

    // A new commit that builds upon something new is accepted with it.
    fleet.repo.write("deeper/kustomization.yaml", "resources: [deeper.yaml, ../new/a.yaml]\n").unwrap();
    fleet.write_map("new/a.yaml", "new", "one").unwrap();
    let second = fleet.commit("more").unwrap();
    applied(&agent, &second).await;

    // With Git gone, a restart knows all of it; a folder that was not fetched is named, and changes nothing.
    fleet.git.down();
    agent.kill9();
    change_by_hand(&maps, "new", "by hand").await;
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "new", Some("one")).await;
    fleet.keep("more", "  path: ./clusters/c9\n").unwrap();
    let status = status_becomes(&agent, "the folder is missed", |status| {
        kustomization(status, "more")["ready"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("clusters/c9"))
    })
    .await;
    assert_eq!(kustomization(&status, "apps")["ready"]["status"], "True");
    change_by_hand(&maps, "new", "by hand again").await;
    value_becomes(&mut agent, &maps, "new", Some("one")).await;

    // It is fetched as soon as that can be, for the commit that is enforced.
    fleet.git.up();
    value_becomes(&mut agent, &maps, "c9-m3", Some(&own(&fleet, "clusters/c9/m3.yaml"))).await;
}

fn own(fleet: &Fleet, path: &str) -> String {
    let text = std::fs::read_to_string(fleet.repo.work().join(path)).unwrap();
    text.split("value: \"").nth(1).unwrap().trim_end().trim_end_matches('"').to_owned()
}

#[tokio::test]
async fn a_server_without_filters_will_do() {
    let (mut fleet, client) = fleet("reach-whole").await;
    fleet.git =
        GitServer::start_with(fleet.scratch.path(), GitServerOptions { filter: false, ..GitServerOptions::default() })
            .unwrap();
    fill(&fleet);
    let first = fleet.commit("clusters").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  path: ./clusters/c7\n").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    value_becomes(&mut agent, &maps(&fleet, &client), "deeper", Some("one")).await;
}

/// Declares another repository of the same server as a GitRepository without signers.
fn declare(fleet: &Fleet, name: &str, more: &str) {
    let url = fleet.git.url(name);
    let text = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}}}\nspec:\n  url: {url}\n  interval: 1s\n  ref: {{branch: main}}\n{more}"
    );
    fleet.configure(&format!("{name}.yaml"), &text).unwrap();
}

fn repository(scratch: &Scratch, name: &str, map: &str) -> Repo {
    let repo = Repo::create(scratch.path(), name).unwrap();
    repo.write("deploy/lib.yaml", map).unwrap();
    repo
}

#[tokio::test]
async fn an_included_source_is_built_with_and_a_change_of_it_is_applied() {
    let (fleet, client) = fleet("reach-include").await;
    let map = |value: &str| wickie_testbench::fleet::config_map(&fleet.namespace, "lib", value);
    let lib = repository(&fleet.scratch, "lib", &map("one"));
    lib.commit("lib", &fleet.signer()).unwrap();
    fleet.repo.write("apps/kustomization.yaml", "resources: [../vendor/lib/lib.yaml, own]\n").unwrap();
    std::os::unix::fs::symlink("../real", fleet.repo.work().join("apps/own")).unwrap();
    fleet.repo.write("real/kustomization.yaml", "resources: [own.yaml]\n").unwrap();
    fleet.write_map("real/own.yaml", "own", "one").unwrap();
    fleet.commit("apps").unwrap();
    declare(&fleet, "lib", "");
    declare(
        &fleet,
        "fleet",
        "  ignore: '*.md'\n  include: [{repository: {name: lib}, fromPath: deploy, toPath: vendor/lib}]\n",
    );
    fleet.keep("apps", "  path: apps\n").unwrap();
    let mut agent = fleet.start().unwrap();
    let maps = maps(&fleet, &client);
    value_becomes(&mut agent, &maps, "lib", Some("one")).await;
    value_becomes(&mut agent, &maps, "own", Some("one")).await;

    lib.write("deploy/lib.yaml", &map("two")).unwrap();
    lib.commit("lib", &fleet.signer()).unwrap();
    value_becomes(&mut agent, &maps, "lib", Some("two")).await;

    fleet.git.down();
    agent.kill9();
    change_by_hand(&maps, "lib", "by hand").await;
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "lib", Some("two")).await;
    fleet.git.up();

    // Each includes the other: both are refused, and nothing is undone.
    declare(&fleet, "lib", "  include: [{repository: {name: fleet}}]\n");
    status_becomes(&agent, "the circle is refused", |status| {
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        let refused = |source: &serde_json::Value| source.to_string().contains("it includes itself");
        sources.len() == 2 && sources.iter().all(refused)
    })
    .await;
    assert_eq!(value_of(&maps, "lib").await.unwrap().as_deref(), Some("two"));
    declare(&fleet, "lib", "");
    lib.write("deploy/lib.yaml", &map("three")).unwrap();
    lib.commit("lib", &fleet.signer()).unwrap();
    value_becomes(&mut agent, &maps, "lib", Some("three")).await;
}

#[tokio::test]
async fn a_submodule_is_built_from_at_the_commit_that_was_signed() {
    let (fleet, client) = fleet("reach-submodule").await;
    let map = |value: &str| wickie_testbench::fleet::config_map(&fleet.namespace, "lib", value);
    let lib = repository(&fleet.scratch, "lib", &map("one"));
    lib.write("huge.txt", &"not used ".repeat(10_000)).unwrap();
    let signed = lib.commit("lib", &Signer::Nobody).unwrap();
    lib.write("deploy/lib.yaml", &map("newer than what was signed")).unwrap();
    lib.commit("newer", &Signer::Nobody).unwrap();
    let modules = "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib.git\n";
    fleet.repo.write(".gitmodules", modules).unwrap();
    fleet.repo.write("apps/kustomization.yaml", "resources: [../vendor/lib/deploy/lib.yaml]\n").unwrap();
    let link = |commit: &str| {
        std::fs::create_dir_all(fleet.repo.work().join("vendor/lib")).unwrap();
        let info = format!("160000,{commit},vendor/lib");
        fleet.repo.git(&["update-index", "--add", "--cacheinfo", &info]).unwrap();
    };
    link(&signed);
    fleet.commit("with a submodule").unwrap();
    fleet.follow("1s").unwrap();
    let declared = std::fs::read_to_string(fleet.config().join("fleet.yaml")).unwrap();
    let recursing = declared.replace("  ref: {branch: main}\n", "  ref: {branch: main}\n  recurseSubmodules: true\n");
    assert_ne!(declared, recursing);
    fleet.configure("fleet.yaml", &recursing).unwrap();
    fleet.keep("apps", "  path: apps\n").unwrap();
    let mut agent = fleet.start().unwrap();
    let maps = maps(&fleet, &client);
    value_becomes(&mut agent, &maps, "lib", Some("one")).await;
    assert!(fleet.git.bytes_sent() < 20_000, "{}", fleet.git.bytes_sent());

    // A commit of it that is nowhere to be had: what was good stays, also over a restart with Git gone.
    link(&"1".repeat(40));
    fleet.commit("with a hole").unwrap();
    status_becomes(&agent, "the submodule is named", |status| {
        let sources = status["sources"].to_string();
        sources.contains("submodule") && sources.contains("vendor/lib")
    })
    .await;
    fleet.git.down();
    agent.kill9();
    change_by_hand(&maps, "lib", "by hand").await;
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "lib", Some("one")).await;
}
