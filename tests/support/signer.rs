//! Who signs commits and tags.
//!
//! SSH signatures are made here, with the ssh-key crate, and not by `git commit -S`, which would need ssh-keygen. That they are what the
//! world means by an SSH signature is tested against ssh-keygen, where there is one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use crate::child::Child;

/// How an object is signed.
#[derive(Clone, Debug)]
pub enum Signer {
    /// Not at all.
    Nobody,
    /// By an SSH key.
    Ssh(SshKey),
    /// By a PGP key.
    Pgp(PgpKey),
}

impl Signer {
    /// The armored signature of `payload`.
    ///
    /// # Errors
    /// When gpg fails.
    pub fn sign(&self, payload: &[u8]) -> Result<Option<String>> {
        match self {
            Self::Nobody => Ok(None),
            Self::Ssh(key) => key.sign(payload).map(Some),
            Self::Pgp(key) => key.sign(payload).map(Some),
        }
    }
}

/// An ed25519 key. The same name always gives the same key: a fixture can name it, and it is a secret to nobody.
#[derive(Clone, Debug)]
pub struct SshKey {
    key: Arc<PrivateKey>,
}

impl SshKey {
    /// The key of this name; the name is its comment.
    ///
    /// # Panics
    /// Never: any 32 bytes are an ed25519 key.
    pub fn named(name: &str) -> Self {
        let seed: [u8; 32] = Sha256::digest(format!("wickie test key {name}")).into();
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        Self { key: Arc::new(PrivateKey::new(pair, name).expect("any 32 bytes are an ed25519 key")) }
    }

    /// `ssh-ed25519 AAAA... name`.
    ///
    /// # Panics
    /// Never.
    pub fn public(&self) -> String {
        self.key.public_key().to_openssh().expect("a public key can be written")
    }

    /// The private key in OpenSSH's format.
    ///
    /// # Panics
    /// Never.
    pub fn private(&self) -> String {
        self.key.to_openssh(LineEnding::LF).expect("a private key can be written").to_string()
    }

    /// `SHA256:...`.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// A line of an allowed_signers file.
    pub fn allowed_signer(&self, principal: &str) -> String {
        format!("{principal} namespaces=\"git\" {}", self.public())
    }

    /// As a signer.
    pub fn signer(&self) -> Signer {
        Signer::Ssh(self.clone())
    }

    /// A signature in another namespace than `git`, which must not count for a commit.
    ///
    /// # Errors
    /// When the namespace is empty.
    pub fn sign_for(&self, namespace: &str, payload: &[u8]) -> Result<String> {
        Ok(self.key.sign(namespace, HashAlg::Sha512, payload)?.to_pem(LineEnding::LF)?)
    }

    fn sign(&self, payload: &[u8]) -> Result<String> {
        self.sign_for("git", payload)
    }
}

/// A PGP key in a keyring of its own. Needs gpg: see [`need::gpg`](crate::need::gpg).
#[derive(Clone, Debug)]
pub struct PgpKey {
    keyring: Arc<Keyring>,
    fingerprint: String,
}

/// A folder of gpg's, and the agent that holds its secret keys. gpg would start the agent by itself, as a daemon that outlives the test.
#[derive(Debug)]
struct Keyring {
    home: PathBuf,
    _agent: Child,
}

impl PgpKey {
    /// Makes an ed25519 key for `user` (`Name <mail>`) that expires as gpg understands it: `0` never, `1d`, `seconds=5`.
    /// `home` must be a short path: gpg's agent listens on a socket in it.
    ///
    /// # Errors
    /// When gpg is not there or refuses.
    pub fn generate(home: &Path, user: &str, expires: &str) -> Result<Self> {
        let keyring = Keyring::create(home)?;
        keyring.gpg(&["--quick-gen-key", user, "ed25519", "sign", expires], b"")?;
        let list = String::from_utf8(keyring.gpg(&["--with-colons", "--list-secret-keys", user], b"")?)?;
        let line = list.lines().rfind(|line| line.starts_with("fpr:")).context("gpg lists the key that it made")?;
        let fingerprint = line.split(':').nth(9).context("a fingerprint is the tenth field")?.to_owned();
        Ok(Self { keyring: Arc::new(keyring), fingerprint })
    }

    /// 40 hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The armored public key.
    ///
    /// # Errors
    /// When gpg fails.
    pub fn public(&self) -> Result<String> {
        Ok(String::from_utf8(self.keyring.gpg(&["--armor", "--export", &self.fingerprint], b"")?)?)
    }

    /// Revokes the key: the public key from now on says so.
    ///
    /// # Errors
    /// When gpg fails.
    pub fn revoke(&self) -> Result<()> {
        // gpg writes a revocation beside every key it makes, with a colon before the armor so that nobody imports it by mistake.
        let file = self.keyring.home.join(format!("openpgp-revocs.d/{}.rev", self.fingerprint));
        let text = std::fs::read_to_string(&file)?.replace(":-----BEGIN", "-----BEGIN");
        self.keyring.gpg(&["--import"], text.as_bytes())?;
        Ok(())
    }

    /// As a signer.
    pub fn signer(&self) -> Signer {
        Signer::Pgp(self.clone())
    }

    fn sign(&self, payload: &[u8]) -> Result<String> {
        let signature = self.keyring.gpg(&["--armor", "--detach-sign", "--local-user", &self.fingerprint], payload)?;
        Ok(String::from_utf8(signature)?)
    }
}

impl Keyring {
    fn create(home: &Path) -> Result<Self> {
        std::fs::create_dir_all(home)?;
        std::fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let mut command = Command::new("gpg-agent");
        command.arg("--homedir").arg(home).args(["--daemon", "--no-detach", "--allow-loopback-pinentry"]);
        let mut agent = Child::spawn("gpg-agent", &command, &home.join("agent.log"))?;
        let mut socket = Command::new("gpgconf");
        socket.arg("--homedir").arg(home).args(["--list-dirs", "agent-socket"]);
        let socket = PathBuf::from(String::from_utf8(socket.output().context("run gpgconf")?.stdout)?.trim_end());
        while !socket.exists() {
            agent.check()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { home: home.to_owned(), _agent: agent })
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.home).args(["--batch", "--yes", "--quiet", "--no-autostart"]);
        command.args(["--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run gpg")?;
        child.stdin.take().context("stdin is piped")?.write_all(input)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "gpg {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}
