//! The keys that a `verify` Secret holds, and the question asked of them.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Fingerprints of keys that are believed no more, whoever lists them.
    revoked: BTreeSet<String>,
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
    /// A version of the trust file.
    Trust,
}

impl Purpose {
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Permit => "wickie-permit",
            Self::Trust => "wickie-trust",
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
    /// Whose key it is.
    pub owner: Box<Owner>,
}

/// Whom a signature counts for, where several are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name that the key is listed under, or its principals, or the primary key. `GROUP/PRINCIPAL` for a certificate
    /// of a listed authority.
    pub name: String,
    /// The name that the certificate's authority is listed under.
    pub group: Option<String>,
    /// The fingerprint of the key that vouches for this one: a certificate's authority, a subkey's primary key.
    pub issuer: Option<String>,
}

impl Signer {
    /// Whether a list of names means this signer: its owner, or the authority that vouches for it.
    pub fn is_one_of(&self, names: &[String]) -> bool {
        names.iter().any(|name| *name == self.owner.name || Some(name) == self.owner.group.as_ref())
    }
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
    #[error("is signed by {signer} with a certificate that {detail}")]
    Certificate { signer: Signer, detail: String },
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
            signers.add(None, bytes).map_err(|detail| SignersError { name: name.to_owned(), detail })?;
        }
        Ok(signers)
    }

    /// Reads keys that are listed under their owners' names. A key that two of them list is an error: its signature would
    /// count for either.
    pub fn named<'a>(owners: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, SignersError> {
        let mut signers = Self::default();
        let mut listed = BTreeMap::new();
        for (owner, bytes) in owners {
            let failed = |detail: String| SignersError { name: owner.to_owned(), detail };
            for key in signers.add(Some(owner), bytes).map_err(failed)? {
                match listed.insert(key.clone(), owner) {
                    Some(other) if other != owner => return Err(failed(format!("the key {key} is {other:?}'s too"))),
                    _ => {}
                }
            }
        }
        Ok(signers)
    }

    /// Adds keys; the fingerprints of all of them.
    fn add(&mut self, owner: Option<&str>, bytes: &[u8]) -> Result<Vec<String>, String> {
        if bytes.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        if text.contains(pgp::ARMOR) {
            return self.pgp.add(text, owner);
        }
        let lines = ssh::parse(text, owner)?;
        let keys = lines.iter().map(|line| line.fingerprint().to_owned()).collect();
        self.ssh.extend(lines);
        Ok(keys)
    }

    /// The same signers without those keys: neither they nor what they vouch for is believed.
    pub fn without<'a>(mut self, revoked: impl IntoIterator<Item = &'a String>) -> Self {
        self.revoked.extend(revoked.into_iter().cloned());
        self
    }

    /// Whether there is nobody to believe.
    pub fn is_empty(&self) -> bool {
        self.pgp.is_empty() && self.ssh.is_empty()
    }

    /// When which signer's validity ends, as far as their keys say it: what was listed with an end, and is not revoked. Ends
    /// that are past are among them.
    pub fn ends(&self, now: Timestamp) -> Vec<(Signer, Timestamp)> {
        let mut ends = ssh::ends(&self.ssh);
        ends.extend(self.pgp.ends(At { now, signed: now }));
        ends.retain(|(signer, _)| !self.revoked.contains(&signer.key));
        ends.sort_by_key(|(_, end)| *end);
        ends
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
        let revoked = |key: &String| self.revoked.contains(key);
        let signer = match self.fits(purpose, payload, signature.ok_or(Refusal::Unsigned)?, at) {
            // A revoked key is mostly not listed any more; that it was revoked says more.
            Err(Refusal::UnknownKey { key }) if revoked(&key) => {
                let owner = Owner { name: key.clone(), group: None, issuer: None };
                let signer = Signer { key, name: None, owner: Box::new(owner) };
                return Err(Refusal::Revoked { signer });
            }
            found => found?,
        };
        match revoked(&signer.key) || signer.owner.issuer.as_ref().is_some_and(revoked) {
            true => Err(Refusal::Revoked { signer }),
            false => Ok(signer),
        }
    }

    fn fits(&self, purpose: Purpose, payload: &[u8], signature: &[u8], at: At) -> Result<Signer, Refusal> {
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
