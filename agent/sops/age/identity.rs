//! Private keys, and the stanzas they open.

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::hybrid::Hybrid;
use super::ssh::{SshEd25519, SshRsa};
use super::{Stanza, bech32, primitives};
use crate::error::KeyError;

/// A private key of one of the kinds that files are encrypted for.
pub(crate) enum Identity {
    X25519(X25519),
    Hybrid(Box<Hybrid>),
    SshEd25519(SshEd25519),
    SshRsa(Box<SshRsa>),
}

/// The native key: `AGE-SECRET-KEY-1..`.
pub(crate) struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
}

impl Identity {
    /// The file key, where the stanza is for this key.
    pub(super) fn unwrap(&self, stanza: &Stanza<'_>) -> Option<Zeroizing<Vec<u8>>> {
        match (self, stanza.kind) {
            (Self::X25519(key), "X25519") => key.unwrap(stanza),
            (Self::Hybrid(key), "mlkem768x25519") => key.unwrap(stanza),
            (Self::SshEd25519(key), "ssh-ed25519") => key.unwrap(stanza),
            (Self::SshRsa(key), "ssh-rsa") => key.unwrap(stanza),
            _ => None,
        }
    }

    /// Every identity in an entry, a line each, as `age-keygen` writes them; or an SSH private key.
    pub(crate) fn read_all(entry: &str, text: &str) -> Result<Vec<Self>, KeyError> {
        let mut identities = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let malformed = |why| KeyError::Malformed { entry: entry.to_owned(), line: at + 1, why };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.starts_with("-----BEGIN ") {
                identities.push(Self::read(line.trim_end()).map_err(malformed)?);
                continue;
            }
            let mut block = Zeroizing::new(format!("{line}\n"));
            loop {
                let (_, line) = lines.next().ok_or_else(|| malformed("the private key that begins here has no end"))?;
                block.push_str(line);
                block.push('\n');
                if line.starts_with("-----END ") {
                    break;
                }
            }
            identities.push(super::ssh::read(&block).map_err(malformed)?);
        }
        match identities.is_empty() {
            true => Err(KeyError::Malformed { entry: entry.to_owned(), line: 1, why: "it holds no identity" }),
            false => Ok(identities),
        }
    }

    fn read(line: &str) -> Result<Self, &'static str> {
        const BROKEN: &str = "the identity is damaged: its checksum does not fit";
        if line.starts_with("AGE-PLUGIN-") {
            return Err("identities of plugins run a program, and none is run: use a key of age-keygen");
        }
        let key = |prefix| bech32::decode(line, prefix).filter(|key| key.len() == 32).ok_or(BROKEN);
        if line.starts_with("AGE-SECRET-KEY-PQ-1") {
            return Ok(Self::Hybrid(Box::new(Hybrid::new(&key("age-secret-key-pq-")?).ok_or(BROKEN)?)));
        }
        if line.starts_with("AGE-SECRET-KEY-1") {
            let bytes: [u8; 32] = key("age-secret-key-")?.as_slice().try_into().map_err(|_| BROKEN)?;
            let secret = StaticSecret::from(bytes);
            return Ok(Self::X25519(X25519 { public: PublicKey::from(&secret), secret }));
        }
        Err("it is no age identity: one begins with AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1")
    }
}

impl X25519 {
    fn unwrap(&self, stanza: &Stanza<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let [share] = stanza.args.as_slice() else { return None };
        let share = super::point(share)?;
        let shared = self.secret.diffie_hellman(&share);
        if !shared.was_contributory() {
            return None;
        }
        let salt = [share.as_bytes().as_slice(), self.public.as_bytes()].concat();
        let key = primitives::hkdf(&salt, shared.as_bytes(), b"age-encryption.org/v1/X25519");
        primitives::open_file_key(&key, [0; 12], &stanza.body)
    }
}
