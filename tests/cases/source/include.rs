//! Other sources' snapshots within a source's own.

use wickie::config::git::{GitSource, GitUrl, Include, Verify, VerifyMode};
use wickie::source::Found;
use wickie_testbench::{Repo, Signer, SshKey};

use crate::world::{World, chain, named, signed_by};

/// Another repository of the same server, with these files, and a source for it.
fn other(world: &World, name: &str, files: &[(&str, &str)], signer: &Signer) -> (Repo, GitSource) {
    let repo = Repo::create(world.scratch.path(), name).unwrap();
    for (path, text) in files {
        repo.write(path, text).unwrap();
    }
    repo.commit("a change", signer).unwrap();
    let mut source = world.source();
    source.name = named(name);
    source.url = GitUrl::parse(&world.server.url(name)).unwrap();
    (repo, source)
}

fn include(source: &mut GitSource, other: &GitSource, from: &str, to: &str) {
    source.include.push(Include { name: other.name.clone(), from: from.to_owned(), to: to.to_owned() });
    source.others.push(other.clone());
}

async fn paths(world: &World, source: &GitSource, folder: &str) -> Vec<String> {
    let snapshot = world.git.load(source).await.unwrap().unwrap();
    snapshot.files(folder).await.unwrap().unwrap().into_iter().map(|file| file.path).collect()
}

#[tokio::test]
async fn included_files_stand_where_they_are_put() {
    let world = World::new("include");
    world.commit(&[("a.yaml", "a: 1\n"), (".sourceignore", "*.txt\n"), ("vendor/x.yaml", "x: 1\n")]);
    let files = [("deploy/b.yaml", "b: 1\n"), ("deploy/n.txt", "n"), ("c.yaml", "c: 1\n"), ("deploy/sub/d.yaml", "d")];
    let (repo, lib) = other(&world, "lib", &files, &world.ada.signer());
    let mut source = world.source();
    include(&mut source, &lib, "deploy", "vendor/lib");
    include(&mut source, &lib, "./c.yaml", "top/c.yaml");

    // Its snapshot is not there yet: nothing of this source is accepted either.
    let error = world.refuse(&source).await;
    assert_eq!((error.reason(), world.git.load(&source).await.unwrap().is_none()), ("NoArtifact", true));
    world.accept(&lib).await;
    let snapshot = world.accept(&source).await;
    let all = ["a.yaml", "top/c.yaml", "vendor/lib/b.yaml", "vendor/lib/sub/d.yaml", "vendor/x.yaml"];
    let listed = snapshot.files("").await.unwrap().unwrap();
    let listed: Vec<_> = listed.iter().map(|file| file.path.as_str()).filter(|path| !path.starts_with('.')).collect();
    assert_eq!(listed, all);
    assert_eq!(paths(&world, &source, "vendor/lib/sub").await, ["vendor/lib/sub/d.yaml"]);
    assert_eq!(paths(&world, &source, "vendor").await, ["vendor/lib/b.yaml", "vendor/lib/sub/d.yaml", "vendor/x.yaml"]);
    assert!(matches!(snapshot.look("top/c.yaml").await.unwrap(), Found::File(file) if file.path == "top/c.yaml"));
    assert!(matches!(snapshot.look("top").await.unwrap(), Found::Folder(files) if files.len() == 1));
    assert_eq!(snapshot.look("vendor/lib/n.txt").await.unwrap(), Found::Nothing);

    // What the other one brings next is here next, and with Git gone too.
    repo.write("deploy/e.yaml", "e: 1\n").unwrap();
    repo.commit("more", &world.ada.signer()).unwrap();
    world.accept(&lib).await;
    assert!(paths(&world, &source, "vendor/lib").await.contains(&"vendor/lib/e.yaml".to_owned()));
    world.server.down();
    let world = world.restarted();
    assert_eq!(paths(&world, &source, "vendor/lib").await.len(), 3);
    assert_eq!(world.git.collect().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_missing_of_an_include_is_fetched_from_there() {
    let world = World::new("include-widen");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let (_, mut lib) = other(&world, "lib", &[("deploy/b.yaml", "b: 1\n"), ("x/c.yaml", "c")], &world.ada.signer());
    // Nobody has used it before.
    lib.paths = Some(Vec::new());
    world.accept(&lib).await;
    let mut source = world.source();
    include(&mut source, &lib, "deploy", "lib");
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.look("lib/b.yaml").await.unwrap(), Found::NotHere);
    let (outcome, _) = world.git.widen(&source, snapshot.commit(), &["lib".to_owned()]).await;
    assert!(outcome.unwrap());
    world.server.down();
    let world = world.restarted();
    assert_eq!(paths(&world, &source, "lib").await, ["lib/b.yaml"]);
    let held = world.git.load(&lib).await.unwrap().unwrap();
    assert_eq!(held.look("x").await.unwrap(), Found::NotHere);
}

#[tokio::test]
async fn an_include_is_verified_as_its_own_spec_says() {
    let world = World::new("include-verify");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let (_, lib) = other(&world, "lib", &[("b.yaml", "b: 1\n")], &world.ada.signer());
    world.accept(&lib).await;
    let mut source = world.source();
    include(&mut source, &lib, "", "lib");
    world.accept(&source).await;
    // Its signer was taken out of its Secret: the stored snapshot of the other one counts no more.
    let eve: Verify = signed_by(VerifyMode::Head, &[SshKey::named("eve").public()]);
    source.others[0].verify = Some(eve);
    let error = world.git.load(&source).await.unwrap_err();
    assert_eq!(error.reason(), "InvalidCommitSignature", "{}", chain(&error));
}

#[tokio::test]
async fn includes_that_cannot_be_are_refused_by_name() {
    let world = World::new("include-refused");
    world.commit(&[("a.yaml", "a: 1\n"), ("full/x.yaml", "x: 1\n")]);
    let (_, mut lib) = other(&world, "lib", &[("b.yaml", "b: 1\n"), ("deploy/c.yaml", "c")], &world.ada.signer());
    world.accept(&lib).await;
    for (from, to, reason, said) in [
        ("", "full", "CopyFailure", "stands at"),
        ("", "a.yaml", "CopyFailure", "stands at"),
        ("gone", "lib", "CopyFailure", "there is no \"gone\""),
        ("", "../lib", "IllegalPath", "must stay within"),
        ("../..", "lib", "IllegalPath", "must stay within"),
        ("", "/", "IllegalPath", "must stay within"),
    ] {
        let mut source = world.source();
        include(&mut source, &lib, from, to);
        let error = world.refuse(&source).await;
        assert_eq!((error.reason(), chain(&error).contains(said)), (reason, true), "{}", chain(&error));
    }
    let mut source = world.source();
    include(&mut source, &lib, "", "lib");
    include(&mut source, &lib, "", "lib/deploy");
    assert_eq!(world.refuse(&source).await.reason(), "CopyFailure");
    source.others.clear();
    assert_eq!(world.refuse(&source).await.reason(), "NotFound");

    // In a circle: the second time round, nobody hands in the first one.
    let mut source = world.source();
    include(&mut lib, &source, "", "fleet");
    lib.others.clear();
    include(&mut source, &lib, "", "lib");
    assert_eq!(world.refuse(&source).await.reason(), "NotFound");
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_an_include_does_not_lead_out_of_it() {
    let world = World::new("include-links");
    world.commit(&[("secret/a.yaml", "a: 1\n")]);
    let (repo, lib) = other(&world, "lib", &[("deploy/c.yaml", "c"), ("above.yaml", "d")], &Signer::Nobody);
    for (link, target) in
        [("deploy/in", "c.yaml"), ("deploy/up", "../above.yaml"), ("deploy/out", "../../secret/a.yaml")]
    {
        std::os::unix::fs::symlink(target, repo.work().join(link)).unwrap();
    }
    repo.commit("links", &world.ada.signer()).unwrap();
    world.accept(&lib).await;
    let mut source = world.source();
    include(&mut source, &lib, "deploy", "lib");
    let snapshot = world.accept(&source).await;
    for (at, to) in [("lib/in", Some("lib/c.yaml")), ("lib/up", None), ("lib/out", None)] {
        let link = Found::Link { at: at.to_owned(), to: to.map(str::to_owned) };
        assert_eq!(snapshot.look(at).await.unwrap(), link);
        let listed = snapshot.files("lib").await.unwrap().unwrap();
        let listed = listed.iter().find(|file| file.path == at).unwrap();
        assert_eq!(snapshot.follow(listed).await.unwrap().as_deref(), to, "{at}");
    }
}
