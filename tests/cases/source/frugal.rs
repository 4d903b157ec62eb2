//! What a poll costs.

use wickie::config::git::GitUrl;
use wickie::source::Found;
use wickie_testbench::{Fault, GitServerOptions, Relay, RelayOptions, git_server, histories};

use crate::world::{World, named};

fn fill(world: &World, count: usize) {
    histories::manifests(&world.repo, count, &world.ada.signer()).unwrap();
}

#[tokio::test]
async fn a_poll_and_a_one_line_commit_cost_next_to_nothing() {
    let world = World::new("frugal");
    fill(&world, 1_000);
    world.repo.git(&["repack", "-adq"]).unwrap();
    let source = world.source();
    world.accept(&source).await;

    let idle = world.poll(&source).await.traffic;
    assert_eq!(idle.requests, 1);
    assert!(idle.received <= 200, "{idle:?}");

    histories::one_line(&world.repo, &world.ada.signer()).unwrap();
    let change = world.poll(&source).await;
    change.outcome.unwrap();
    println!("idle: {idle:?}; one line: {:?}", change.traffic);
    assert!(change.traffic.received <= 1_500, "{:?}", change.traffic);
    assert_eq!(change.traffic.requests, 3);
}

#[tokio::test]
async fn a_merge_of_a_branch_that_forked_long_ago() {
    let world = World::new("frugal-merge");
    fill(&world, 100);
    histories::fork(&world.repo, 250, &world.ada.signer()).unwrap();
    let source = world.source();
    world.accept(&source).await;
    histories::merge(&world.repo, &world.ada.signer()).unwrap();
    let polled = world.poll(&source).await;
    polled.outcome.unwrap();
    println!("merge: {:?}", polled.traffic);
    assert!(polled.traffic.received <= 10_000, "{:?}", polled.traffic);
}

/// A new connection costs more than a poll: that of an answer which was read to the flush and not to its end would be thrown away.
#[tokio::test]
async fn one_connection_carries_everything() {
    for old in [false, true] {
        let world = World::with("frugal-connection", GitServerOptions { tls: true, old, ..Default::default() });
        fill(&world, 200);
        let relay = Relay::start(world.server.addr(), RelayOptions::default()).unwrap();
        let mut source = world.source();
        source.url = GitUrl::parse(&format!("https://{}/fleet.git", relay.addr())).unwrap();
        world.accept(&source).await;
        for number in 0..5 {
            world.commit(&[("a.yaml", &format!("a: {number}\n"))]);
            world.accept(&source).await;
            world.poll(&source).await.outcome.unwrap();
        }
        assert_eq!(relay.connections(), 1);
    }
}

#[tokio::test]
async fn a_server_without_filters_serves_too() {
    let world = World::with("frugal-filter", GitServerOptions { filter: false, ..Default::default() });
    fill(&world, 50);
    let source = world.source();
    assert_eq!(world.accept(&source).await.files("").await.unwrap().unwrap().len(), 50);
    world.commit(&[("new.yaml", "a: 1\n")]);
    assert_eq!(world.accept(&source).await.files("").await.unwrap().unwrap().len(), 51);
}

#[tokio::test]
async fn an_interrupted_fetch_asks_only_for_the_rest() {
    let world = World::new("frugal-cut");
    fill(&world, 1_000);
    let source = world.source();
    let whole = {
        let other = world.scratch.path().join("other");
        let dir = wickie::store::DataDir::new(other);
        dir.create().unwrap();
        let (store, _) = wickie::store::Store::open(&dir, jiff::Timestamp::now()).unwrap();
        let polled = wickie::source::Git::new(store).poll(&source, jiff::Timestamp::now()).await;
        polled.outcome.unwrap();
        polled.traffic.received
    };
    world.server.inject(Fault::Cut { after: 40_000 }.on(git_server::is_fetch));
    let (mut received, mut tries) = (0, 0);
    loop {
        let polled = world.poll(&source).await;
        received += polled.traffic.received;
        tries += 1;
        assert!(tries < 100, "{:?}", polled.outcome);
        if polled.outcome.is_ok() {
            break;
        }
    }
    println!("whole: {whole}, in {tries} tries: {received}");
    assert!(tries > 2);
    assert!(received as f64 <= whole as f64 * 1.3, "{received} of {whole}");
}

#[tokio::test]
async fn one_folder_of_two_hundred_is_a_small_part_of_the_cost() {
    let world = World::new("frugal-paths");
    histories::clusters(&world.repo, 200, &world.ada.signer()).unwrap();
    world.repo.write("clusters/.sourceignore", "*.md\n").unwrap();
    world.repo.write("clusters/c7/README.md", "hello\n").unwrap();
    world.repo.commit("patterns", &world.ada.signer()).unwrap();
    world.repo.git(&["repack", "-adq"]).unwrap();
    let whole = world.poll(&world.source()).await.traffic.received;

    let mut source = world.source();
    source.name = named("part");
    source.paths = Some(vec!["./clusters/c7".to_owned()]);
    let world = world.emptied();
    let part = world.poll(&source).await;
    let outcome = part.outcome.unwrap();
    println!("whole: {whole}, one folder: {:?}", part.traffic);
    assert!(part.traffic.received * 100 <= whole * 3, "{:?} of {whole}", part.traffic);
    let wickie::source::PollOutcome::New(snapshot) = outcome else { panic!("{outcome:?}") };
    assert_eq!(snapshot.files("clusters/c7").await.unwrap().unwrap().len(), 20);
    assert!(snapshot.files("clusters/c8").await.is_err());
    assert!(world.git.load(&source).await.unwrap().is_some());

    // A change costs the names on the way down, and what changed; a folder that is used from now on is fetched then.
    world.commit(&[("clusters/c8/new.yaml", "a: 1\n"), ("clusters/c7/new.yaml", "a: 2\n")]);
    let change = world.poll(&source).await;
    change.outcome.unwrap();
    println!("a change: {:?}", change.traffic);
    assert!(change.traffic.received <= 8_000, "{:?}", change.traffic);
    source.paths = Some(vec!["clusters/c7".to_owned(), "clusters/c9".to_owned()]);
    // What was accepted stays what it is until there is more.
    let held = world.git.load(&source).await.unwrap().unwrap();
    assert_eq!(held.look("clusters/c9").await.unwrap(), Found::NotHere);
    assert_eq!(held.files("clusters/c7").await.unwrap().unwrap().len(), 21);
    let snapshot = world.accept(&source).await;
    assert_eq!(snapshot.files("clusters/c9").await.unwrap().unwrap().len(), 20);

    // More of a commit that was accepted, without looking for another one.
    let (outcome, traffic) = world.git.widen(&source, snapshot.commit(), &["clusters/c11".to_owned()]).await;
    assert!(outcome.unwrap());
    println!("one more folder: {traffic:?}");
    world.server.down();
    let world = world.restarted();
    let held = world.git.load(&source).await.unwrap().unwrap();
    assert!(matches!(held.look("clusters/c11").await.unwrap(), Found::Folder(files) if files.len() == 20));
    assert_eq!(held.extent().paths.as_ref().unwrap().len(), 3);
    let (outcome, _) = world.git.widen(&source, held.commit(), &["clusters/c12".to_owned()]).await;
    assert!(outcome.is_err());
    assert!(world.git.load(&source).await.unwrap().is_some());
}
