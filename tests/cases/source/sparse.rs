//! What of a commit is part of its snapshot: sparse checkout, links, attributes.

use wickie::source::{FileMode, Found};

use crate::world::{World, chain};

#[tokio::test]
async fn a_sparse_checkout_is_all_there_is_and_all_that_is_paid_for() {
    let world = World::new("sparse");
    world.commit(&[
        (".sourceignore", "*.md\n"),
        ("apps/a.yaml", "a: 1\n"),
        ("apps/a.md", "kept: the file above is not checked out\n"),
        ("apps-2/b.yaml", "b: 1\n"),
        ("infra/net/c.yaml", "c: 1\n"),
        ("infra/dns/d.yaml", "d: 1\n"),
        ("docs/big.yaml", &"x".repeat(1_000)),
    ]);
    let mut source = world.source();
    source.sparse = vec!["./apps".to_owned(), "infra/net".to_owned()];
    let snapshot = world.accept(&source).await;
    let paths: Vec<_> = snapshot.files("").await.unwrap().unwrap().into_iter().map(|file| file.path).collect();
    // A text in front, as go-git has it: the folder beside is taken too.
    assert_eq!(paths, ["apps-2/b.yaml", "apps/a.md", "apps/a.yaml", "infra/net/c.yaml"]);
    assert_eq!(snapshot.look("docs").await.unwrap(), Found::Nothing);
    assert!(snapshot.files("docs").await.unwrap().is_none());
    let docs = world.repo.id("main:docs/big.yaml").unwrap().parse().unwrap();
    assert!(world.store.object(docs).await.unwrap().is_none(), "a file that is not taken was fetched");

    // Another list is another snapshot of the same commit; until it is here, the old one is enforced.
    source.sparse = vec!["docs".to_owned()];
    let held = world.git.load(&source).await.unwrap().unwrap();
    assert_eq!(held.extent().sparse, ["./apps", "infra/net"]);
    assert_eq!(world.accept(&source).await.files("").await.unwrap().unwrap().len(), 1);

    source.sparse = vec!["apps".to_owned(), "nowhere".to_owned()];
    let error = chain(&world.refuse(&source).await);
    assert!(error.contains("sparse checkout dir \"nowhere\" does not exist"), "{error}");
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().extent().sparse, ["docs"]);
    for path in ["/apps", "../apps", "app"] {
        source.sparse = vec![path.to_owned()];
        assert!(chain(&world.refuse(&source).await).contains("does not exist"), "{path}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_lead_within_the_repository_or_nowhere() {
    let world = World::new("links");
    for (link, target) in [
        ("clusters/a/base", "../../base"),
        ("file.yaml", "base/./b.yaml"),
        ("out", "../../etc"),
        ("clusters/a/out", "../../../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("circle", "circle"),
    ] {
        let at = world.repo.work().join(link);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, at).unwrap();
    }
    world.commit(&[("base/b.yaml", "b: 1\n"), (".gitattributes", "base export-ignore\n")]);
    let snapshot = world.accept(&world.source()).await;
    let link = |at: &str, to: Option<&str>| Found::Link { at: at.to_owned(), to: to.map(str::to_owned) };
    for (path, found) in [
        ("clusters/a/base/b.yaml", link("clusters/a/base", Some("base"))),
        ("./file.yaml", link("file.yaml", Some("base/b.yaml"))),
        ("out/passwd", link("out", None)),
        ("clusters/a/out", link("clusters/a/out", None)),
        ("absolute", link("absolute", None)),
        ("circle", link("circle", Some("circle"))),
        ("base/b.yaml/c", Found::Nothing),
    ] {
        assert_eq!(snapshot.look(path).await.unwrap(), found, "{path}");
    }
    // Export attributes are git-archive's, which Flux does not run; links are listed as links.
    let files = snapshot.files("").await.unwrap().unwrap();
    let plain: Vec<_> =
        files.iter().filter(|file| file.mode == FileMode::Regular).map(|file| file.path.as_str()).collect();
    assert_eq!(plain, ["base/b.yaml"]);
    assert_eq!(files.len(), 7);
}
