//! What is offered, verified and complete is accepted, and outlives everything.

use wickie::config::git::{RefName, Reference};
use wickie::source::{FileMode, PollOutcome};
use wickie_testbench::Signer;

use crate::world::{World, branch, tag};

#[tokio::test]
async fn a_commit_is_accepted_once_and_read_with_git_gone() {
    let world = World::new("accept");
    let commit =
        world.commit(&[("deploy/app.yaml", "a: 1\n"), ("deploy/sub/b.yaml", "b: 2\n"), ("README.md", "hello\n")]);
    let source = world.source();
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.revision().to_string(), format!("main@sha1:{commit}"));
    assert!(snapshot.signer().unwrap().contains(&world.ada.fingerprint()), "{:?}", snapshot.signer());

    let again = world.poll(&source).await;
    assert!(matches!(again.outcome, Ok(PollOutcome::Unchanged(revision)) if revision == *snapshot.revision()));
    assert_eq!(again.traffic.requests, 1);

    world.server.down();
    let world = world.restarted();
    let loaded = world.git.load(&source).await.unwrap().unwrap();
    assert_eq!(loaded.signer(), snapshot.signer());
    let files = loaded.files("./deploy/").await.unwrap().unwrap();
    let paths: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.mode, file.size)).collect();
    assert_eq!(paths, [("deploy/app.yaml", FileMode::Regular, 5), ("deploy/sub/b.yaml", FileMode::Regular, 5)]);
    assert_eq!(loaded.read(files[0].oid).await.unwrap(), "a: 1\n");
    for missing in ["nowhere", "deploy/app.yaml", "deploy/../deploy"] {
        assert!(loaded.files(missing).await.unwrap().is_none(), "{missing}");
    }
    assert_eq!(loaded.files("").await.unwrap().unwrap().len(), 3);
    let error = world.poll(&source).await.outcome.unwrap_err();
    assert_eq!(error.reason(), "GitOperationFailed");
}

#[tokio::test]
async fn a_changed_spec_does_not_load_what_another_one_accepted() {
    let world = World::new("accept-spec");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let mut source = world.source();
    world.accept(&source).await;
    source.reference = branch("other");
    assert!(world.git.load(&source).await.unwrap().is_none());
}

#[tokio::test]
async fn every_kind_of_reference() {
    let world = World::new("accept-refs");
    let first = world.commit(&[("a.yaml", "a: 1\n")]);
    world.repo.tag("v1.0.0", &first, "one", &world.ada.signer()).unwrap();
    let second = world.commit(&[("a.yaml", "a: 2\n")]);
    world.repo.set_ref("refs/tags/v1.1.0", &second).unwrap();
    world.repo.set_ref("refs/pull/7/head", &first).unwrap();
    let name = |name: &str| RefName::new(name).unwrap();
    for (reference, shown, commit) in [
        (branch("main"), "main@sha1:", &second),
        (tag("v1.0.0"), "v1.0.0@sha1:", &first),
        (tag("v1.1.0"), "v1.1.0@sha1:", &second),
        (Reference::Semver("1.x".parse().unwrap()), "v1.1.0@sha1:", &second),
        (Reference::Semver("~1.0".parse().unwrap()), "v1.0.0@sha1:", &first),
        (Reference::Name(name("refs/pull/7/head")), "refs/pull/7/head@sha1:", &first),
        (Reference::Name(name("refs/tags/v1.0.0")), "refs/tags/v1.0.0@sha1:", &first),
        (Reference::Commit { oid: first.parse().unwrap(), branch: None }, "sha1:", &first),
        (Reference::Commit { oid: first.parse().unwrap(), branch: Some(name("main")) }, "main@sha1:", &first),
    ] {
        let mut source = world.source();
        source.reference = reference;
        let snapshot = world.accept(&source).await;
        assert_eq!(snapshot.revision().to_string(), format!("{shown}{commit}"));
        assert_eq!(world.git.load(&source).await.unwrap().unwrap().revision(), snapshot.revision());
        assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
    }
    let mut source = world.source();
    source.reference = branch("nowhere");
    let error = world.refuse(&source).await;
    assert!(error.to_string().contains("branch nowhere"), "{error}");
}

#[tokio::test]
async fn ignored_files_are_not_part_of_the_snapshot() {
    let world = World::new("accept-ignore");
    world.commit(&[
        ("a.yaml", "a: 1\n"),
        ("logo.png", "png"),
        (".github/ci.yaml", "x"),
        (".sourceignore", "docs/\n"),
        ("docs/d.yaml", "d"),
        ("apps/.sourceignore", "!/docs/\n*.md\n"),
        ("apps/docs/e.yaml", "e"),
        ("apps/x.md", "m"),
        ("apps/secret/s.yaml", "s"),
    ]);
    let mut source = world.source();
    source.ignore = Some("secret/\n".to_owned());
    let snapshot = world.accept(&source).await;
    let paths = |files: Vec<wickie::source::FileEntry>| files.into_iter().map(|file| file.path).collect::<Vec<_>>();
    let all = paths(snapshot.files("").await.unwrap().unwrap());
    // Given patterns take the place of Flux's list; only Git's own files are left out besides.
    let kept = [".github/ci.yaml", ".sourceignore", "a.yaml", "apps/.sourceignore", "apps/docs/e.yaml", "logo.png"];
    assert_eq!(all, kept);
    assert_eq!(paths(snapshot.files("apps").await.unwrap().unwrap()), ["apps/.sourceignore", "apps/docs/e.yaml"]);

    for file in [".sourceignore", "apps/.sourceignore"] {
        world.repo.remove(file).unwrap();
    }
    world.commit(&[(".gitignore", "x\n"), (".sops.yaml", "x\n")]);
    source.ignore = None;
    let snapshot = world.accept(&source).await;
    let all = paths(snapshot.files("").await.unwrap().unwrap());
    assert_eq!(all, ["a.yaml", "apps/docs/e.yaml", "apps/secret/s.yaml", "apps/x.md", "docs/d.yaml"]);
}

#[tokio::test]
async fn an_lfs_pointer_is_named() {
    let world = World::new("accept-lfs");
    world.commit(&[("big.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")]);
    let snapshot = world.accept(&world.source()).await;
    let file = snapshot.files("").await.unwrap().unwrap().remove(0);
    let error = snapshot.read(file.oid).await.unwrap_err();
    assert!(crate::world::chain(&error).contains("LFS"), "{error}");
}

#[tokio::test]
async fn objects_that_nothing_needs_are_collected() {
    let world = World::new("accept-collect");
    let mut source = world.source();
    source.history = 2;
    for number in 0..5 {
        world.commit(&[("a.yaml", &format!("a: {number}\n"))]);
        world.accept(&source).await;
    }
    // Three snapshots of a commit, a tree and a blob each are no longer kept.
    assert_eq!(world.git.collect().await.unwrap(), 9);
    assert_eq!(world.git.collect().await.unwrap(), 0);
    let loaded = world.git.load(&source).await.unwrap().unwrap();
    assert_eq!(loaded.files("").await.unwrap().unwrap().len(), 1);
    world.commit(&[("a.yaml", "a: new\n")]);
    world.accept(&source).await;
}

#[tokio::test]
async fn a_source_without_verify_takes_what_comes() {
    let world = World::new("accept-unsigned");
    world.repo.write("a.yaml", "a: 1\n").unwrap();
    world.repo.commit("unsigned", &Signer::Nobody).unwrap();
    let mut source = world.source();
    source.verify = None;
    assert_eq!(world.accept(&source).await.signer(), None);
}
