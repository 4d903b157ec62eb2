//! Trees whose names mean harm, made by the real git and signed well: a signer can be tricked, or be the enemy.

use wickie::source::SourceErrorClass::BadContent;

use super::evil::raw;
use super::{accepted, refused};
use crate::world::{World, chain};

/// A commit of a tree of these entries, as bytes; it becomes `main`.
fn commit_tree(world: &World, entries: &[(&str, &[u8], &str)]) {
    let tree = make_tree(world, entries);
    let mut draft = world.repo.draft("refs/heads/main", "a tree").unwrap();
    draft.tree = tree;
    let commit = world.repo.object("commit", &draft.signed(&world.ada.signer()).unwrap()).unwrap();
    world.repo.set_ref("refs/heads/main", &commit).unwrap();
}

fn make_tree(world: &World, entries: &[(&str, &[u8], &str)]) -> String {
    let bytes: Vec<u8> =
        entries.iter().flat_map(|(mode, name, id)| [mode.as_bytes(), b" ", name, b"\0", &raw(id)].concat()).collect();
    world.repo.object("tree", &bytes).unwrap()
}

#[tokio::test]
async fn names_that_lead_elsewhere() {
    let (world, source) = accepted("attack-names").await;
    let blob = world.repo.object("blob", b"a").unwrap();
    for name in [
        &b".."[..],
        b".",
        b".git",
        b".GIT",
        b".gIt",
        b"git~1",
        b".g\xe2\x80\x8cit",
        b".git\xe2\x80\x8d",
        b".git::$DATA",
        b"a/b",
        b"../../etc/passwd",
        b"a\x07b",
        b"\xff\xfe",
        b"rev\xe2\x80\xaelmay",
    ] {
        commit_tree(&world, &[("100644", name, &blob)]);
        refused(&world, &source, &source, BadContent, "which is refused").await;
    }
    commit_tree(&world, &[("100644", b"a", &blob), ("100644", b"a", &blob)]);
    refused(&world, &source, &source, BadContent, "it is there twice").await;
    commit_tree(&world, &[("100644", b"b", &blob), ("100644", b"a", &blob)]);
    refused(&world, &source, &source, BadContent, "out of order").await;
}

#[tokio::test]
async fn a_hostile_name_deep_down() {
    let (world, source) = accepted("attack-deep-name").await;
    let blob = world.repo.object("blob", b"a").unwrap();
    let mut tree = make_tree(&world, &[("100755", b"..", &blob)]);
    for _ in 0..3 {
        tree = make_tree(&world, &[("40000", b"folder", &tree)]);
    }
    commit_tree(&world, &[("40000", b"folder", &tree)]);
    refused(&world, &source, &source, BadContent, "\"..\"").await;
}

#[tokio::test]
async fn a_small_tree_that_lists_without_end() {
    let (world, mut source) = accepted("attack-tree-bomb").await;
    let blob = world.repo.object("blob", b"a").unwrap();
    let mut tree = make_tree(&world, &[("100644", b"a", &blob)]);
    for _ in 0..12 {
        let names: Vec<[u8; 1]> = (b'a'..=b'j').map(|name| [name]).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", &name[..], tree.as_str())).collect();
        tree = make_tree(&world, &entries);
    }
    commit_tree(&world, &[("40000", b"bomb", &tree)]);
    source.limits.objects = 10_000;
    // It is small, so it is taken; listing it ends at the limit.
    let snapshot = world.accept(&source).await;
    let error = snapshot.files("").await.unwrap_err();
    assert!(chain(&error).contains("more than 10000 files"), "{}", chain(&error));
}

#[tokio::test]
async fn folders_that_are_too_deep() {
    let (world, source) = accepted("attack-deep").await;
    let blob = world.repo.object("blob", b"a").unwrap();
    let mut tree = make_tree(&world, &[("100644", b"a", &blob)]);
    for _ in 0..80 {
        tree = make_tree(&world, &[("40000", b"d", &tree)]);
    }
    commit_tree(&world, &[("40000", b"d", &tree)]);
    let snapshot = world.accept(&source).await;
    let error = snapshot.files("").await.unwrap_err();
    assert!(chain(&error).contains("folders within each other"), "{}", chain(&error));
}

#[tokio::test]
async fn a_link_out_of_the_repository_is_a_link_and_no_file() {
    let (world, source) = accepted("attack-link").await;
    let target = world.repo.object("blob", b"/etc/passwd").unwrap();
    commit_tree(&world, &[("120000", b"a.yaml", &target)]);
    let snapshot = world.accept(&source).await;
    let file = snapshot.files("").await.unwrap().unwrap().remove(0);
    assert_eq!(file.mode, wickie::source::FileMode::Symlink);
    assert_eq!(snapshot.read(file.oid).await.unwrap(), "/etc/passwd");
}
