//! Gitea, a real Git host, over HTTPS and over SSH: a private repository, followed by token and by key.

use wickie::config::git::{Credentials, GitSource, GitUrl};
use wickie::config::secret::Secret;
use wickie::source::{PollOutcome, SourceErrorClass};
use wickie_testbench::repo::isolated;
use wickie_testbench::{Gitea, SshKey, gitea};

use crate::world::{World, chain, named};

/// Pushes the branch `main`, as a person does.
fn push(world: &World, host: &Gitea) {
    let ca = world.scratch.path().join("gitea-ca.pem");
    std::fs::write(&ca, host.ca()).unwrap();
    let mut command = isolated(&world.scratch.path().join("home"));
    let url = host.https_url("fleet").replace("https://", &format!("https://{}:{}@", gitea::USER, host.token()));
    command.arg("-C").arg(world.repo.bare()).arg("-c").arg(format!("http.sslCAInfo={}", ca.display()));
    let output = command.args(["push", "--quiet", &url, "main:main"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_private_repository_over_https_and_over_ssh() {
    let world = World::new("gitea");
    let host = Gitea::start(&world.scratch.folder("gitea")).await.unwrap();
    host.create_repository("fleet").await.unwrap();
    let key = SshKey::named("node");
    host.add_key("node", &key).await.unwrap();
    world.commit(&[("a.yaml", "a: 1\n"), ("b/c.yaml", "c: 1\n")]);
    push(&world, &host);

    let source = |name: &str, url: &str, credentials: Option<Credentials>| -> GitSource {
        let mut source = world.source();
        source.name = named(name);
        source.url = GitUrl::parse(url).unwrap();
        source.ca = Some(host.ca().as_bytes().to_vec());
        source.credentials = credentials;
        source
    };
    let password = Secret::new(host.token().to_owned());
    let basic = Credentials::Basic { username: gitea::USER.to_owned(), password };
    let ssh = |identity: &SshKey| Credentials::Ssh {
        identity: Secret::new(identity.private()),
        passphrase: None,
        known_hosts: host.known_hosts(),
    };
    let https = source("https", &host.https_url("fleet"), Some(basic));
    let shell = source("ssh", &host.ssh_url("fleet"), Some(ssh(&key)));

    for (source, stranger) in [
        (&https, source("https", &host.https_url("fleet"), None)),
        (&shell, source("ssh", &host.ssh_url("fleet"), Some(ssh(&SshKey::named("eve"))))),
    ] {
        let error = world.refuse(&stranger).await;
        assert_eq!(error.class(), SourceErrorClass::Auth, "{}", chain(&error));
        assert_eq!(world.accept(source).await.files("").await.unwrap().unwrap().len(), 2);
        assert!(matches!(world.poll(source).await.outcome, Ok(PollOutcome::Unchanged(_))));
    }
    for number in 0..3 {
        world.commit(&[("a.yaml", &format!("a: {number}{number}\n"))]);
    }
    let newest = world.commit(&[("new.yaml", "n: 1\n")]);
    push(&world, &host);
    for source in [&https, &shell] {
        let snapshot = world.accept(source).await;
        assert_eq!(snapshot.revision().commit().to_string(), newest);
        assert_eq!(snapshot.files("").await.unwrap().unwrap().len(), 3);
        let polled = world.poll(source).await;
        assert!(matches!(polled.outcome, Ok(PollOutcome::Unchanged(_))));
        println!("{}: a poll with nothing new: {:?}", source.url, polled.traffic);
    }
    // What the pipeline sees there: a status on the commit, and a call when something is pushed.
    let status = serde_json::json!({ "state": "success", "context": "wickie/test", "description": "seen" });
    host.api("POST", &format!("/repos/{}/fleet/statuses/{newest}", gitea::USER), Some(status)).await.unwrap();
    assert_eq!(host.statuses("fleet", &newest).await.unwrap()[0]["context"], "wickie/test");
}
