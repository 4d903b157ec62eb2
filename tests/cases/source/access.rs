//! Client certificates, GitHub Apps and proxies: who we are on the way, and to whom that is told.

use jiff::SignedDuration;
use wickie::config::git::{Credentials, GitSource, GitUrl};
use wickie::config::git_access::{ClientCertificate, GitHubApp, Installation, Proxy};
use wickie::config::secret::Secret;
use wickie::source::{PollOutcome, SourceErrorClass};
use wickie_testbench::github_api::{App, GitHubApi};
use wickie_testbench::{Auth, Fault, ForwardProxy, ForwardProxyOptions, GitServer, GitServerOptions, Speaks, need};

use crate::world::{World, chain};

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn tls() -> GitServerOptions {
    GitServerOptions { tls: true, ..Default::default() }
}

fn shown(server: &GitServer, name: &str) -> ClientCertificate {
    let identity = server.client(name).unwrap();
    ClientCertificate { certificate: identity.cert.into_bytes(), key: Secret::new(identity.key.into_bytes()) }
}

#[tokio::test]
async fn a_client_certificate_opens_the_door_that_is_shut_without() {
    for old in [false, true] {
        let world = World::with("access-mtls", GitServerOptions { client_certificates: true, old, ..tls() });
        world.commit(&[("a.yaml", "a: 1\n")]);
        let mut source = world.source();
        world.refuse(&source).await;
        assert!(world.server.requests().is_empty());
        world.git.ask_at_once(&source);

        source.client_certificate = Some(shown(&world.server, "node"));
        world.accept(&source).await;
        assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));

        // Without it again: the connection that it opened is not used for who does not show it.
        let before = world.server.requests().len();
        source.client_certificate = None;
        world.refuse(&source).await;
        assert_eq!(world.server.requests().len(), before);
    }
}

#[tokio::test]
async fn a_client_certificate_that_cannot_be_used_is_named() {
    let world = World::with("access-mtls-bad", GitServerOptions { client_certificates: true, ..tls() });
    world.commit(&[("a.yaml", "a: 1\n")]);
    let (mut source, good) = (world.source(), shown(&world.server, "node"));
    let key = |text: &str| Secret::new(text.as_bytes().to_vec());
    for (certificate, words) in [
        (ClientCertificate { certificate: b"hunter2".to_vec(), ..good.clone() }, "tls.crt"),
        (ClientCertificate { key: key("hunter2"), ..good.clone() }, "tls.key"),
        (ClientCertificate { key: shown(&world.server, "other").key, ..good.clone() }, "tls.crt and tls.key"),
    ] {
        source.client_certificate = Some(certificate);
        let error = world.refuse(&source).await;
        let text = chain(&error);
        assert_eq!(error.class(), SourceErrorClass::InvalidSpec, "{text}");
        assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
    }
    // One by another authority is shown, and not taken.
    let other = GitServer::start_with(world.scratch.path(), tls()).unwrap();
    source.client_certificate = Some(shown(&other, "node"));
    world.refuse(&source).await;
    assert!(world.server.requests().is_empty());
}

/// A private repository, and the App that may read it.
struct Hosted {
    world: World,
    api: GitHubApi,
    app: App,
}

impl Hosted {
    fn new(name: &str) -> Option<Self> {
        need::ssh_keygen()?;
        let auth = Auth::Basic { user: "x-access-token".into(), password: "ghs_0".into() };
        let world = World::with(name, GitServerOptions { auth, ..tls() });
        world.commit(&[("a.yaml", "a: 1\n")]);
        let app = App::generate(&world.scratch.folder("app")).unwrap();
        let api = GitHubApi::start(&app, world.server.authority().unwrap()).unwrap();
        Some(Self { world, api, app })
    }

    fn source(&self, installation: Installation) -> GitSource {
        let mut source = self.world.source();
        source.credentials = Some(Credentials::GitHubApp(GitHubApp {
            app: self.app.id,
            installation,
            key: secret(&self.app.key),
            api: self.api.url().parse().unwrap(),
        }));
        source
    }
}

const NO_SSH_KEYGEN: &str = "ssh-keygen is not installed: apt install openssh-client";

#[tokio::test]
async fn a_github_app_gets_a_token_once_and_shows_it() {
    let Some(hosted) = Hosted::new("access-app") else { return need::skip(NO_SSH_KEYGEN) };
    let Hosted { world, api, app } = &hosted;
    let source = hosted.source(Installation::Id(app.installation));
    let first = world.poll(&source).await;
    assert!(matches!(first.outcome, Ok(PollOutcome::New(_))), "{:?}", first.outcome);
    assert_eq!(api.requests().len(), 1);
    assert_eq!(first.traffic.requests as usize, api.requests().len() + world.server.requests().len());
    assert_eq!(first.traffic.received, api.bytes_sent() + world.server.bytes_sent());
    for _ in 0..3 {
        assert_eq!(world.poll(&source).await.traffic.requests, 1);
    }
    assert_eq!(api.given(), ["ghs_0"]);

    // A token that Git's server does not take any more is got anew, at the next poll.
    world.server.set_auth(Auth::Basic { user: "x-access-token".into(), password: "ghs_1".into() });
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::Auth);
    assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
    assert_eq!(api.given(), ["ghs_0", "ghs_1"]);
}

#[tokio::test]
async fn a_github_app_finds_the_installation_of_an_owner_and_another_clock() {
    let Some(hosted) = Hosted::new("access-owner") else { return need::skip(NO_SSH_KEYGEN) };
    let Hosted { world, api, app } = &hosted;
    // GitHub is ahead of this node by a day, as of one that lost its battery: the statement is made again by its clock.
    api.set_clock(SignedDuration::from_hours(24));
    let source = hosted.source(Installation::Owner(app.owner.clone()));
    world.accept(&source).await;
    let asked: Vec<_> = api.requests().iter().map(|request| (request.method.clone(), request.status)).collect();
    let expected = [("GET", 401), ("GET", 200), ("POST", 201)];
    assert_eq!(asked, expected.map(|(method, status)| (method.to_owned(), Some(status))));
    // It lives for an hour by that clock, and is not thrown away by this one.
    world.poll(&source).await.outcome.unwrap();
    assert_eq!(api.given().len(), 1);
    // Statements are for the API alone, tokens for Git's server alone.
    assert!(
        world
            .server
            .requests()
            .iter()
            .all(|request| { request.header("authorization").is_none_or(|value| value.starts_with("Basic ")) })
    );
    assert!(api.requests().iter().all(|request| request.header("authorization").unwrap().starts_with("Bearer eyJ")));
}

#[tokio::test]
async fn a_github_app_that_is_refused_says_why_and_tells_nobody_else() {
    let Some(hosted) = Hosted::new("access-app-refused") else { return need::skip(NO_SSH_KEYGEN) };
    let Hosted { world, api, app } = &hosted;
    let source = hosted.source(Installation::Id(app.installation));
    let elsewhere = GitServer::start_with(world.scratch.path(), tls()).unwrap();
    for (fault, class, words) in [
        (Fault::Redirect(format!("{}{{path}}", elsewhere.origin())), SourceErrorClass::Transient, "redirects"),
        (Fault::answer(403).retry_after(60), SourceErrorClass::Transient, "403"),
        (Fault::answer(403), SourceErrorClass::Auth, "403"),
        (Fault::answer(502), SourceErrorClass::Transient, "502"),
    ] {
        api.inject(fault.once());
        world.git.ask_at_once(&source);
        let error = world.refuse(&source).await;
        let text = chain(&error);
        assert_eq!(error.class(), class, "{text}");
        assert!(text.contains(words) && text.contains("gave no token for the App"), "{text}");
    }
    let wrong = hosted.source(Installation::Id(1));
    world.git.ask_at_once(&wrong);
    let text = chain(&world.refuse(&wrong).await);
    assert!(text.contains("404: Not Found"), "{text}");
    let another = App::generate(&world.scratch.folder("another")).unwrap();
    let mut forged = source.clone();
    if let Some(Credentials::GitHubApp(app)) = &mut forged.credentials {
        app.key = secret(&another.key);
    }
    let text = chain(&world.refuse(&forged).await);
    assert!(text.contains("the signature is not the App's"), "{text}");
    if let Some(Credentials::GitHubApp(app)) = &mut forged.credentials {
        app.key = secret("hunter2");
    }
    let error = world.refuse(&forged).await;
    assert_eq!(error.class(), SourceErrorClass::InvalidSpec);
    assert!(chain(&error).contains("githubAppPrivateKey") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    // Of all this, nobody but the API was told: neither the server that it redirected to nor Git's.
    assert!(elsewhere.requests().is_empty() && world.server.requests().is_empty());
    assert!(api.given().is_empty());
}

/// A server that only the proxy knows how to reach, and the way there.
fn behind(world: &World, speaks: Speaks, login: Option<(&str, &str)>) -> (ForwardProxy, GitSource, Proxy) {
    let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
    let names = vec![("localhost".to_owned(), world.server.addr())];
    let proxy = ForwardProxy::start(ForwardProxyOptions { speaks, tls: None, login, names }).unwrap();
    let mut source = world.source();
    let scheme = if world.server.ca().is_some() { "https" } else { "http" };
    // Nothing listens there but behind the proxy.
    source.url = GitUrl::parse(&format!("{scheme}://localhost:1/fleet.git")).unwrap();
    let through = Proxy { address: proxy.url().parse().unwrap(), login: None };
    (proxy, source, through)
}

#[tokio::test]
async fn a_proxy_is_gone_through_with_its_own_login() {
    for (speaks, tls) in [(Speaks::Http, true), (Speaks::Http, false), (Speaks::Socks5, true), (Speaks::Socks5, false)]
    {
        let auth = Auth::Bearer("t0ken".into());
        let world = World::with("access-proxy", GitServerOptions { tls, auth, ..Default::default() });
        world.commit(&[("a.yaml", "a: 1\n")]);
        let (proxy, mut source, mut through) = behind(&world, speaks, Some(("ada", "pa:ss @")));
        source.credentials = Some(Credentials::Bearer(secret("t0ken")));
        source.proxy = Some(through.clone());
        let error = world.refuse(&source).await;
        assert!(!proxy.asked().is_empty() && proxy.asked().iter().all(|asked| !asked.allowed), "{}", chain(&error));
        through.login = Some(("ada".to_owned(), secret("hunter2")));
        source.proxy = Some(through.clone());
        let error = world.refuse(&source).await;
        assert!(!format!("{error:?}{}", chain(&error)).contains("hunter2"), "{error:?}");
        assert!(world.server.requests().is_empty());

        world.git.ask_at_once(&source);
        through.login = Some(("ada".to_owned(), secret("pa:ss @")));
        source.proxy = Some(through);
        world.accept(&source).await;
        let asked = proxy.asked();
        let last = asked.last().unwrap();
        assert!(last.allowed && last.target == "localhost:1", "{last:?}");
        if tls {
            // Over TLS a proxy hears of no token; and no server hears of the proxy's login.
            assert!(asked.iter().all(|asked| !asked.head.contains("t0ken")), "{asked:?}");
        }
        let requests = world.server.requests();
        assert!(requests.iter().all(|request| request.header("proxy-authorization").is_none()), "{requests:?}");
    }
}

#[tokio::test]
async fn through_a_proxy_a_redirect_to_another_host_is_not_followed_either() {
    let world = World::with("access-proxy-redirect", tls());
    world.commit(&[("a.yaml", "a: 1\n")]);
    let (proxy, mut source, through) = behind(&world, Speaks::Http, None);
    source.proxy = Some(through);
    source.credentials = Some(Credentials::Bearer(secret("t0ken")));
    let elsewhere = GitServer::start_with(world.scratch.path(), tls()).unwrap();
    world.server.inject(Fault::Redirect(format!("{}{{path}}", elsewhere.origin())));
    let error = world.refuse(&source).await;
    assert!(chain(&error).contains("another host"), "{}", chain(&error));
    assert!(elsewhere.requests().is_empty());
    assert!(proxy.asked().iter().all(|asked| asked.target == "localhost:1"), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_proxy_is_spoken_to_over_tls_where_its_address_says_so() {
    let world = World::with("access-proxy-tls", tls());
    world.commit(&[("a.yaml", "a: 1\n")]);
    let (_, mut source, _) = behind(&world, Speaks::Http, None);
    let names = vec![("localhost".to_owned(), world.server.addr())];
    let over = world.server.authority().unwrap().server_config().unwrap();
    let login = Some(("ada".to_owned(), "pa:ss".to_owned()));
    let proxy =
        ForwardProxy::start(ForwardProxyOptions { speaks: Speaks::Http, tls: Some(over), login, names }).unwrap();
    let login = Some(("ada".to_owned(), secret("pa:ss")));
    source.proxy = Some(Proxy { address: proxy.url().parse().unwrap(), login });
    assert!(proxy.url().starts_with("https://"));
    // Its certificate is judged as the server's is.
    let ca = source.ca.take();
    world.refuse(&source).await;
    assert!(proxy.asked().is_empty());
    source.ca = ca;
    world.git.ask_at_once(&source);
    world.accept(&source).await;
    assert!(proxy.asked().iter().all(|asked| asked.allowed && asked.target == "localhost:1"), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_redirect_takes_no_client_certificate_to_another_host() {
    let options = GitServerOptions { client_certificates: true, ..tls() };
    let world = World::with("access-mtls-redirect", options.clone());
    world.commit(&[("a.yaml", "a: 1\n")]);
    let elsewhere = GitServer::start_with(world.scratch.path(), options).unwrap();
    let mut source = world.source();
    source.client_certificate = Some(shown(&world.server, "node"));
    world.server.inject(Fault::Redirect(format!("{}{{path}}", elsewhere.origin())));
    let error = world.refuse(&source).await;
    assert!(chain(&error).contains("another host"), "{}", chain(&error));
    assert_eq!((world.server.requests().len(), elsewhere.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_client_certificate_goes_through_a_proxy() {
    let world = World::with("access-proxy-mtls", GitServerOptions { client_certificates: true, ..tls() });
    world.commit(&[("a.yaml", "a: 1\n")]);
    let (_proxy, mut source, through) = behind(&world, Speaks::Socks5, None);
    source.proxy = Some(through);
    source.client_certificate = Some(shown(&world.server, "node"));
    world.accept(&source).await;
}
