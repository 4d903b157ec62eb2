//! History that is to go back, or to stand still, by whatever way it comes: an older commit signed well, an old copy of
//! the store, a store that is lost, a server that keeps what is new to itself, a clock that is set.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use wickie::config::MaxAge;
use wickie::config::git::{GitSource, Reference, VerifyMode};
use wickie::source::{Began, PollOutcome, SourceErrorClass};
use wickie_testbench::SshKey;
use wickie_trust::{Given, Kept};

use super::refused;
use crate::world::{World, branch, chain, named, signed_by};

const NEVER: &str = "2099-01-01T00:00:00Z";

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// A world in which three commits were accepted, one after the other, and a copy of the store after the first of them.
async fn three(name: &str) -> (World, GitSource, [String; 3], PathBuf) {
    let world = World::new(name);
    let source = world.source();
    let one = world.commit(&[("a.yaml", "a: 1\n")]);
    let first = world.accept(&source).await;
    assert_eq!(first.began(), Some(&Began::FirstContact { given: false }));
    let old = world.scratch.join("old.db");
    let database = rusqlite::Connection::open(world.data_dir().database()).unwrap();
    database.execute("VACUUM INTO ?1", [old.to_str().unwrap()]).unwrap();
    drop(database);
    let two = world.commit(&[("a.yaml", "a: 2\n")]);
    world.accept(&source).await;
    let three = world.commit(&[("a.yaml", "a: 3\n")]);
    assert_eq!(world.accept(&source).await.began(), None);
    (world, source, [one, two, three], old)
}

/// Puts an old copy of the store back.
fn restored(world: World, old: &PathBuf) -> World {
    world.changed(|dir| assert!(std::fs::copy(old, dir.database()).unwrap() > 0))
}

#[tokio::test]
async fn an_old_copy_of_the_store_is_not_enforced() {
    let (world, source, [one, two, three], old) = three("rollback-store").await;
    let world = restored(world, &old);
    let error = world.git.load(&source).await.unwrap_err();
    let text = chain(&error);
    for word in [&one, &three, "the file beside the store", "older copy of itself", "left as it is"] {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert_eq!(error.class(), SourceErrorClass::WentBack);

    // Nor is what a server says that plays along: the commit of that copy, and the one after it.
    for commit in [&one, &two] {
        world.repo.set_ref("refs/heads/main", commit).unwrap();
        let error = world.refuse(&source).await;
        assert_eq!(error.class(), SourceErrorClass::WentBack, "{}", chain(&error));
        assert!(chain(&error).contains(&format!("does not descend from {three}")), "{}", chain(&error));
        world.git.load(&source).await.unwrap_err();
    }
    // An honest one ends it, and the old copy's own floor was held against it too.
    world.repo.set_ref("refs/heads/main", &three).unwrap();
    assert_eq!(world.accept(&source).await.commit().to_string(), three);
    let world = world.restarted();
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), three);
}

#[tokio::test]
async fn an_old_copy_of_the_store_is_brought_up_by_a_commit_that_descends_from_all() {
    let (world, source, [.., three], old) = three("rollback-store-up").await;
    let world = restored(world, &old);
    // One that shares the old copy's history alone.
    let oldest = world.repo.id(&format!("{three}~2")).unwrap();
    world.repo.set_ref("refs/heads/main", &oldest).unwrap();
    world.commit(&[("a.yaml", "a: aside\n")]);
    assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::WentBack);
    world.repo.set_ref("refs/heads/main", &three).unwrap();
    let four = world.commit(&[("a.yaml", "a: 4\n")]);
    let accepted = world.accept(&source).await;
    assert_eq!((accepted.commit().to_string(), accepted.began()), (four, None));
}

#[tokio::test]
async fn a_lost_store_is_no_first_contact() {
    let (world, source, [one, _, three], _) = three("rollback-lost").await;
    let world = world.changed(|dir| std::fs::remove_file(dir.database()).unwrap());
    assert!(world.git.load(&source).await.unwrap().is_none());
    world.repo.set_ref("refs/heads/main", &one).unwrap();
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::WentBack, "{}", chain(&error));
    world.repo.set_ref("refs/heads/main", &three).unwrap();
    let accepted = world.accept(&source).await;
    assert_eq!((accepted.commit().to_string(), accepted.began()), (three, None));
}

/// Another place's copy, as the cluster's is handed in.
#[tokio::test]
async fn the_highest_copy_counts_wherever_it_is_kept() {
    let (world, source, [one, _, three], old) = three("rollback-highest").await;
    let floors = world.store.floors().await.unwrap();
    let copies: Vec<_> = floors.into_iter().map(|own| own.kept).collect();
    // Store and file are old; the cluster knows.
    let world = world.changed(|dir| {
        std::fs::copy(&old, dir.database()).unwrap();
        std::fs::remove_file(dir.floors().path()).unwrap();
    });
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), one);
    world.git.note_copies(Kept::Cluster, copies.clone());
    let error = world.git.load(&source).await.unwrap_err();
    assert!(chain(&error).contains("the ConfigMap in the cluster"), "{}", chain(&error));
    // Somebody who deletes it, or writes an older one, weakens nothing: the others count.
    world.repo.set_ref("refs/heads/main", &three).unwrap();
    world.accept(&source).await;
    for older in [Vec::new(), copies] {
        let mut older = older;
        older.iter_mut().for_each(|copy| copy.floor.commit = one.parse().unwrap());
        world.git.note_copies(Kept::Cluster, older);
        world.repo.set_ref("refs/heads/main", &one).unwrap();
        refused(&world, &source, &source, SourceErrorClass::WentBack, "does not descend").await;
    }
}

#[tokio::test]
async fn a_damaged_or_lost_file_of_floors_counts_for_nothing_and_is_written_again() {
    let (world, source, [.., three], _) = three("rollback-file").await;
    let path = world.data_dir().floors().path().to_owned();
    let whole = std::fs::read(&path).unwrap();
    let mut world = world;
    for damage in [None, Some(Vec::new()), Some(whole[..whole.len() / 2].to_vec()), Some(vec![0xff; 100])] {
        world = world.changed(|_| match &damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        });
        assert_eq!(std::fs::read(&path).unwrap(), whole, "after {damage:?}");
        assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), three);
    }
    // While nothing changes it is not written either.
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
    let world = world.restarted();
    world.git.load(&source).await.unwrap().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn an_old_copy_of_the_store_knows_no_higher_version() {
    let world = World::new("rollback-version");
    let mut source = world.source();
    source.reference = Reference::Semver("*".parse().unwrap());
    source.verify = Some(signed_by(VerifyMode::TagAndHead, &[world.ada.public()]));
    let one = world.commit(&[("a.yaml", "a: 1\n")]);
    world.repo.tag("v1.0.0", &one, "one", &world.ada.signer()).unwrap();
    world.accept(&source).await;
    let old = world.scratch.join("old.db");
    let database = rusqlite::Connection::open(world.data_dir().database()).unwrap();
    database.execute("VACUUM INTO ?1", [old.to_str().unwrap()]).unwrap();
    drop(database);
    let two = world.commit(&[("a.yaml", "a: 2\n")]);
    world.repo.tag("v1.1.0", &two, "two", &world.ada.signer()).unwrap();
    world.accept(&source).await;
    let world = restored(world, &old);
    assert_eq!(world.git.load(&source).await.unwrap_err().class(), SourceErrorClass::WentBack);
    world.repo.git(&["tag", "-d", "v1.1.0"]).unwrap();
    let error = world.refuse(&source).await;
    assert!(chain(&error).contains("down from 1.1.0 to 1.0.0"), "{}", chain(&error));
    world.repo.tag("v1.2.0", &two, "three", &world.ada.signer()).unwrap();
    world.accept(&source).await;
}

#[tokio::test]
async fn first_contact_is_held_against_a_floor_that_the_node_gives() {
    let world = World::new("rollback-given");
    let one = world.commit(&[("a.yaml", "a: 1\n")]);
    let two = world.commit(&[("a.yaml", "a: 2\n")]);
    let mut source = world.source();
    source.given = Some(Given::Commit(two.parse().unwrap()));
    world.repo.set_ref("refs/heads/main", &one).unwrap();
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::WentBack);
    assert!(chain(&error).contains("this node's configuration"), "{}", chain(&error));
    // The source's own signers cannot give leave from what the node's owner asks for.
    world.publish_permit(&world.permit(&world.ada, &[&two], &one, NEVER));
    assert!(chain(&world.refuse(&source).await).contains("this node's configuration"));
    // Nor another URL or branch: a history that does not hold the commit is refused.
    world.repo.git(&["branch", "other", &one]).unwrap();
    source.reference = branch("other");
    assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::WentBack);

    source.reference = branch("main");
    world.repo.set_ref("refs/heads/main", &two).unwrap();
    world.commit(&[("a.yaml", "a: 3\n")]);
    assert_eq!(world.accept(&source).await.began(), Some(&Began::FirstContact { given: true }));
    // It is met once and for all: a poll with nothing new asks nothing more.
    let again = world.poll(&source).await;
    assert!(matches!(again.outcome, Ok(PollOutcome::Unchanged(_))));
    assert_eq!(again.traffic.requests, 1);

    let mut source = world.source();
    source.name = named("versions");
    source.reference = Reference::Semver("*".parse().unwrap());
    source.given = Some(Given::Version("1.1.0".parse().unwrap()));
    world.repo.tag("v1.0.0", &two, "one", &world.ada.signer()).unwrap();
    assert!(chain(&world.refuse(&source).await).contains("1.0.0 is lower than 1.1.0"));
    world.repo.tag("v1.1.0", &two, "one", &world.ada.signer()).unwrap();
    world.accept(&source).await;
    source.reference = branch("main");
    assert!(chain(&world.refuse(&source).await).contains("has no version"));
}

#[tokio::test]
async fn another_branch_or_url_begins_a_new_floor_and_says_so() {
    let (world, mut source, [one, _, three], _) = three("rollback-track").await;
    let before = world.store.source(&source.name).await.unwrap().floor.unwrap();
    world.repo.git(&["branch", "other", &one]).unwrap();
    source.reference = branch("other");
    let accepted = world.accept(&source).await;
    assert_eq!(accepted.began(), Some(&Began::Track { before }));
    // The file keeps no floor of a track that nobody follows.
    let text = std::fs::read_to_string(world.data_dir().floors().path()).unwrap();
    assert!(text.contains(&one) && !text.contains(&three), "{text}");
}

#[tokio::test]
async fn a_server_that_keeps_new_commits_to_itself_is_noticed() {
    let world = World::new("freeze");
    let mut source = world.source();
    source.max_age = Some(MaxAge::parse("30d").unwrap());
    world.commit(&[("a.yaml", "a: 1\n")]);
    let accepted = world.accept(&source).await;
    // What was adopted stays, however old it becomes.
    let later = Timestamp::now() + days(400);
    assert!(matches!(world.git.poll(&source, later).await.outcome, Ok(PollOutcome::Unchanged(_))));
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().revision(), accepted.revision());
    // One that is newer than that, and yet too old, is not adopted.
    let two = world.commit(&[("a.yaml", "a: 2\n")]);
    let error = world.git.poll(&source, later).await.outcome.unwrap_err();
    assert_eq!(error.class(), SourceErrorClass::TooOld);
    let text = chain(&error);
    assert!(text.contains(&two) && text.contains("max-age is 30d") && text.contains("stays enforced"), "{text}");
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().revision(), accepted.revision());
    // The clock was wrong: nothing of that year is left behind.
    assert_eq!(world.accept(&source).await.commit().to_string(), two);
    // Nor is a first contact with something old.
    let world = world.emptied();
    assert_eq!(world.git.poll(&source, later).await.outcome.unwrap_err().class(), SourceErrorClass::TooOld);
}

#[tokio::test]
async fn an_expired_permit_stays_expired_when_the_clock_is_set_back() {
    let (world, source, [one, _, three], _) = three("rollback-clock").await;
    world.repo.set_ref("refs/heads/main", &one).unwrap();
    let aside = world.commit(&[("a.yaml", "a: aside\n")]);
    let ends = Timestamp::now() + SignedDuration::from_mins(5);
    world.publish_permit(&world.permit(&world.ada, &[&three], &aside, &ends.to_string()));
    let expired = |error: &dyn std::error::Error| {
        assert!(chain(error).contains("the permit expired at"), "{}", chain(error));
    };
    expired(&world.git.poll(&source, ends + SignedDuration::from_mins(1)).await.outcome.unwrap_err());
    // Set back by an hour, by a year, to 1970; and the same after a restart, with nothing accepted in between.
    let mut world = world;
    for _ in 0..2 {
        for now in [ends - SignedDuration::from_hours(1), ends - days(366), Timestamp::UNIX_EPOCH] {
            expired(&world.git.poll(&source, now).await.outcome.unwrap_err());
        }
        world = world.restarted();
    }
    // A node is not bricked by that: a later permit counts, whatever the clock says.
    world.publish_permit(&world.permit(&world.ada, &[&three], &aside, NEVER));
    let accepted = world.git.poll(&source, Timestamp::UNIX_EPOCH).await.outcome.unwrap();
    assert!(matches!(accepted, PollOutcome::New(snapshot) if snapshot.commit().to_string() == aside));
}

#[tokio::test]
async fn a_year_forward_and_back_bricks_nothing() {
    let (world, mut source, _, _) = three("rollback-jump").await;
    source.max_age = Some(MaxAge::parse("30d").unwrap());
    let year = Timestamp::now() + days(366);
    assert!(matches!(world.git.poll(&source, year).await.outcome, Ok(PollOutcome::Unchanged(_))));
    let world = world.restarted();
    world.commit(&[("a.yaml", "a: 4\n")]);
    world.accept(&source).await;
    // A boot in 1970: nothing looks old, nothing is refused for being from the future.
    let world = world.restarted();
    world.commit(&[("a.yaml", "a: 5\n")]);
    assert!(matches!(world.git.poll(&source, Timestamp::UNIX_EPOCH).await.outcome, Ok(PollOutcome::New(_))));
    // One absurd date of a believed commit moves no floor.
    let mut draft = world.repo.draft("refs/heads/main", "from the year 2100").unwrap();
    draft.when = 4_102_444_800;
    let commit = world.repo.object("commit", &draft.signed(&world.ada.signer()).unwrap()).unwrap();
    world.repo.set_ref("refs/heads/main", &commit).unwrap();
    world.accept(&source).await;
    assert!(world.git.later_of(Timestamp::now()) < Timestamp::now() + days(1));
    world.commit(&[("a.yaml", "a: 6\n")]);
    world.accept(&source).await;
}

#[tokio::test]
async fn one_permit_is_for_nodes_that_stand_at_different_commits_and_come_late() {
    let (world, source, [one, two, three], _) = three("rollback-permit").await;
    world.repo.set_ref("refs/heads/main", &one).unwrap();
    let aside = world.commit(&[("a.yaml", "a: aside\n")]);
    // On the node, not in the repository; this one hears of it when the branch has grown.
    let after = world.commit(&[("a.yaml", "a: after\n")]);
    let folder = world.scratch.folder("permits");
    let permit = |key: &SshKey, from: &[&str], to: &str| {
        std::fs::write(folder.join("signed"), world.permit(key, from, to, NEVER)).unwrap();
    };
    for (key, from, to, words) in [
        (&SshKey::named("eve"), vec![three.as_str()], &aside, "not among the allowed signers"),
        (&world.ada, vec![two.as_str()], &aside, "the permit is for the step from"),
        (&world.ada, vec![three.as_str()], &two, "does not descend from that"),
    ] {
        permit(key, &from, to);
        refused(&world, &source, &source, SourceErrorClass::WentBack, words).await;
    }
    std::fs::write(folder.join("signed"), vec![b'x'; 1 << 20]).unwrap();
    refused(&world, &source, &source, SourceErrorClass::WentBack, "does not descend").await;
    permit(&world.ada, &[&two, &three], &aside);
    let accepted = world.accept(&source).await;
    assert_eq!(accepted.commit().to_string(), after);
    assert!(matches!(accepted.began(), Some(Began::Permit { from, .. }) if from.to_string() == three));
    // The way back is closed again, and the copies know.
    world.repo.set_ref("refs/heads/main", &three).unwrap();
    refused(&world, &source, &source, SourceErrorClass::WentBack, "does not descend").await;
    let text = std::fs::read_to_string(world.data_dir().floors().path()).unwrap();
    assert!(text.contains(&after) && !text.contains(&three), "{text}");
}

/// A file system of a few megabytes over a folder; it goes with the test.
struct Small(PathBuf);

impl Small {
    /// Nothing where this process may not mount.
    fn mount(folder: &std::path::Path, options: &str) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder);
        mount.output().is_ok_and(|ended| ended.status.success()).then(|| Self(folder.to_owned()))
    }

    fn grow(&self, options: &str) {
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(["-o", options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_accepted() {
    let mut small = None;
    let world = World::new("rollback-full").changed(|dir| small = Small::mount(dir.path(), "size=8m"));
    let Some(small) = small else { return wickie_testbench::need::skip("a small file system cannot be mounted here") };
    let source = world.source();
    world.commit(&[("a.yaml", "a: 1\n")]);
    let first = world.accept(&source).await;
    let mut random = fastrand::Rng::with_seed(7);
    let big: String = std::iter::repeat_with(|| random.alphanumeric()).take(6 << 20).collect();
    let second = world.commit(&[("big.yaml", &big)]);
    for _ in 0..3 {
        let error = world.refuse(&source).await;
        assert_eq!(error.class(), SourceErrorClass::Store, "{}", chain(&error));
        assert_eq!(world.git.load(&source).await.unwrap().unwrap().revision(), first.revision());
    }
    // The agent starts on the full disk, and knows what it knew.
    let world = world.restarted();
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().revision(), first.revision());
    small.grow("remount,size=64m");
    assert_eq!(world.accept(&source).await.commit().to_string(), second);
    let world = world.restarted();
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), second);
    drop(world);
}
