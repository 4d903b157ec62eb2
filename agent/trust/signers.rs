//! The keys that a `verify` Secret holds, and the question asked of them.

use std::fmt;

use jiff::Timestamp;

use crate::{pgp, ssh};

/// The signers a source believes: every key of its Secret.
///
/// A key of the Secret is an armored OpenPGP key ring, or lines of SSH public keys (as in `authorized_keys` and Flux's
/// `.sshpub`), or OpenSSH `allowed_signers` lines. Which of them is decided by content, not by name.
#[derive(Clone, Debug, Default)]
pub struct Signers {
    pgp: pgp::KeyRing,
    ssh: Vec<ssh::Allowed>,
}

/// The two times that validity is judged by.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// When the object is adopted: the node's clock. OpenPGP keys are judged by it, as `gpg` does.
    pub now: Timestamp,
    /// When the object says it was made. SSH validity periods are judged by it, as `git verify-commit` does.
    pub signed: Timestamp,
}

/// What is signed. An SSH signature is for one purpose alone, its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A commit or a tag.
    Git,
    /// Leave for a step back.
    Permit,
}

impl Purpose {
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Permit => "wickie-permit",
        }
    }
}

/// A signer that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The fingerprint of the key: `SHA256:…` for SSH, hexadecimal for OpenPGP.
    pub key: String,
    /// What the key's owner is called there: principals, a comment, a user id. Words, not proof.
    pub name: Option<String>,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// Why a signature was not believed. The text ends a sentence that begins with the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum Refusal {
    #[error("is not signed")]
    Unsigned,
    #[error("carries a signature that cannot be read: {detail}")]
    Malformed { detail: String },
    #[error("is signed by the key {key}, which is not among the allowed signers")]
    UnknownKey { key: String },
    #[error("carries a signature of {signer} that does not fit its bytes: they were changed after signing")]
    BadSignature { signer: Signer },
    #[error("is signed by {signer}, whose validity ended at {ended}")]
    Expired { signer: Signer, ended: Timestamp },
    #[error("is signed by {signer}, which is not valid before {begins}")]
    NotYetValid { signer: Signer, begins: Timestamp },
    #[error("is signed by {signer}, whose key was revoked")]
    Revoked { signer: Signer },
    #[error("is signed by {signer} for the namespace {namespace:?}, not for {expected:?}")]
    WrongNamespace { signer: Signer, namespace: String, expected: &'static str },
    #[error("is signed by {signer}, which may not sign for the namespace {expected:?}")]
    NamespaceNotAllowed { signer: Signer, expected: &'static str },
    #[error("is signed by {signer}, a key without the right to sign data")]
    NotForSigning { signer: Signer },
    #[error("is signed by {signer} with {what}, which is too weak to be believed")]
    Weak { signer: Signer, what: String },
}

/// A key of the Secret that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the key {name:?} holds no usable signer: {detail}")]
pub struct SignersError {
    /// The key's name in the Secret.
    pub name: String,
    /// What is wrong with it, with the line where there are lines.
    pub detail: String,
}

/// A Secret holds at most 1 MiB; what is longer did not come from one.
const LONGEST: usize = 1 << 20;

impl Signers {
    /// Reads the keys of a Secret. A key that cannot be read is an error: a signer must not vanish in silence.
    pub fn parse<'a>(keys: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, SignersError> {
        let mut signers = Self::default();
        for (name, bytes) in keys {
            let failed = |detail: String| SignersError { name: name.to_owned(), detail };
            if bytes.len() > LONGEST {
                return Err(failed(format!("it is longer than {LONGEST} bytes")));
            }
            let text = std::str::from_utf8(bytes).map_err(|_| failed("it is not text".to_owned()))?;
            if text.contains(pgp::ARMOR) {
                signers.pgp.add(text).map_err(failed)?;
            } else {
                signers.ssh.extend(ssh::parse(text).map_err(failed)?);
            }
        }
        Ok(signers)
    }

    /// Whether there is nobody to believe.
    pub fn is_empty(&self) -> bool {
        self.pgp.is_empty() && self.ssh.is_empty()
    }

    /// Who signed `payload`, a commit or a tag, if it is one of these signers and the signature holds.
    pub fn verify(&self, payload: &[u8], signature: Option<&[u8]>, at: At) -> Result<Signer, Refusal> {
        self.verify_for(Purpose::Git, payload, signature, at)
    }

    /// Like [`Signers::verify`], for another purpose.
    pub fn verify_for(
        &self,
        purpose: Purpose,
        payload: &[u8],
        signature: Option<&[u8]>,
        at: At,
    ) -> Result<Signer, Refusal> {
        let signature = signature.ok_or(Refusal::Unsigned)?;
        let text = std::str::from_utf8(signature)
            .map_err(|_| Refusal::Malformed { detail: "it is not text".to_owned() })?
            .trim_start();
        // Git tells the formats apart by their first line: gpg-interface.c, `get_format_by_sig`.
        if text.starts_with("-----BEGIN SSH SIGNATURE-----") {
            ssh::verify(&self.ssh, purpose, payload, text, at)
        } else if text.starts_with("-----BEGIN PGP SIGNATURE-----") || text.starts_with("-----BEGIN PGP MESSAGE-----") {
            self.pgp.verify(payload, text, at)
        } else if text.starts_with("-----BEGIN SIGNED MESSAGE-----") {
            Err(Refusal::Malformed {
                detail: "it is an X.509 signature; sign with an SSH or OpenPGP key instead".to_owned(),
            })
        } else {
            Err(Refusal::Malformed { detail: "it is neither an SSH nor an OpenPGP signature".to_owned() })
        }
    }
}
