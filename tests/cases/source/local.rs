//! Repositories on this node, made by the real git: bare and not, loose and packed, damaged and hostile.

use std::path::{Path, PathBuf};
use std::process::Command;

use wickie::config::git::{GitSource, GitUrl};
use wickie::source::{PollOutcome, SourceErrorClass};
use wickie_testbench::repo::isolated;
use wickie_testbench::{Repo, manifests};

use crate::world::{World, chain, named, tag};

fn at(world: &World, path: &Path) -> GitSource {
    let mut source = world.source();
    source.url = GitUrl::parse(&path.display().to_string()).unwrap();
    source
}

fn git(world: &World, folder: &Path, args: &[&str]) -> String {
    let mut command: Command = isolated(&world.scratch.path().join("home"));
    let output = command.arg("-C").arg(folder).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Copies the repository to a folder of a medium.
fn stick(world: &World, args: &[&str]) -> PathBuf {
    let medium = world.scratch.folder("medium");
    let path = medium.join("fleet");
    let _ = std::fs::remove_dir_all(&path);
    let from = world.repo.bare().display().to_string();
    let to = path.display().to_string();
    git(world, &medium, &[&["clone", "--quiet", "--no-local"], args, &[&from, &to]].concat());
    path
}

#[tokio::test]
async fn a_medium_is_followed_as_a_server_is() {
    let world = World::new("local");
    let first = world.commit(&[("a.yaml", "a: 1\n"), ("b/c.yaml", "c: 1\n")]);
    world.repo.tag("v1.0.0", &first, "one", &world.ada.signer()).unwrap();
    let source = at(&world, world.repo.bare());
    let polled = world.poll(&source).await;
    assert!(matches!(polled.outcome, Ok(PollOutcome::New(_))), "{:?}", polled.outcome);
    // Nothing of it was on the network.
    assert_eq!((polled.traffic.requests, polled.traffic.received), (0, 0));
    assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
    for number in 0..5 {
        world.commit(&[("a.yaml", &format!("a: {number}{number}\n"))]);
        if number == 2 {
            world.repo.git(&["gc", "--quiet", "--prune=now"]).unwrap();
        }
    }
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.files("").await.unwrap().unwrap().len(), 2);
    let a = &snapshot.files("").await.unwrap().unwrap()[0];
    assert_eq!(&snapshot.read(a.oid).await.unwrap()[..], b"a: 44\n");
    // History moves forward only, over a medium as over a network.
    world.repo.set_ref("refs/heads/main", &first).unwrap();
    assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::WentBack);
    let mut tagged = source.clone();
    tagged.reference = tag("v1.0.0");
    world.accept(&tagged).await;
    assert!(world.git.load(&tagged).await.unwrap().is_some());
}

#[tokio::test]
async fn a_tampered_medium_is_not_believed() {
    let world = World::new("local-tampered");
    let first = world.commit(&[("a.yaml", "a: 1\n")]);
    let source = at(&world, world.repo.bare());
    world.accept(&source).await;
    let unsigned = world.repo.commit("by nobody", &wickie_testbench::Signer::Nobody).unwrap();
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::RefusedSignature, "{}", chain(&error));
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().revision().commit().to_string(), first);
    let forged = world.repo.tampered(&first, "a change", "another!").unwrap();
    for commit in [unsigned, forged] {
        world.repo.set_ref("refs/heads/main", &commit).unwrap();
        assert!(matches!(
            world.refuse(&source).await.class(),
            SourceErrorClass::RefusedSignature | SourceErrorClass::WentBack
        ));
    }
}

#[tokio::test]
async fn every_way_in_which_git_keeps_a_repository() {
    let world = World::new("local-layouts");
    world.repo.write_all(&manifests::many(120, Some("default"))).unwrap();
    world.repo.commit("many", &world.ada.signer()).unwrap();
    for number in 0..40 {
        let (path, text) = manifests::many(120, Some("default")).swap_remove(number);
        world.commit(&[(&path, &format!("{text}# {number}\n"))]);
    }
    let wanted = world.repo.git(&["ls-tree", "-r", "main"]).unwrap();
    for (name, steps) in [
        ("loose", &[&["unpack"][..]][..]),
        ("packed", &[&["repack", "-adfq", "--depth=250", "--window=50"], &["pack-refs", "--all"]]),
        ("deltas by id", &[&["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq"]]),
        ("two packs", &[&["repack", "-adq"], &["repack", "-q"], &["pack-refs", "--all"]]),
        ("many-pack index", &[&["repack", "-adq"], &["multi-pack-index", "write"]]),
        ("commit graph", &[&["repack", "-adbq"], &["commit-graph", "write", "--reachable"]]),
    ] {
        for args in [&["--bare"][..], &[]] {
            let path = stick(&world, args);
            for step in steps {
                match step {
                    ["unpack"] => unpack(&world, &path),
                    step => drop(git(&world, &path, step)),
                }
            }
            let mut source = at(&world, &path);
            source.name = named(format!("{}-{}", name.replace(' ', "-"), args.len()));
            let snapshot = world.accept(&source).await;
            let files = snapshot.files("").await.unwrap().unwrap();
            assert_eq!(files.len(), wanted.lines().count(), "{name}");
            for file in &files {
                assert!(wanted.contains(&file.oid.to_string()), "{name}: {}", file.path);
                snapshot.read(file.oid).await.unwrap();
            }
        }
        // Each anew, not out of the store.
        world.git.collect().await.unwrap();
    }
}

/// Every object as a file of its own.
fn unpack(world: &World, path: &Path) {
    let folder = git(world, path, &["rev-parse", "--absolute-git-dir"]);
    let packs = Path::new(&folder).join("objects/pack");
    let aside = world.scratch.folder("aside");
    for file in std::fs::read_dir(&packs).unwrap().map(|file| file.unwrap().path()) {
        let moved = aside.join(file.file_name().unwrap());
        std::fs::rename(&file, &moved).unwrap();
        if moved.extension().is_some_and(|ending| ending == "pack") {
            let mut command = isolated(&world.scratch.path().join("home"));
            let input = std::fs::File::open(&moved).unwrap();
            let status = command.arg("-C").arg(path).args(["unpack-objects", "-q"]).stdin(input).status().unwrap();
            assert!(status.success());
        }
    }
}

#[tokio::test]
async fn a_folder_of_a_medium_and_a_merge_from_long_ago() {
    let world = World::new("local-paths");
    for folder in 0..20 {
        world.repo.write(&format!("clusters/c{folder}/a.yaml"), &format!("a: {folder}\n")).unwrap();
    }
    world.repo.commit("many", &world.ada.signer()).unwrap();
    let fork = world.repo.id("main").unwrap();
    for number in 0..60 {
        world.commit(&[("counter.yaml", &format!("count: {number}\n"))]);
    }
    let mut source = at(&world, world.repo.bare());
    source.paths = Some(vec!["clusters/c7".to_owned()]);
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.files("clusters/c7").await.unwrap().unwrap().len(), 1);
    assert!(snapshot.files("clusters/c8").await.is_err());

    let main = world.repo.id("main").unwrap();
    world.repo.write("clusters/c7/b.yaml", "b: 1\n").unwrap();
    let mut side = world.repo.draft("refs/heads/main", "a feature").unwrap();
    side.parents = vec![fork];
    let feature = world.repo.object("commit", &side.signed(&world.ada.signer()).unwrap()).unwrap();
    side.parents = vec![main, feature];
    let merge = world.repo.object("commit", &side.signed(&world.ada.signer()).unwrap()).unwrap();
    world.repo.set_ref("refs/heads/main", &merge).unwrap();
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.files("clusters/c7").await.unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_words() {
    let world = World::new("local-refused");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let medium = world.scratch.folder("formats");
    let make = |name: &str, args: &[&str]| {
        let path = medium.join(name);
        git(&world, &medium, &[&["init", "--quiet"], args, &[name]].concat());
        path
    };
    let copy = stick(&world, &["--bare"]);
    let borrowing = medium.join("borrowing");
    let shared = ["clone", "--quiet", "--bare", "--shared", &copy.display().to_string(), "borrowing"];
    git(&world, &medium, &shared);
    let old = medium.join("old");
    git(&world, &medium, &["clone", "--quiet", "--bare", "--no-local", &copy.display().to_string(), "old"]);
    git(&world, &old, &["-c", "pack.indexVersion=1", "repack", "-adfq"]);
    let tree = medium.join("tree");
    git(&world, &copy, &["worktree", "add", "--quiet", &tree.display().to_string(), "main"]);
    let linked = medium.join("linked");
    git(&world, &medium, &["clone", "--quiet", "--bare", "--no-local", &copy.display().to_string(), "linked"]);
    std::fs::remove_file(linked.join("HEAD")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", linked.join("HEAD")).unwrap();
    let reftable = make("reftable", &["--bare"]);
    std::fs::write(
        reftable.join("config"),
        "[core]\nrepositoryformatversion = 1\n[extensions]\nrefstorage = reftable\n",
    )
    .unwrap();
    for (path, class, words) in [
        (medium.join("nothing"), SourceErrorClass::Transient, "is the medium plugged in"),
        (medium.clone(), SourceErrorClass::Transient, "there is no Git repository"),
        (make("sha256", &["--bare", "--object-format=sha256"]), SourceErrorClass::InvalidSpec, "sha256"),
        (reftable, SourceErrorClass::InvalidSpec, "reftable"),
        (borrowing, SourceErrorClass::InvalidSpec, "git repack -ad"),
        (old, SourceErrorClass::InvalidSpec, "not of version 2"),
        (tree, SourceErrorClass::InvalidSpec, "name the repository itself"),
        (linked, SourceErrorClass::InvalidSpec, "no link is followed"),
    ] {
        let error = world.refuse(&at(&world, &path)).await;
        let text = chain(&error);
        assert_eq!(error.class(), class, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn a_path_is_judged_by_where_it_leads() {
    let world = World::new("local-roots");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let allowed = world.scratch.folder("allowed");
    let mut source = at(&world, &allowed.join("fleet.git"));
    source.local_roots = Some(vec![allowed.clone()]);
    // Written, it lies beneath the folder; in truth, it is elsewhere.
    std::os::unix::fs::symlink(world.repo.bare(), allowed.join("fleet.git")).unwrap();
    let error = world.refuse(&source).await;
    assert!(chain(&error).contains("leads out of the folders"), "{}", chain(&error));
    source.local_roots = Some(vec![allowed, world.scratch.path().to_owned()]);
    world.accept(&source).await;
}

/// A byte changed anywhere in a repository: either it does not matter, or it is noticed. Nothing wrong is taken.
#[tokio::test]
async fn a_damaged_medium_gives_an_error_or_the_truth() {
    let mut world = World::new("local-damaged");
    world.repo.write_all(&manifests::many(12, Some("default"))).unwrap();
    let commit = world.repo.commit("many", &world.ada.signer()).unwrap();
    let path = stick(&world, &["--bare"]);
    git(&world, &path, &["repack", "-adfq"]);
    let source = at(&world, &path);
    let pack = |ending: &str| {
        let files = std::fs::read_dir(path.join("objects/pack")).unwrap().map(|file| file.unwrap().path());
        files.into_iter().find(|file| file.extension().is_some_and(|found| found == ending)).unwrap()
    };
    let (mut errors, mut random) = (0, fastrand::Rng::with_seed(11));
    for file in [pack("idx"), pack("pack"), path.join("packed-refs")] {
        let whole = std::fs::read(&file).unwrap();
        let mut writable = std::fs::metadata(&file).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut writable, 0o644);
        std::fs::set_permissions(&file, writable).unwrap();
        for _ in 0..40 {
            let mut bytes = whole.clone();
            match random.bool() {
                true => bytes[random.usize(..whole.len())] ^= 1 << random.u8(..8),
                false => bytes.truncate(random.usize(..whole.len())),
            }
            std::fs::write(&file, &bytes).unwrap();
            world = world.emptied();
            match world.poll(&source).await.outcome {
                Ok(PollOutcome::New(snapshot)) => {
                    assert_eq!(snapshot.revision().commit().to_string(), commit);
                    for file in snapshot.files("").await.unwrap().unwrap() {
                        snapshot.read(file.oid).await.unwrap();
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => errors += 1,
            }
        }
        std::fs::write(&file, &whole).unwrap();
    }
    assert!(errors > 30, "{errors}");
    let world = world.emptied();
    world.accept(&source).await;
}

/// The medium is pulled out in the middle: what was read is kept, and the next try goes on from there.
#[tokio::test]
async fn a_medium_that_goes_away_and_comes_back() {
    let world = World::new("local-pulled");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let path = stick(&world, &["--bare"]);
    let source = at(&world, &path);
    world.accept(&source).await;
    let gone = path.with_file_name("gone");
    std::fs::rename(&path, &gone).unwrap();
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::Transient);
    assert!(chain(&error).contains("is the medium plugged in"), "{}", chain(&error));
    assert!(world.git.load(&source).await.unwrap().is_some());
    std::fs::rename(&gone, &path).unwrap();
    assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));

    // A pack cut short, as one is that was still being copied: nothing is lost, and the whole one is taken.
    let other = Repo::create(world.scratch.path(), "other").unwrap();
    drop(other);
    world.commit(&[("b.yaml", "b: 1\n")]);
    git(&world, &path, &["fetch", "--quiet", "origin", "main:main"]);
    git(&world, &path, &["repack", "-adq"]);
    let packs = path.join("objects/pack");
    let pack = std::fs::read_dir(&packs).unwrap().map(|file| file.unwrap().path());
    let pack = pack.into_iter().find(|file| file.extension().is_some_and(|ending| ending == "pack")).unwrap();
    let whole = std::fs::read(&pack).unwrap();
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, &whole[..whole.len() / 2]).unwrap();
    world.refuse(&source).await;
    std::fs::write(&pack, &whole).unwrap();
    assert_eq!(world.accept(&source).await.files("").await.unwrap().unwrap().len(), 2);
}
