//! Packs: bombs, lies about sizes, objects that nobody asked for.

use wickie::source::SourceErrorClass::{BadContent, Transient};

use super::evil::{self, Evil, commit, entry, fetched, id, pack, pack_of, raw, refs, tree};
use super::{accepted, refused};

/// A commit whose files are this pack, which is then the second answer.
async fn files(name: &str, tree_bytes: &[u8], pack: Vec<u8>, class: wickie::source::SourceErrorClass, words: &str) {
    let (world, good) = accepted(name).await;
    let evil = Evil::with_files(&commit(&world, &id("tree", tree_bytes)), pack).await;
    let mut source = evil.source(&world);
    source.limits.object = 5 << 20;
    source.limits.inflated = 20 << 20;
    source.limits.received = 2 << 20;
    refused(&world, &source, &good, class, words).await;
}

fn honest_tree() -> Vec<u8> {
    tree("a.yaml", &id("blob", b"a"))
}

#[tokio::test]
async fn a_blob_of_ten_gigabytes_is_announced() {
    let pack = pack(1, &entry(3, 10 << 30, &[], b"short"));
    files("attack-announced", &honest_tree(), pack, BadContent, "more than 5242880 bytes in one object").await;
}

#[tokio::test]
async fn an_entry_inflates_to_more_than_it_announces() {
    let pack = pack(1, &entry(3, 100, &[], &vec![0; 10 << 20]));
    files("attack-zlib", &honest_tree(), pack, Transient, "longer than it announces").await;
}

#[tokio::test]
async fn an_entry_is_shorter_than_it_announces() {
    let pack = pack(1, &entry(3, 100, &[], b"short"));
    files("attack-short", &honest_tree(), pack, Transient, "shorter than it announces").await;
}

#[tokio::test]
async fn many_entries_inflate_to_too_much_together() {
    let zeros = vec![0; 4 << 20];
    let entries: Vec<_> = (0..6).map(|_| entry(3, zeros.len() as u64, &[], &zeros)).collect();
    files("attack-sum", &honest_tree(), pack(6, &entries.concat()), BadContent, "bytes when inflated").await;
}

/// A delta upon the entry just before, which makes `copies` times the 1 MiB that its base holds.
fn bomb(base_entry: usize, copies: usize) -> Vec<u8> {
    let size = |mut size: u64| {
        let mut bytes = Vec::new();
        while size >= 0x80 {
            bytes.push(size as u8 | 0x80);
            size >>= 7;
        }
        bytes.push(size as u8);
        bytes
    };
    // 16 copies of 64 KiB from the beginning.
    let copy = [0x80].repeat(16 * copies);
    let delta = [size(1 << 20), size((copies as u64) << 20), copy].concat();
    // The distance in Git's own way: each further byte begins at one.
    let mut distance = vec![(base_entry & 0x7f) as u8];
    let mut rest = base_entry >> 7;
    while rest > 0 {
        rest -= 1;
        distance.insert(0, (rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    entry(6, delta.len() as u64, &distance, &delta)
}

#[tokio::test]
async fn a_delta_makes_a_mountain_of_a_molehill() {
    let base = entry(3, 1 << 20, &[], &vec![0; 1 << 20]);
    let one = [base.clone(), bomb(base.len(), 100)].concat();
    files("attack-delta", &honest_tree(), pack(2, &one), Transient, "larger than the limit").await;

    let mut many = base.clone();
    for _ in 0..10 {
        let distance = many.len();
        many.extend(bomb(distance, 4));
    }
    files("attack-deltas", &honest_tree(), pack(11, &many), BadContent, "bytes when inflated").await;
}

#[tokio::test]
async fn a_delta_upon_what_is_nowhere() {
    let delta = entry(7, 3, &[9; 20], &[1, 1, 0]);
    let (world, good) = accepted("attack-base").await;
    let commit = commit(&world, &id("tree", &honest_tree()));
    // Asked for the base, the server sends something else.
    let answers = [
        refs(&id("commit", &commit)),
        fetched(&pack_of(&[(1, &commit)])),
        fetched(&pack(1, &delta)),
        fetched(&pack_of(&[(3, b"else")])),
    ];
    let evil = Evil::start(answers.map(evil::Answer::from)).await;
    refused(&world, &evil.source(&world), &good, Transient, "did not send the object 0909").await;
}

#[tokio::test]
async fn deltas_before_their_pack_and_of_themselves() {
    for distance in [0, 127] {
        let pack = pack(1, &entry(6, 3, &[distance], &[1, 1, 0]));
        files("attack-offset", &honest_tree(), pack, Transient, "does not lie before it").await;
    }
}

#[tokio::test]
async fn an_endless_pack() {
    let (world, good) = accepted("attack-endless").await;
    let commit = commit(&world, &id("tree", &honest_tree()));
    let whole = evil::line(&[&[1][..], &[0; 60_000]].concat());
    let begun = evil::line(&[&[1][..], b"PACK\0\0\0\x02\0\0\0\x02", &[0x3f]].concat());
    let endless = evil::Answer { bytes: [evil::packfile(), begun].concat(), endlessly: whole };
    let answers = [refs(&id("commit", &commit)).into(), fetched(&pack_of(&[(1, &commit)])).into(), endless];
    let mut source = Evil::start(answers).await.source(&world);
    source.limits.received = 2 << 20;
    let error = world.refuse(&source).await;
    assert!(matches!(error.class(), BadContent | Transient), "{error:?}");
    assert!(world.git.load(&good).await.unwrap().is_some());
    // Of more objects than anybody has.
    let many = pack(u32::MAX, &[]);
    files("attack-count", &honest_tree(), many, BadContent, "more than 1000000 objects").await;
}

#[tokio::test]
async fn progress_without_end() {
    let (world, good) = accepted("attack-progress").await;
    let commit = commit(&world, &id("tree", &honest_tree()));
    let endless = evil::Answer { bytes: evil::packfile(), endlessly: evil::line(b"\x02counting") };
    let answers = [refs(&id("commit", &commit)).into(), endless];
    let mut source = Evil::start(answers).await.source(&world);
    source.limits.received = 2 << 20;
    refused(&world, &source, &good, BadContent, "more than 2097152 bytes").await;
}

#[tokio::test]
async fn other_objects_than_were_asked_for() {
    let files_of = |blob: &[u8]| pack_of(&[(2, &honest_tree()), (3, blob)]);
    let (world, good) = accepted("attack-other").await;
    let commit_bytes = commit(&world, &id("tree", &honest_tree()));
    let answers = [
        refs(&id("commit", &commit_bytes)),
        fetched(&pack_of(&[(1, &commit_bytes)])),
        fetched(&files_of(b"other")),
        fetched(&files_of(b"other")),
    ];
    let evil = Evil::start(answers.map(evil::Answer::from)).await;
    let words = format!("did not send the object {}", id("blob", b"a"));
    refused(&world, &evil.source(&world), &good, Transient, &words).await;

    // Another commit, signed as well, than the branch's.
    let commit_bytes = commit(&world, &id("tree", b"x"));
    let other = commit(&world, &id("tree", b""));
    let answers = [refs(&id("commit", &commit_bytes)), fetched(&pack_of(&[(1, &other)]))];
    let evil = Evil::start(answers.map(evil::Answer::from)).await;
    let words = format!("did not send the object {}", id("commit", &commit_bytes));
    refused(&world, &evil.source(&world), &good, Transient, &words).await;
}

#[tokio::test]
async fn a_wrong_checksum_and_bytes_behind_the_end() {
    let honest = pack_of(&[(2, &honest_tree()), (3, b"a")]);
    let mut wrong = honest.clone();
    *wrong.last_mut().unwrap() ^= 1;
    files("attack-checksum", &honest_tree(), wrong, Transient, "checksum does not fit").await;
    let longer = [honest, b"more".to_vec()].concat();
    files("attack-longer", &honest_tree(), longer, Transient, "bytes follow its end").await;
}

#[tokio::test]
async fn kinds_that_are_mixed_up() {
    // A tree where a file belongs.
    let tree_bytes = tree("a.yaml", &id("tree", b""));
    let (world, _) = accepted("attack-kinds").await;
    let evil =
        Evil::with_files(&commit(&world, &id("tree", &tree_bytes)), pack_of(&[(2, &tree_bytes), (2, b"")])).await;
    let snapshot = world.accept(&evil.source(&world)).await;
    let file = snapshot.files("").await.unwrap().unwrap().remove(0);
    let error = snapshot.read(file.oid).await.unwrap_err();
    assert!(crate::world::chain(&error).contains("is a tree where a blob belongs"), "{error}");
    assert_eq!(raw(&id("tree", b"")).len(), 20);
}
