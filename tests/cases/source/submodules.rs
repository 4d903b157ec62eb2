//! Submodules: fetched in process, pinned by the superproject, and no way out of it.

use std::collections::BTreeSet;

use wickie::config::git::{Credentials, GitSource, GitUrl, VerifyMode};
use wickie::config::secret::Secret;
use wickie::source::SourceErrorClass;
use wickie_testbench::{Auth, GitServer, GitServerOptions, Repo, Scratch, Signer, SshKey};

use crate::world::{World, chain, named, signed_by};

/// A repository `name` on the same server, with one commit of these files.
fn repository(scratch: &Scratch, name: &str, files: &[(&str, &str)]) -> (Repo, String) {
    let repo = Repo::create(scratch.path(), name).unwrap();
    for (path, text) in files {
        repo.write(path, text).unwrap();
    }
    let commit = repo.commit("a change", &Signer::Nobody).unwrap();
    (repo, commit)
}

/// Puts a gitlink into the index of a repository.
fn link(repo: &Repo, path: &str, commit: &str) {
    std::fs::create_dir_all(repo.work().join(path)).unwrap();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]).unwrap();
}

fn module(name: &str, path: &str, url: &str) -> String {
    format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n")
}

fn recursing(world: &World) -> GitSource {
    let mut source = world.source();
    source.submodules = true;
    source
}

async fn paths(world: &World, source: &GitSource) -> BTreeSet<String> {
    let snapshot = world.git.load(source).await.unwrap().unwrap();
    snapshot.files("").await.unwrap().unwrap().into_iter().map(|file| file.path).collect()
}

/// `lib` with a submodule `deep` of its own, both behind the commits that are used, and `fleet` on top.
fn nested(world: &World) -> (Repo, String) {
    let (deep, at) = repository(&world.scratch, "deep", &[("d.yaml", "d: 1\n")]);
    deep.write("d.yaml", "d: 2\n").unwrap();
    deep.commit("newer", &Signer::Nobody).unwrap();
    let (lib, _) = repository(&world.scratch, "lib", &[("deploy/l.yaml", "l: 1\n")]);
    link(&lib, "sub/deep", &at);
    lib.write(".gitmodules", &module("deep", "sub/deep", "../deep.git")).unwrap();
    let used = lib.commit("with deep", &Signer::Nobody).unwrap();
    lib.write("deploy/newer.yaml", "n: 1\n").unwrap();
    lib.commit("newer", &Signer::Nobody).unwrap();
    link(&world.repo, "vendor/lib", &used);
    (lib, used)
}

#[tokio::test]
async fn submodules_are_where_the_signed_commit_says_also_with_git_gone() {
    for options in [
        GitServerOptions::default(),
        GitServerOptions { filter: false, ..Default::default() },
        GitServerOptions { old: true, ..Default::default() },
    ] {
        let world = World::with("submodules", options);
        nested(&world);
        world.commit(&[("a.yaml", "a: 1\n"), (".gitmodules", &module("lib", "vendor/lib", "../lib.git"))]);
        let without = world.accept(&world.source()).await;
        assert_eq!(without.files("vendor").await.unwrap().unwrap(), []);

        let source = recursing(&world);
        world.accept(&source).await;
        let all: BTreeSet<String> =
            ["a.yaml", "vendor/lib/deploy/l.yaml", "vendor/lib/sub/deep/d.yaml"].map(str::to_owned).into();
        assert_eq!(paths(&world, &source).await, all);
        world.git.collect().await.unwrap();
        world.server.down();
        let world = world.restarted();
        assert_eq!(paths(&world, &source).await, all);
        let snapshot = world.git.load(&source).await.unwrap().unwrap();
        let deep = snapshot.files("vendor/lib/sub/deep").await.unwrap().unwrap().remove(0);
        assert_eq!(snapshot.read(deep.oid).await.unwrap(), "d: 1\n");
    }
}

#[tokio::test]
async fn only_submodules_in_scope_are_fetched() {
    let world = World::new("submodules-scope");
    nested(&world);
    world.commit(&[("apps/a.yaml", "a: 1\n"), (".gitmodules", &module("lib", "vendor/lib", "../lib.git"))]);
    let mut source = recursing(&world);
    source.paths = Some(vec!["apps".to_owned()]);
    world.accept(&source).await;
    assert!(world.server.requests().iter().all(|request| !request.path.contains("lib.git")));
    source.paths = Some(vec!["apps".to_owned(), "vendor/lib/deploy".to_owned()]);
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.files("vendor/lib/deploy").await.unwrap().unwrap().len(), 1);
    assert!(world.server.requests().iter().all(|request| !request.path.contains("deep.git")));
}

#[tokio::test]
async fn a_declared_source_of_the_same_repository_says_who_must_have_signed() {
    let world = World::new("submodules-signed");
    let (lib, unsigned) = repository(&world.scratch, "lib", &[("l.yaml", "l: 1\n")]);
    link(&world.repo, "lib", &unsigned);
    world.commit(&[("a.yaml", "a: 1\n"), (".gitmodules", &module("lib", "lib", "../lib"))]);
    let mut source = recursing(&world);
    let mut declared = world.source();
    declared.name = named("lib");
    declared.url = GitUrl::parse(&world.server.url("lib")).unwrap();
    declared.verify = Some(signed_by(VerifyMode::Tag, &[SshKey::named("eve").public()]));
    source.others.push(declared);
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::RefusedSignature, "{}", chain(&error));
    assert!(chain(&error).contains("submodule \"lib\""), "{}", chain(&error));

    lib.write("l.yaml", "l: 2\n").unwrap();
    let signed = lib.commit("signed", &SshKey::named("eve").signer()).unwrap();
    link(&world.repo, "lib", &signed);
    world.commit(&[]);
    world.accept(&source).await;
    assert!(world.git.load(&source).await.unwrap().is_some());
}

#[tokio::test]
async fn credentials_are_shown_to_the_superproject_s_host_alone() {
    let secret = || Auth::Basic { user: "ada".to_owned(), password: "secret".to_owned() };
    let world = World::with("submodules-credentials", GitServerOptions { auth: secret(), ..Default::default() });
    let elsewhere = Scratch::new("submodules-elsewhere");
    let (_, there) = repository(&elsewhere, "other", &[("o.yaml", "o: 1\n")]);
    let foreign = GitServer::start(elsewhere.path()).unwrap();
    let (_, here) = repository(&world.scratch, "lib", &[("l.yaml", "l: 1\n")]);
    link(&world.repo, "lib", &here);
    link(&world.repo, "other", &there);
    let modules = module("lib", "lib", "../lib.git") + &module("other", "other", &foreign.url("other"));
    world.commit(&[("a.yaml", "a: 1\n"), (".gitmodules", &modules)]);
    let mut source = recursing(&world);
    let (username, password) = ("ada".to_owned(), Secret::new("secret".to_owned()));
    source.credentials = Some(Credentials::Basic { username, password });
    world.accept(&source).await;
    assert_eq!(paths(&world, &source).await.len(), 3);
    let asked = foreign.requests();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|request| !format!("{:?}", request.headers).to_lowercase().contains("authorization")));
}

#[tokio::test]
async fn what_gitmodules_must_not_say_is_refused_and_the_last_good_stays() {
    let world = World::new("submodules-evil");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let source = recursing(&world);
    world.accept(&source).await;
    let (_, commit) = repository(&world.scratch, "lib", &[("l.yaml", "l: 1\n")]);
    link(&world.repo, "lib", &commit);
    let fine = module("lib", "lib", "../lib.git");
    for (text, said) in [
        (module("../../hooks", "lib", "../lib.git"), "no name for a submodule"),
        (module("lib", "../lib", "../lib.git"), "no path within"),
        (module("lib", "/etc", "../lib.git"), "no path within"),
        (module("lib", "lib", "file:///etc"), "which is refused"),
        (module("lib", "lib", "ext::sh -c id"), "which is refused"),
        (module("lib", "lib", "--upload-pack=touch /tmp/x"), "no URL"),
        (module("lib", "lib", "../../../x.git"), "leads out of the host"),
        (format!("{fine}{fine}"), "there twice"),
        (format!("{fine}\tupdate = !touch /tmp/x\n"), "never run"),
        (module("lib", "lib", "../gone.git"), "submodule \"lib\""),
    ] {
        world.commit(&[(".gitmodules", &text)]);
        let error = chain(&world.refuse(&source).await);
        assert!(error.contains(said), "{said:?} is missing in: {error}");
        assert_eq!(paths(&world, &source).await.len(), 1);
    }
    // A commit that the submodule does not have.
    link(&world.repo, "lib", &"1".repeat(40));
    world.commit(&[(".gitmodules", &fine)]);
    let error = chain(&world.refuse(&source).await);
    assert!(error.contains("submodule \"lib\"") && error.contains(&"1".repeat(40)), "{error}");

    // A gitlink that nothing lists is left empty.
    link(&world.repo, "lib", &commit);
    world.repo.remove(".gitmodules").unwrap();
    world.commit(&[("b.yaml", "b: 1\n")]);
    world.accept(&source).await;
    assert_eq!(paths(&world, &source).await.len(), 2);
}

#[tokio::test]
async fn submodules_within_each_other_come_to_an_end() {
    let world = World::new("submodules-deep");
    let (loop_, mut at) = repository(&world.scratch, "loop", &[("l.yaml", "l: 1\n")]);
    for _ in 0..14 {
        link(&loop_, "again", &at);
        loop_.write(".gitmodules", &module("again", "again", "./../loop.git")).unwrap();
        at = loop_.commit("deeper", &Signer::Nobody).unwrap();
    }
    link(&world.repo, "loop", &at);
    world.commit(&[("a.yaml", "a: 1\n"), (".gitmodules", &module("loop", "loop", "../loop.git"))]);
    let source = recursing(&world);
    world.accept(&source).await;
    // As deep as go-git goes.
    assert_eq!(paths(&world, &source).await.len(), 1 + 10);
}
