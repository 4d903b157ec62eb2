//! SSH, against OpenSSH's own server.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use wickie::config::git::{Credentials, GitSource, GitUrl};
use wickie::config::git_access::Proxy;
use wickie::config::secret::Secret;
use wickie::source::{PollOutcome, SourceErrorClass};
use wickie_testbench::child::Child;
use wickie_testbench::port::Port;
use wickie_testbench::{ForwardProxy, ForwardProxyOptions, Speaks, SshKey, eventually, need};

use crate::world::{World, chain, named};

/// A running sshd that lets the key `ada` in.
struct Sshd {
    port: u16,
    host_key: SshKey,
    _child: Child,
}

/// Starts one; `environment` says whether it takes `GIT_PROTOCOL` from the client.
async fn start(world: &World, sshd: PathBuf, environment: bool) -> Sshd {
    let folder = world.scratch.folder("sshd");
    let host_key = SshKey::named("host");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let host = write("host", &host_key.private());
    let authorized = write("authorized", &world.ada.public());
    let port = Port::free().unwrap();
    let accept = if environment { "AcceptEnv GIT_PROTOCOL" } else { "" };
    let config = write(
        "config",
        &format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey {host}\nAuthorizedKeysFile {authorized}\nStrictModes no\n\
             PidFile none\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n{accept}\n",
            port.number()
        ),
    );
    // What the system's own unit makes; without it sshd does not start as root.
    let _ = std::fs::create_dir_all("/run/sshd");
    let mut command = Command::new(sshd);
    command.args(["-D", "-e", "-f", &config]);
    let child = Child::spawn("sshd", &command, &folder.join("log")).unwrap();
    let number = port.number();
    eventually("sshd listens", Duration::from_secs(20), || async move {
        tokio::net::TcpStream::connect(("127.0.0.1", number)).await?;
        anyhow::Ok(())
    })
    .await;
    Sshd { port: number, host_key, _child: child }
}

fn source(world: &World, sshd: &Sshd) -> GitSource {
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), sshd.port, world.repo.bare().display());
    let mut source = world.source();
    source.url = GitUrl::parse(&url).unwrap();
    source.credentials = Some(credentials(&world.ada, &sshd.host_key, sshd.port));
    source
}

fn credentials(identity: &SshKey, host_key: &SshKey, port: u16) -> Credentials {
    Credentials::Ssh {
        identity: Secret::new(identity.private()),
        passphrase: None,
        known_hosts: format!("[127.0.0.1]:{port} {}\n", host_key.public()),
    }
}

#[tokio::test]
async fn a_fetch_over_ssh_with_and_without_the_new_protocol() {
    let Some(sshd) = need::sshd() else { return need::skip("sshd is not installed: apt install openssh-server") };
    for environment in [true, false] {
        let world = World::new("ssh");
        world.commit(&[("a.yaml", "a: 1\n")]);
        let sshd = start(&world, sshd.clone(), environment).await;
        let source = source(&world, &sshd);
        world.accept(&source).await;
        assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
        for number in 0..3 {
            world.commit(&[("a.yaml", &format!("a: {number}\n")), ("b/c.yaml", "c: 1\n")]);
        }
        let snapshot = world.accept(&source).await;
        assert_eq!(snapshot.files("").await.unwrap().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn ssh_goes_through_a_proxy_and_believes_the_same_host_key() {
    let Some(sshd) = need::sshd() else { return need::skip("sshd is not installed: apt install openssh-server") };
    let world = World::new("ssh-proxy");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let sshd = start(&world, sshd, true).await;
    for speaks in [Speaks::Socks5, Speaks::Http] {
        let names = vec![("git.test".to_owned(), ([127, 0, 0, 1], sshd.port).into())];
        let login = Some(("ada".to_owned(), "pa:ss".to_owned()));
        let proxy = ForwardProxy::start(ForwardProxyOptions { speaks, tls: None, login, names }).unwrap();
        let mut source = source(&world, &sshd);
        source.name = named(format!("{speaks:?}").to_lowercase());
        // A name that is known behind the proxy alone, and by which known_hosts has the key.
        source.url = GitUrl::parse(&source.url.to_string().replace("127.0.0.1", "git.test")).unwrap();
        source.credentials = Some(Credentials::Ssh {
            identity: Secret::new(world.ada.private()),
            passphrase: None,
            known_hosts: format!("[git.test]:{} {}\n", sshd.port, sshd.host_key.public()),
        });
        let address = proxy.url().parse().unwrap();
        source.proxy = Some(Proxy { address, login: Some(("ada".to_owned(), Secret::new("wrong1234".to_owned()))) });
        let text = chain(&world.refuse(&source).await);
        assert!(text.contains("the proxy") && !text.contains("wrong1234"), "{text}");
        world.git.ask_at_once(&source);
        if let Some(proxy) = &mut source.proxy {
            proxy.login = Some(("ada".to_owned(), Secret::new("pa:ss".to_owned())));
        }
        world.accept(&source).await;
        assert!(matches!(world.poll(&source).await.outcome, Ok(PollOutcome::Unchanged(_))));
        let asked = proxy.asked();
        assert_eq!(asked.last().unwrap().target, format!("git.test:{}", sshd.port));
        source.credentials = Some(credentials(&world.ada, &sshd.host_key, sshd.port));
        assert!(chain(&world.refuse(&source).await).contains("has none for this host"));
    }
}

#[tokio::test]
async fn who_is_not_known_is_not_spoken_to() {
    let Some(sshd) = need::sshd() else { return need::skip("sshd is not installed: apt install openssh-server") };
    let world = World::new("ssh-known");
    world.commit(&[("a.yaml", "a: 1\n")]);
    let sshd = start(&world, sshd, true).await;
    let mut source = source(&world, &sshd);

    source.credentials = Some(credentials(&world.ada, &SshKey::named("other"), sshd.port));
    let error = world.refuse(&source).await;
    assert_eq!((error.class(), error.reason()), (SourceErrorClass::Auth, "AuthenticationFailed"));
    let text = chain(&error);
    assert!(text.contains(&sshd.host_key.fingerprint()) && text.contains("another one for this host"), "{text}");

    source.credentials = Some(credentials(&world.ada, &sshd.host_key, sshd.port + 1));
    assert!(chain(&world.refuse(&source).await).contains("has none for this host"));

    source.credentials = Some(credentials(&SshKey::named("eve"), &sshd.host_key, sshd.port));
    let error = world.refuse(&source).await;
    assert_eq!(error.class(), SourceErrorClass::Auth);
    assert!(chain(&error).contains(&SshKey::named("eve").fingerprint()), "{}", chain(&error));

    source.credentials = None;
    assert_eq!(world.refuse(&source).await.class(), SourceErrorClass::InvalidSpec);
    source.credentials = Some(credentials(&world.ada, &sshd.host_key, sshd.port));
    let url = format!("{}-nowhere", source.url);
    world.accept(&source).await;
    source.url = GitUrl::parse(&url).unwrap();
    let text = chain(&world.refuse(&source).await);
    assert!(text.contains("would not run") && text.contains("does not appear to be a git repository"), "{text}");
}
