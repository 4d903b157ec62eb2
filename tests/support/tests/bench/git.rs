use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use wickie_testbench::{
    Auth, Fault, GitServer, GitServerOptions, PgpKey, Relay, RelayOptions, Repo, Scratch, Signer, SshKey, eventually,
    manifests, need, repo,
};

fn git(home: &Path, args: &[&str]) -> Output {
    repo::isolated(home).args(args).output().expect("git runs")
}

fn clone(home: &Path, url: &str) -> Output {
    let target = home.join("clone").display().to_string();
    let _ = std::fs::remove_dir_all(&target);
    git(home, &["-c", "protocol.version=2", "clone", "--quiet", url, &target])
}

/// A repository with one commit of a few hundred files, large enough to be cut.
fn fleet(root: &Path) -> Repo {
    let repo = Repo::create(root, "fleet").expect("git init");
    repo.write_all(&manifests::many(200, None)).expect("writes");
    repo.commit("first", &Signer::Nobody).expect("commits");
    repo
}

#[test]
fn the_real_git_clones_and_the_bytes_are_counted() {
    let scratch = Scratch::new("git");
    let repo = fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    let output = clone(&scratch, &server.url("fleet"));
    assert!(output.status.success(), "{output:?}");
    let head = git(&scratch, &["-C", &scratch.join("clone").display().to_string(), "rev-parse", "HEAD"]);
    assert_eq!(String::from_utf8_lossy(&head.stdout).trim(), repo.id("main").expect("has a commit"));
    // Protocol v2: capabilities, refs, pack.
    let log = server.requests();
    assert_eq!(log.len(), 3, "{log:?}");
    assert_eq!(server.fetches(), 1);
    assert!(
        log.iter().all(|request| request.status == Some(200) && request.header("git-protocol") == Some("version=2"))
    );
    assert!(log[2].response_bytes > 10_000 && log[2].request_bytes > 100, "{:?}", log[2]);
    assert!(log.iter().all(|request| request.took.is_some()));
}

#[test]
fn a_partial_clone_leaves_the_blobs_away() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    let (whole, part) = (scratch.join("whole").display().to_string(), scratch.join("part").display().to_string());
    assert!(git(&scratch, &["clone", "--quiet", "--bare", &server.url("fleet"), &whole]).status.success());
    let all = server.bytes_sent();
    server.forget();
    assert!(
        git(&scratch, &["clone", "--quiet", "--bare", "--filter=blob:none", &server.url("fleet"), &part])
            .status
            .success()
    );
    assert!(server.bytes_sent() * 2 < all, "{} of {all}", server.bytes_sent());
}

#[test]
fn https_with_a_ca_and_a_password() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let auth = Auth::Basic { user: "ada".into(), password: "s3cret".into() };
    let server =
        GitServer::start_with(&scratch, GitServerOptions { tls: true, auth, ..Default::default() }).expect("starts");
    let ca = scratch.join("ca.pem");
    std::fs::write(&ca, server.ca().expect("speaks TLS")).expect("writes");
    let with_ca = |url: &str, more: &[&str]| {
        let ca = format!("http.sslCAInfo={}", ca.display());
        git(&scratch, &[&["-c", &ca], more, &["ls-remote", url]].concat())
    };
    let url = server.url("fleet");
    assert!(!git(&scratch, &["ls-remote", &url]).status.success(), "nobody trusts this CA");
    assert!(!with_ca(&url, &[]).status.success(), "no password");
    assert!(!with_ca(&url.replace("://", "://ada:wrong@"), &[]).status.success(), "wrong password");
    assert!(with_ca(&url.replace("://", "://ada:s3cret@"), &[]).status.success());
    server.set_auth(Auth::Bearer("token".into()));
    assert!(with_ca(&url, &["-c", "http.extraHeader=Authorization: Bearer token"]).status.success());
}

#[test]
fn a_cut_pack_fails_the_clone_and_the_next_one_works() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    server.inject(Fault::Cut { after: 5_000 }.on(wickie_testbench::git_server::is_fetch).once());
    assert!(!clone(&scratch, &server.url("fleet")).status.success());
    let cut = server.requests_where(|request| request.fault.is_some());
    assert_eq!(cut.len(), 1);
    assert_eq!(cut[0].response_bytes, 5_000);
    assert!(clone(&scratch, &server.url("fleet")).status.success());
}

#[test]
fn a_corrupted_pack_is_noticed_by_git() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    server.inject(Fault::Corrupt { offset: 5_000 }.on(wickie_testbench::git_server::is_fetch));
    assert!(!clone(&scratch, &server.url("fleet")).status.success());
    server.heal();
    assert!(clone(&scratch, &server.url("fleet")).status.success());
}

#[test]
fn down_is_refused_and_up_is_the_same_port() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    let url = server.url("fleet");
    server.down();
    let output = git(&scratch, &["ls-remote", &url]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Failed to connect"), "{output:?}");
    server.up();
    assert!(git(&scratch, &["ls-remote", &url]).status.success());
}

#[tokio::test]
async fn a_stalled_request_is_accepted_and_never_answered() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    server.inject(Fault::Stall);
    let mut command = repo::isolated(&scratch);
    let mut client = command.args(["ls-remote", &server.url("fleet")]).spawn().expect("git runs");
    eventually("the request is there", Duration::from_secs(20), || async {
        anyhow::ensure!(server.count(|request| request.fault == Some(Fault::Stall)) == 1, "{:?}", server.requests());
        Ok(())
    })
    .await;
    assert_eq!(server.requests()[0].status, None);
    // Breaking the connection is what ends it.
    server.down();
    assert!(!client.wait().expect("ends").success());
}

#[test]
fn a_redirect_leads_to_another_server() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let (here, there) = (GitServer::start(&scratch).expect("starts"), GitServer::start(&scratch).expect("starts"));
    here.inject(Fault::Redirect(format!("{}{{path}}", there.origin())));
    assert!(clone(&scratch, &here.url("fleet")).status.success());
    assert_eq!(there.fetches(), 1);
}

#[test]
fn a_relay_passes_everything_or_cuts() {
    let scratch = Scratch::new("git");
    fleet(&scratch);
    let server = GitServer::start(&scratch).expect("starts");
    let relay = Relay::start(server.addr(), RelayOptions::default()).expect("starts");
    let url = format!("http://{}/fleet.git", relay.addr());
    assert!(clone(&scratch, &url).status.success());
    assert!(relay.passed() > server.bytes_sent());
    relay.set(RelayOptions { seed: 1, cut_every: Some(2_000), ..Default::default() });
    assert!(!clone(&scratch, &url).status.success());
    relay.set(RelayOptions { seed: 1, corrupt_every: Some(2_000), ..Default::default() });
    assert!(!clone(&scratch, &url).status.success());
}

#[test]
fn ssh_keygen_believes_our_signatures() {
    let Some(_) = need::ssh_keygen() else {
        return need::skip("ssh-keygen is not installed: apt install openssh-client");
    };
    let scratch = Scratch::new("sign");
    let repo = Repo::create(&scratch, "fleet").expect("git init");
    let (ada, eve) = (SshKey::named("ada"), SshKey::named("eve"));
    let allowed = scratch.join("allowed_signers");
    std::fs::write(&allowed, ada.allowed_signer("ada@example.com") + "\n").expect("writes");
    let verified = |kind: &str, id: &str| {
        let setting = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
        repo.git(&["-c", &setting, kind, id]).is_ok()
    };
    repo.write("a.yaml", "a: 1\n").expect("writes");
    let good = repo.commit("good", &ada.signer()).expect("commits");
    assert!(verified("verify-commit", &good));
    let foreign = repo.commit("by a key that nobody knows", &eve.signer()).expect("commits");
    assert!(!verified("verify-commit", &foreign));
    let changed = repo.tampered(&good, "good", "evil").expect("writes");
    assert!(!verified("verify-commit", &changed));
    repo.tag("v1", &good, "one", &ada.signer()).expect("tags");
    assert!(verified("verify-tag", "v1"));
    let forged = repo.tampered(&repo.id("refs/tags/v1").expect("is there"), &good, &foreign).expect("writes");
    repo.set_ref("refs/tags/v1", &forged).expect("moves");
    assert!(!verified("verify-tag", "v1"));
    assert!(repo.git(&["fsck", "--strict"]).is_ok());
}

#[test]
fn gpg_believes_its_own_signatures_until_the_key_is_revoked() {
    let Some(_) = need::gpg() else { return need::skip("gpg is not installed: apt install gnupg") };
    let scratch = Scratch::new("pgp");
    let repo = Repo::create(&scratch, "fleet").expect("git init");
    let key = PgpKey::generate(&scratch.join("gnupg"), "Ada <ada@example.com>", "0").expect("gpg makes a key");
    assert!(key.public().expect("exports").starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    repo.write("a.yaml", "a: 1\n").expect("writes");
    let id = repo.commit("good", &key.signer()).expect("commits");
    let verify = || {
        let mut command = Command::new("git");
        command
            .args(["verify-commit", "--raw", &id])
            .env("GIT_DIR", repo.bare())
            .env("GNUPGHOME", scratch.join("gnupg"));
        String::from_utf8_lossy(&command.output().expect("git runs").stderr).into_owned()
    };
    assert!(verify().contains("GOODSIG"), "{}", verify());
    key.revoke().expect("revokes");
    assert!(verify().contains("REVKEYSIG"), "{}", verify());
}
