//! HTTP: who we are, who the server is, and what it may do to us.

use std::time::Duration;

use wickie::config::git::Credentials;
use wickie::config::secret::Secret;
use wickie::source::{PollOutcome, SourceErrorClass};
use wickie_testbench::{Auth, Fault, GitServer, GitServerOptions};

use crate::world::{World, chain, named};

#[tokio::test]
async fn credentials() {
    let basic = Auth::Basic { user: "git".into(), password: "hunter2".into() };
    let world = World::with("transport-auth", GitServerOptions { auth: basic, ..Default::default() });
    world.commit(&[("a.yaml", "a: 1\n")]);
    let mut source = world.source();
    let error = world.refuse(&source).await;
    assert_eq!((error.class(), error.reason()), (SourceErrorClass::Auth, "AuthenticationFailed"));

    let password = |text: &str| Secret::new(text.to_owned());
    source.credentials = Some(Credentials::Basic { username: "git".into(), password: password("wrong1234") });
    let error = world.refuse(&source).await;
    assert!(!chain(&error).contains("wrong1234") && !format!("{error:?}").contains("wrong1234"), "{error:?}");
    source.credentials = Some(Credentials::Basic { username: "git".into(), password: password("hunter2") });
    world.accept(&source).await;

    world.server.set_auth(Auth::Bearer("t0ken".into()));
    assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::Auth);
    source.credentials = Some(Credentials::Bearer(password("t0ken")));
    assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
}

#[tokio::test]
async fn certificates() {
    let world = World::with("transport-tls", GitServerOptions { tls: true, ..Default::default() });
    world.commit(&[("a.yaml", "a: 1\n")]);
    let mut source = world.source();
    let ca = source.ca.take();
    let error = world.refuse(&source).await;
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    source.ca = Some(b"not a certificate".to_vec());
    assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::InvalidSpec);
    source.ca = ca;
    world.accept(&source).await;
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let world = World::new("transport-redirect");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let elsewhere = GitServer::start(world.scratch.path()).unwrap();
    let mut source = world.source();
    source.credentials = Some(Credentials::Bearer(Secret::new("t0ken".to_owned())));
    world.server.inject(Fault::Redirect(format!("{}{{path}}", elsewhere.origin())));
    let error = world.refuse(&source).await;
    assert!(chain(&error).contains("another host"), "{}", chain(&error));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_and_remembered() {
    let world = World::new("transport-moved");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let source = world.source();
    std::fs::rename(world.repo.bare(), world.scratch.path().join("moved.git")).unwrap();
    let moved = format!("{}/moved.git/info/refs?service=git-upload-pack", world.server.origin());
    world.server.inject(Fault::Redirect(moved).on(|request| request.path.starts_with("/fleet.git/info/refs")));
    world.accept(&source).await;
    assert_eq!(world.poll(&source).await.traffic.requests, 1);
    // Moved back: what was remembered no longer holds, and is learnt anew.
    std::fs::rename(world.scratch.path().join("moved.git"), world.repo.bare()).unwrap();
    world.server.heal();
    assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
    assert_eq!(world.poll(&source).await.traffic.requests, 1);
}

#[tokio::test]
async fn a_server_that_is_not_git_or_in_trouble() {
    let mut world = World::new("transport-trouble");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let source = world.source();
    for (fault, words) in [
        (Fault::answer(200), "smart protocol"),
        (Fault::answer(404), "404"),
        (Fault::answer(503).retry_after(7), "503"),
        (Fault::Refuse, "request failed"),
        (Fault::Lose, "request failed"),
    ] {
        world.server.inject(fault.clone());
        let error = world.refuse(&source).await;
        assert_eq!(error.class(), SourceErrorClass::Transient, "{fault:?}");
        assert!(chain(&error).contains(words), "{}", chain(&error));
        let after = (fault == Fault::answer(503).retry_after(7)).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after(), after);
        world.server.heal();
        world = world.restarted();
    }
    world.accept(&source).await;
}

#[tokio::test]
async fn silence_and_trickles_end() {
    let mut world = World::new("transport-slow");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let mut source = world.source();
    source.limits.silence = Duration::from_millis(300);
    for fault in [Fault::Stall, Fault::Halt { after: 20 }, Fault::Slow { bytes_per_second: 20 }] {
        world.server.inject(fault.clone());
        let error = world.refuse(&source).await;
        assert!(chain(&error).contains("silent, or slower"), "{fault:?}: {}", chain(&error));
        world.server.heal();
        world = world.restarted();
    }
    source.limits.silence = Duration::from_secs(30);
    source.timeout = Duration::from_millis(300);
    world.server.inject(Fault::Stall);
    let error = world.refuse(&source).await;
    assert!(error.to_string().contains("within the timeout"), "{error}");
}

#[tokio::test]
async fn a_changed_byte_on_the_way_is_noticed() {
    let world = World::new("transport-corrupt");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let source = world.source();
    // Beyond the list of shallow commits, which nothing is made of; the first answer is the commit's.
    for offset in [100, 20, 30, 40, 60] {
        world.server.inject(Fault::Corrupt { offset }.on(wickie_testbench::git_server::is_fetch));
        let error = world.refuse(&source).await;
        assert!(
            matches!(error.class(), SourceErrorClass::Transient | SourceErrorClass::BadContent),
            "{}",
            chain(&error)
        );
        world.server.heal();
    }
    world.accept(&source).await;
}

#[tokio::test]
async fn a_server_that_knows_only_the_old_protocol_serves_too() {
    for (version_one, filter) in [(false, true), (false, false), (true, true)] {
        let options = GitServerOptions { old: !version_one, version_one, filter, ..Default::default() };
        let world = World::with("transport-old", options);
        let first = world.commit(&[("a.yaml", "a: 1\n"), ("b/c.yaml", "c: 1\n")]);
        world.repo.tag("v1.0.0", &first, "one", &world.ada.signer()).unwrap();
        let mut source = world.source();
        world.accept(&source).await;
        let idle = world.poll(&source).await;
        assert!(matches!(idle.outcome, Ok(PollOutcome::Unchanged(_))), "{:?}", idle.outcome);
        assert_eq!(idle.traffic.requests, 1);
        for number in 0..3 {
            world.commit(&[("a.yaml", &format!("a: {number}{number}\n"))]);
        }
        assert_eq!(world.accept(&source).await.files("").await.unwrap().unwrap().len(), 2);
        world.repo.set_ref("refs/heads/main", &first).unwrap();
        assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::WentBack);
        source.reference = crate::world::tag("v1.0.0");
        world.accept(&source).await;
    }
}

#[tokio::test]
async fn a_server_that_became_newer_is_found_out() {
    let mut world = World::with("transport-newer", GitServerOptions { old: true, ..Default::default() });
    world.commit(&[("a.yaml", "a: 1\n")]);
    let mut source = world.source();
    world.accept(&source).await;
    world.server = GitServer::start(world.scratch.path()).unwrap();
    source.url = world.source().url;
    // Another address is another track: the commit is accepted anew, and then found unchanged.
    world.accept(&source).await;
    assert_eq!(world.poll(&source).await.traffic.requests, 1);
}

#[tokio::test]
async fn many_sources_on_a_dead_host_cost_one_probe() {
    let world = World::new("transport-breaker");
    world.commit(&[("a.yaml", "a: 1\n")]);
    world.server.inject(Fault::Refuse);
    for number in 0..20 {
        let mut source = world.source();
        source.name = named(format!("fleet-{number}"));
        world.refuse(&source).await;
    }
    assert_eq!(world.server.requests().len(), 3);
    let error = world.refuse(&world.source()).await;
    assert!(error.retry_after().is_some() && error.to_string().contains("did not answer lately"), "{error}");
}
