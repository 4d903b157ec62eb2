//! Room in the store and on the disk.

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use wickie::source::{Git, PollOutcome};
use wickie::store::{Batch, Bounds, DataDir, SMALLEST_MOST, Store};
use wickie_testbench::need;

use crate::world::{World, chain, named};

/// Text that cannot be compressed much, another for each seed.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[(state >> 40) as usize % 64])
    };
    (0..bytes).map(|_| next()).collect()
}

fn within(folder: &Path, most: u64) -> Store {
    let dir = DataDir::new(folder);
    dir.create().unwrap();
    Store::open_within(&dir, Bounds { most }, Timestamp::now()).unwrap().0
}

#[tokio::test]
async fn old_snapshots_make_way_and_what_cannot_fit_is_refused_in_words() {
    let world = World::new("room-bound");
    let store = within(&world.scratch.path().join("small"), SMALLEST_MOST);
    let git = Git::new(store.clone());
    let mut source = world.source();
    source.history = 10;
    let mut last = None;
    // Each is a megabyte that the one before has not: four do not fit.
    for number in 0..6 {
        world.commit(&[("noise.txt", &noise(number, 1_300_000))]);
        match git.poll(&source, Timestamp::now()).await.outcome {
            Ok(PollOutcome::New(snapshot)) => last = Some(snapshot.revision().clone()),
            other => panic!("{number}: {other:?}"),
        }
        let size = store.size().await.unwrap();
        assert!(size.file <= SMALLEST_MOST, "{number}: {size:?}");
    }
    let kept = store.snapshots(&source.name, 100).await.unwrap();
    assert!((1..4).contains(&kept.len()), "{} snapshots", kept.len());
    // What is larger than all the room there is.
    world.commit(&[
        ("noise.txt", &noise(100, 1_300_000)),
        ("more.txt", &noise(101, 2_000_000)),
        ("most.txt", &noise(102, 2_000_000)),
    ]);
    let refused = git.poll(&source, Timestamp::now()).await;
    let error = refused.outcome.unwrap_err();
    assert!(chain(&error).contains("--max-store"), "{}", chain(&error));
    let size = store.size().await.unwrap();
    assert!(size.file <= SMALLEST_MOST, "{size:?}");
    // The last good one is there, whole.
    let held = git.load(&source).await.unwrap().unwrap();
    assert_eq!(Some(held.revision()), last.as_ref());
    let files = held.files("").await.unwrap().unwrap();
    held.read(files[0].oid).await.unwrap();
    // It is not paid for again and again.
    let again = git.poll(&source, Timestamp::now()).await;
    assert!(again.outcome.is_err());
    assert!(again.traffic.received < 1_000, "{:?}", again.traffic);
    // Another source has room: what was fetched in vain went.
    let mut small = world.source();
    small.name = named("small");
    small.reference = crate::world::branch("small");
    world.repo.git(&["checkout", "-q", "--orphan", "small"]).unwrap();
    for file in ["noise.txt", "more.txt", "most.txt"] {
        world.repo.remove(file).unwrap();
    }
    world.repo.write("a.yaml", "a: 1\n").unwrap();
    world.repo.commit_on("small", "small", &world.ada.signer()).unwrap();
    git.poll(&small, Timestamp::now()).await.outcome.unwrap();
    // A commit that fits again is taken.
    println!("the bound of {SMALLEST_MOST} bytes was kept: {size:?}");
}

#[tokio::test]
async fn a_snapshot_that_is_read_does_not_go() {
    let world = World::new("room-reading");
    let store = within(&world.scratch.path().join("small"), SMALLEST_MOST);
    let git = Git::new(store.clone());
    let mut source = world.source();
    source.history = 10;
    world.commit(&[("noise.txt", &noise(1, 1_300_000))]);
    let Ok(PollOutcome::New(read)) = git.poll(&source, Timestamp::now()).await.outcome else { panic!("refused") };
    for number in 2..6 {
        world.commit(&[("noise.txt", &noise(number, 1_300_000))]);
        git.poll(&source, Timestamp::now()).await.outcome.unwrap();
    }
    let file = read.files("").await.unwrap().unwrap().remove(0);
    assert_eq!(read.read(file.oid).await.unwrap().len(), 1_300_000);
}

/// A file system of its own, as small as a test wants it.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "wickie-test"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_keeps_room_for_reports_and_recovers_by_itself() {
    let world = World::new("room-disk");
    let folder = world.scratch.path().join("disk");
    let Some(_disk) = Tmpfs::mount(&folder, "16m") else {
        return need::skip("a tmpfs cannot be mounted here: it takes root and CAP_SYS_ADMIN");
    };
    let data = folder.join("data");
    let store = within(&data, 1 << 30);
    let git = Git::new(store.clone());
    let source = world.source();
    world.commit(&[("noise.txt", &noise(1, 300_000))]);
    git.poll(&source, Timestamp::now()).await.outcome.unwrap();
    world.commit(&[
        ("a.txt", &noise(2, 4_000_000)),
        ("b.txt", &noise(3, 4_000_000)),
        ("c.txt", &noise(4, 4_000_000)),
        ("d.txt", &noise(5, 4_000_000)),
    ]);
    let error = git.poll(&source, Timestamp::now()).await.outcome.unwrap_err();
    assert!(chain(&error).contains("the disk has no room"), "{}", chain(&error));
    // There is room for what must be written.
    let days = (0..50).map(|day| {
        let date = jiff::civil::date(2026, 1, 1).saturating_add(jiff::ToSpan::days(day));
        wickie::store::TrafficDay::new(source.name.clone(), date)
    });
    store.commit(Batch { traffic: days.collect(), ..Batch::default() }).await.unwrap();
    git.load(&source).await.unwrap().unwrap();
    // Somebody else fills the rest of the disk: nothing can be written. Then there is room again.
    let filler = folder.join("filler");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k", &format!("of={}", filler.display())]).output();
    let asked = git.poll(&source, Timestamp::now()).await;
    assert!(asked.outcome.is_err() && asked.traffic.received < 1_000, "{asked:?}");
    std::fs::remove_file(&filler).unwrap();
    world.repo.remove("a.txt").unwrap();
    world.repo.remove("b.txt").unwrap();
    world.repo.remove("c.txt").unwrap();
    world.commit(&[("d.txt", &noise(6, 1_000_000))]);
    let recovered = git.poll(&source, Timestamp::now()).await.outcome;
    assert!(matches!(recovered, Ok(PollOutcome::New(_))), "{recovered:?}");
}
