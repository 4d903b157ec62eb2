//! The real `git verify-commit`, with OpenSSH and GnuPG behind it, and our verifier agree on every commit of a matrix.
//!
//! Where we are stricter on purpose, the case says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use wickie::config::git::VerifyMode;
use wickie_testbench::need;

use crate::world::{World, branch, chain, named, signed_by};

/// What is to come of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// Git believes it, and we do not.
    Stricter,
}

pub(crate) struct Matrix {
    pub(crate) world: World,
    pub(crate) cases: usize,
}

impl Matrix {
    pub(crate) fn new(name: &str) -> Self {
        let world = World::new(name);
        world.repo.write("a.yaml", "a: 1\n").unwrap();
        world.repo.git(&["add", "--all", "."]).unwrap();
        Self { world, cases: 0 }
    }

    /// Makes a commit with the real git, signed with these settings.
    fn commit(&self, settings: &[String]) -> String {
        let tree = self.world.repo.git(&["write-tree"]).unwrap();
        let mut arguments = settings_of(settings);
        arguments.extend([
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=ada@example.org",
            "commit-tree",
            "-S",
            &tree,
            "-m",
            "pay 1",
        ]);
        self.world.repo.git(&arguments).unwrap()
    }

    /// Asks both, and compares.
    pub(crate) async fn judge(&mut self, what: &str, commit: &str, settings: &[String], keys: &str, expected: Verdict) {
        self.cases += 1;
        let mut arguments = settings_of(settings);
        arguments.extend(["verify-commit", commit]);
        let git = self.world.repo.git(&arguments);
        let name = format!("case-{}", self.cases);
        self.world.repo.set_ref(&format!("refs/heads/{name}"), commit).unwrap();
        let mut source = self.world.source();
        source.name = named(name.as_str());
        source.reference = branch(&name);
        source.verify = Some(signed_by(VerifyMode::Head, &[keys.to_owned()]));
        let ours = self.world.poll(&source).await.outcome;
        let ours_text = ours.as_ref().map_or_else(|error| chain(error), |_| "good".to_owned());
        let context = format!("{what}: git {git:?}, ours {ours_text}");
        assert_eq!(git.is_ok(), expected != Verdict::Bad, "{context}");
        assert_eq!(ours.is_ok(), expected == Verdict::Good, "{context}");
    }
}

fn settings_of(settings: &[String]) -> Vec<&str> {
    settings.iter().flat_map(|setting| ["-c", setting.as_str()]).collect()
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn ssh() {
    if need::ssh_keygen().is_none() {
        return need::skip("ssh-keygen is not installed: apt install openssh-client");
    }
    let mut matrix = Matrix::new("differential-ssh");
    let folder = matrix.world.scratch.folder("keys");
    let other = ssh_key(&folder, "other", "ed25519", "256");
    for (kind, bits, weak) in [
        ("ed25519", "256", false),
        ("ecdsa", "256", false),
        ("ecdsa", "384", false),
        ("ecdsa", "521", false),
        ("rsa", "2048", false),
        ("rsa", "4096", false),
        ("rsa", "1024", true),
    ] {
        let key = ssh_key(&folder, &format!("{kind}-{bits}"), kind, bits);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let allowed = |line: String| {
            let file = folder.join("allowed");
            std::fs::write(&file, &line).unwrap();
            let settings = vec!["gpg.format=ssh".to_owned(), format!("gpg.ssh.allowedSignersFile={}", file.display())];
            (settings, line)
        };
        let signing = vec!["gpg.format=ssh".to_owned(), format!("user.signingkey={}", key.display())];
        let good = matrix.commit(&signing);
        let tampered = matrix.world.repo.tampered(&good, "pay 1", "pay 9").unwrap();
        let verdict = |verdict: Verdict| if weak && verdict == Verdict::Good { Verdict::Stricter } else { verdict };

        let what = |case: &str| format!("{kind} {bits} {case}");
        let (settings, keys) = allowed(format!("ada@example.org {public}"));
        matrix.judge(&what("good"), &good, &settings, &keys, verdict(Verdict::Good)).await;
        matrix.judge(&what("changed"), &tampered, &settings, &keys, Verdict::Bad).await;
        for (options, expected) in [
            ("namespaces=\"git\"", Verdict::Good),
            ("namespaces=\"file,g*t\"", Verdict::Good),
            ("namespaces=\"file\"", Verdict::Bad),
            ("valid-after=\"20200101Z\"", Verdict::Good),
            ("valid-after=\"20990101Z\"", Verdict::Bad),
            ("valid-before=\"20990101Z\"", Verdict::Good),
            ("valid-before=\"20200101Z\"", Verdict::Bad),
            ("cert-authority", Verdict::Bad),
        ] {
            let (settings, keys) = allowed(format!("ada@example.org {options} {public}"));
            matrix.judge(&what(options), &good, &settings, &keys, verdict(expected)).await;
        }
        let (settings, keys) =
            allowed(format!("eve@example.org {}", std::fs::read_to_string(other.with_extension("pub")).unwrap()));
        matrix.judge(&what("by somebody else"), &good, &settings, &keys, Verdict::Bad).await;
        // For another namespace, through the same tool.
        let payload = folder.join("payload");
        let draft = matrix.world.repo.draft("refs/heads/none", "pay 1").unwrap();
        std::fs::write(&payload, draft.bytes(None)).unwrap();
        run(Command::new("ssh-keygen").args(["-Y", "sign", "-n", "file", "-f"]).arg(&key).arg(&payload));
        let signature = std::fs::read_to_string(payload.with_extension("sig")).unwrap();
        std::fs::remove_file(payload.with_extension("sig")).unwrap();
        let commit = matrix.world.repo.object("commit", &draft.bytes(Some(&signature))).unwrap();
        let (settings, keys) = allowed(format!("ada@example.org {public}"));
        matrix.judge(&what("for files"), &commit, &settings, &keys, Verdict::Bad).await;
    }
    println!("{} commits judged alike", matrix.cases);
}

pub(crate) fn ssh_key(folder: &Path, name: &str, kind: &str, bits: &str) -> PathBuf {
    let file = folder.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-t", kind, "-b", bits, "-f"]).arg(&file));
    file
}

/// A folder of gpg's. Its agent is stopped with it.
pub(crate) struct Gpg(PathBuf);

impl Gpg {
    pub(crate) fn new(folder: PathBuf) -> Self {
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self(folder)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.0).args([
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        run(command.args(arguments))
    }

    /// Makes a key; its fingerprint.
    pub(crate) fn key(&self, user: &str, kind: &str, usage: &str, expires: &str) -> String {
        self.run(&["--quick-gen-key", user, kind, usage, expires]);
        let list = self.run(&["--with-colons", "--list-keys", user]);
        list.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned()
    }

    /// Changes a key as one does by hand.
    fn edit(&self, key: &str, commands: &str) {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.0).args(["--command-fd", "0", "--no-tty", "--quiet", "--pinentry-mode"]);
        command.args(["loopback", "--passphrase", "", "--edit-key", key]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), commands.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{commands:?}");
    }

    pub(crate) fn public(&self, user: &str) -> String {
        self.run(&["--armor", "--export", user])
    }

    /// Settings of git to sign with this key and to verify with all of this folder.
    pub(crate) fn settings(&self, key: &str) -> Vec<String> {
        let program = self.0.join("gpg.sh");
        let script = format!(
            "#!/bin/sh\nexec gpg --homedir '{}' --batch --pinentry-mode loopback --passphrase '' \"$@\"\n",
            self.0.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        vec![format!("gpg.program={}", program.display()), format!("user.signingkey={key}")]
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.0).args(["--kill", "all"]).status();
    }
}

#[tokio::test]
async fn pgp() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let mut matrix = Matrix::new("differential-pgp");
    let gpg = Gpg::new(matrix.world.scratch.folder("g"));
    let other = Gpg::new(matrix.world.scratch.folder("o"));
    other.key("eve@example.org", "ed25519", "sign", "0");
    for kind in ["ed25519", "nistp256", "nistp384", "nistp521", "brainpoolP256r1", "rsa2048", "rsa4096", "dsa2048"] {
        let user = format!("{kind}@example.org");
        let key = gpg.key(&user, kind, "sign", "0");
        let settings = gpg.settings(&key);
        let good = matrix.commit(&settings);
        let tampered = matrix.world.repo.tampered(&good, "pay 1", "pay 9").unwrap();
        // There is no implementation of these curves in Rust that we would believe.
        let expected = if kind == "brainpoolP256r1" { Verdict::Stricter } else { Verdict::Good };
        let public = gpg.public(&user);
        matrix.judge(&format!("{kind} good"), &good, &settings, &public, expected).await;
        matrix.judge(&format!("{kind} changed"), &tampered, &settings, &public, Verdict::Bad).await;
        matrix
            .judge(
                &format!("{kind} by somebody else"),
                &good,
                &other.settings("x"),
                &other.public("eve@example.org"),
                Verdict::Bad,
            )
            .await;
    }

    // A primary key that certifies, and subkeys that sign; then one of them is revoked.
    let primary = gpg.key("sub@example.org", "ed25519", "cert", "0");
    gpg.run(&["--quick-add-key", &primary, "ed25519", "sign", "0"]);
    let settings = gpg.settings(&primary);
    let by_subkey = matrix.commit(&settings);
    matrix.judge("subkey", &by_subkey, &settings, &gpg.public("sub@example.org"), Verdict::Good).await;

    // A digest that is too weak.
    let weak = gpg.key("weak@example.org", "ed25519", "sign", "0");
    std::fs::write(gpg.0.join("gpg.conf"), "digest-algo SHA1\nallow-weak-digest-algos\n").unwrap();
    let commit = matrix.commit(&gpg.settings(&weak));
    std::fs::remove_file(gpg.0.join("gpg.conf")).unwrap();
    matrix.judge("SHA-1", &commit, &gpg.settings(&weak), &gpg.public("weak@example.org"), Verdict::Stricter).await;

    // A key that has expired since; a signature that has.
    let brief = gpg.key("brief@example.org", "ed25519", "sign", "seconds=2");
    let settings = gpg.settings(&brief);
    let commit = matrix.commit(&settings);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    matrix.judge("expired", &commit, &settings, &gpg.public("brief@example.org"), Verdict::Bad).await;

    // Revoked, also for what was signed before.
    let revoked = gpg.key("revoked@example.org", "ed25519", "sign", "0");
    let settings = gpg.settings(&revoked);
    let commit = matrix.commit(&settings);
    matrix.judge("not revoked yet", &commit, &settings, &gpg.public("revoked@example.org"), Verdict::Good).await;
    let file = gpg.0.join(format!("openpgp-revocs.d/{revoked}.rev"));
    let text = std::fs::read_to_string(&file).unwrap().replace(":-----BEGIN", "-----BEGIN");
    std::fs::write(&file, text).unwrap();
    gpg.run(&["--import", &file.display().to_string()]);
    matrix.judge("revoked", &commit, &settings, &gpg.public("revoked@example.org"), Verdict::Bad).await;
    println!("{} commits judged alike", matrix.cases);
}

/// What rPGP alone would let through: the rest of what gpg asks of a key and a signature.
#[tokio::test]
async fn pgp_traps() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let mut matrix = Matrix::new("differential-traps");
    let gpg = Gpg::new(matrix.world.scratch.folder("g"));
    let settle = || tokio::time::sleep(std::time::Duration::from_secs(4));
    for kind in ["ed25519", "rsa2048"] {
        // Subkeys: one that may sign no more, one that expires, one that is revoked; and the primary key that expires
        // above a subkey which does not.
        for (what, primary_expires, expires, edits) in [
            ("without the right to sign", "0", "0", "key 1\nchange-usage\ns\nq\nsave\n"),
            ("expired", "0", "seconds=3", ""),
            ("revoked", "0", "0", "key 1\nrevkey\ny\n0\n\ny\nsave\n"),
            ("of an expired key", "seconds=3", "0", ""),
        ] {
            let user = format!("{kind}-{}@example.org", what.replace(' ', "-"));
            let key = gpg.key(&user, kind, "cert", primary_expires);
            gpg.run(&["--quick-add-key", &key, kind, "sign,auth", expires]);
            let settings = gpg.settings(&key);
            let commit = matrix.commit(&settings);
            let name = |when: &str| format!("a {kind} subkey {what}, {when}");
            matrix.judge(&name("before"), &commit, &settings, &gpg.public(&user), Verdict::Good).await;
            match edits {
                "" => settle().await,
                edits => gpg.edit(&key, edits),
            }
            matrix.judge(&name("after"), &commit, &settings, &gpg.public(&user), Verdict::Bad).await;
            if primary_expires != "0" {
                gpg.run(&["--quick-set-expire", &key, "0"]);
                matrix.judge(&name("extended"), &commit, &settings, &gpg.public(&user), Verdict::Good).await;
            }
        }
    }
    // How the signature itself is made.
    for (what, configuration, expected) in [
        ("over a text", "textmode\n", Verdict::Good),
        ("older than its key", "ignore-time-conflict\nfaked-system-time 20200101T000000!\n", Verdict::Bad),
        ("over MD5", "digest-algo MD5\nallow-weak-digest-algos\n", Verdict::Bad),
        ("over RIPEMD160", "digest-algo RIPEMD160\nallow-weak-digest-algos\n", Verdict::Stricter),
        ("over SHA-384", "digest-algo SHA384\n", Verdict::Good),
        ("that has expired", "default-sig-expire seconds=2\n", Verdict::Bad),
    ] {
        let user = format!("{}@example.org", what.replace(' ', "-"));
        let key = gpg.key(&user, "rsa2048", "sign", "0");
        std::fs::write(gpg.0.join("gpg.conf"), configuration).unwrap();
        let settings = gpg.settings(&key);
        let commit = matrix.commit(&settings);
        std::fs::remove_file(gpg.0.join("gpg.conf")).unwrap();
        if configuration.contains("sig-expire") {
            settle().await;
        }
        matrix.judge(&format!("a signature {what}"), &commit, &settings, &gpg.public(&user), expected).await;
    }
    println!("{} commits judged alike", matrix.cases);
}
