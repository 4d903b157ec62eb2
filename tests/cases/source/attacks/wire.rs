//! Frames and lists that no honest server sends.

use wickie::source::SourceErrorClass::{BadContent, InvalidSpec, Transient};

use super::evil::{self, Answer, Evil, commit, fetched, id, line, pack_of, refs};
use super::{accepted, refused};
use crate::world::named;

#[tokio::test]
async fn frames_of_a_wrong_length() {
    let (world, good) = accepted("attack-frames").await;
    for bytes in [&b"0003"[..], b"0004", b"fff1", b"zzzz", b"-0a0", b"00"] {
        let evil = Evil::start([Answer::from(bytes.to_vec())]).await;
        let words = if bytes.len() < 4 { "ended early" } else { "packet line is malformed" };
        refused(&world, &evil.source(&world), &good, Transient, words).await;
    }
}

#[tokio::test]
async fn names_of_references_with_control_characters() {
    let (world, good) = accepted("attack-refs").await;
    let one = "1".repeat(40);
    for name in ["refs/heads/main\x1b[2J", "refs/heads/ma\nin", "refs/heads/\x7f"] {
        let evil =
            Evil::start([Answer::from([line(format!("{one} {name}\n").as_bytes()), b"0000".to_vec()].concat())]).await;
        let error = refused(&world, &evil.source(&world), &good, Transient, "control characters").await;
        assert!(!crate::world::chain(&error).contains('\x1b'));
    }
    for text in ["main", "1234 refs/heads/main", "unborn HEAD"] {
        let evil = Evil::start([Answer::from([line(text.as_bytes()), b"0000".to_vec()].concat())]).await;
        refused(&world, &evil.source(&world), &good, Transient, "no reference").await;
    }
}

#[tokio::test]
async fn references_without_end() {
    let (world, good) = accepted("attack-many-refs").await;
    let endlessly = line(format!("{} refs/heads/main-x\n", "1".repeat(40)).as_bytes());
    let evil = Evil::start([Answer { bytes: Vec::new(), endlessly }]).await;
    refused(&world, &evil.source(&world), &good, BadContent, "more than 100000 references").await;
}

#[tokio::test]
async fn a_piece_of_the_pack_on_a_band_that_does_not_exist() {
    let (world, good) = accepted("attack-band").await;
    let commit = commit(&world, &"1".repeat(40));
    for (piece, words) in [(&b"\x04x"[..], "no known band"), (b"\x03oh \x1b[2J no", "the server reports: oh [2J no")] {
        let answer = [evil::packfile(), line(piece)].concat();
        let evil = Evil::start([refs(&id("commit", &commit)), answer].map(Answer::from)).await;
        refused(&world, &evil.source(&world), &good, Transient, words).await;
    }
}

#[tokio::test]
async fn an_answer_without_a_pack() {
    let (world, good) = accepted("attack-no-pack").await;
    let commit = commit(&world, &"1".repeat(40));
    let evil = Evil::start([refs(&id("commit", &commit)), b"0000".to_vec()].map(Answer::from)).await;
    refused(&world, &evil.source(&world), &good, Transient, "ends without a pack").await;
    let cut = fetched(&pack_of(&[(1, &commit)]));
    let evil = Evil::start([refs(&id("commit", &commit)), cut[..cut.len() / 2].to_vec()].map(Answer::from)).await;
    refused(&world, &evil.source(&world), &good, Transient, "ended early").await;
}

#[tokio::test]
async fn a_repository_of_another_hash() {
    let (world, good) = accepted("attack-sha256").await;
    let mut init = wickie_testbench::repo::isolated(world.scratch.path());
    let made =
        init.args(["init", "--quiet", "--bare", "--object-format=sha256"]).arg(world.scratch.path().join("new.git"));
    assert!(made.status().unwrap().success());
    let mut source = world.source();
    source.name = named("new");
    source.url = wickie::config::git::GitUrl::parse(&world.server.url("new")).unwrap();
    refused(&world, &source, &good, InvalidSpec, "sha256 object ids").await;
}
