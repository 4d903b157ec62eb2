//! Sources of one repository: what they share, and what they do not.

use wickie::source::{PollOutcome, SourceErrorClass};

use crate::world::{World, branch, named};

/// Until a listing serves nobody any more.
async fn stale() {
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

#[tokio::test]
async fn two_sources_of_one_branch_cost_one_listing_and_one_fetch() {
    let world = World::new("share-one");
    let first = world.commit(&[("a.yaml", "a: 1\n")]);
    let one = world.source();
    let mut other = world.source();
    other.name = named("other");
    let (a, b) = tokio::join!(world.poll(&one), world.poll(&other));
    for polled in [&a, &b] {
        assert!(matches!(&polled.outcome, Ok(PollOutcome::New(snapshot)) if snapshot.commit().to_string() == first));
    }
    let requests = world.server.requests().len();
    let alone = World::new("share-alone");
    alone.commit(&[("a.yaml", "a: 1\n")]);
    alone.accept(&alone.source()).await;
    // The second of them came before anybody knew of it, so that nothing was kept for it: a listing more, and no fetch.
    assert!(
        requests <= alone.server.requests().len() + 1,
        "{requests} requests, alone {}",
        alone.server.requests().len()
    );
    assert_eq!(b.traffic.requests.min(a.traffic.requests), 1, "{a:?} {b:?}");

    // From then on they are known to each other.
    stale().await;
    let second = world.commit(&[("a.yaml", "a: 2\n")]);
    world.server.forget();
    let (a, b) = tokio::join!(world.poll(&one), world.poll(&other));
    for polled in [&a, &b] {
        assert!(matches!(&polled.outcome, Ok(PollOutcome::New(snapshot)) if snapshot.commit().to_string() == second));
    }
    assert_eq!(a.traffic.requests.min(b.traffic.requests), 0, "{a:?} {b:?}");
    stale().await;
    world.server.forget();
    let (a, b) = tokio::join!(world.poll(&one), world.poll(&other));
    assert!(matches!((&a.outcome, &b.outcome), (Ok(PollOutcome::Unchanged(_)), Ok(PollOutcome::Unchanged(_)))));
    assert_eq!(world.server.requests().len(), 1);
    println!(
        "two sources of one branch with nothing new: {} request, {} bytes of answers",
        world.server.requests().len(),
        world.server.bytes_sent()
    );
}

#[tokio::test]
async fn who_asks_is_not_answered_with_what_was_heard_before() {
    let world = World::new("share-asked");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let one = world.source();
    let mut other = world.source();
    other.name = named("other");
    for _ in 0..2 {
        world.poll(&one).await.outcome.unwrap();
        world.poll(&other).await.outcome.unwrap();
    }
    let second = world.commit(&[("a.yaml", "a: 2\n")]);
    world.git.ask_at_once(&other);
    let asked = world.poll(&other).await;
    assert!(
        matches!(&asked.outcome, Ok(PollOutcome::New(snapshot)) if snapshot.commit().to_string() == second),
        "{asked:?}"
    );
}

#[tokio::test]
async fn different_branches_share_a_listing_and_each_keeps_its_own_judgement() {
    let world = World::new("share-branches");
    world.commit(&[("a.yaml", "a: 1\n")]);
    world.repo.commit_on("next", "next", &world.ada.signer()).unwrap();
    let main = world.source();
    let mut next = world.source();
    (next.name, next.reference) = (named("next"), branch("next"));
    // Another one that believes nobody who signed here.
    let mut strict = next.clone();
    strict.name = named("strict");
    let mallory = wickie_testbench::SshKey::named("mallory");
    strict.verify = Some(crate::world::signed_by(wickie::config::git::VerifyMode::Head, &[mallory.public()]));
    for _ in 0..2 {
        world.poll(&main).await.outcome.unwrap();
        world.poll(&next).await.outcome.unwrap();
        let refused = world.poll(&strict).await.outcome.unwrap_err();
        assert_eq!(refused.class(), SourceErrorClass::RefusedSignature);
    }
    stale().await;
    world.server.forget();
    let (a, b) = tokio::join!(world.poll(&main), world.poll(&next));
    assert!(
        matches!((&a.outcome, &b.outcome), (Ok(PollOutcome::Unchanged(_)), Ok(PollOutcome::Unchanged(_)))),
        "{a:?} {b:?}"
    );
    assert_eq!(world.server.requests().len(), 1, "two branches, one listing");
    // Other credentials are another party.
    let mut stranger = main.clone();
    stranger.name = named("stranger");
    stranger.credentials =
        Some(wickie::config::git::Credentials::Bearer(wickie::config::secret::Secret::new("x".into())));
    world.poll(&stranger).await.outcome.unwrap();
    assert!(world.server.requests().len() >= 2);
}
