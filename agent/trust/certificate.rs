//! SSH certificates: a key that an authority vouches for, for a time and under some names.
//!
//! Source: OpenSSH's PROTOCOL.certkeys, and sshkey.c (`cert_parse`, `sshkey_cert_check_authority`) and sshsig.c
//! (`cert_filter_principals`) for what `ssh-keygen -Y verify` makes of one. Certificates are read here and not by the ssh-key
//! crate: that one knows no end of validity beyond 2^63, which `ssh-keygen` writes for "forever", and it checks the
//! authority's signature over what it has encoded again instead of over the bytes that came.
//!
//! Stricter than ssh-keygen: a critical option of any kind is refused, since none has a meaning for a signature over data
//! (`force-command`, `source-address`) or could be checked here (`verify-required`). Revocation lists (KRL) are not read;
//! revoke a certified key, or its authority, in the trust file.

use jiff::Timestamp;
use ssh_key::PublicKey;
use ssh_key::Signature;
use ssh_key::public::KeyData;

use crate::wire::Reader;

/// What every certificate's type ends with.
const SUFFIX: &str = "-cert-v01@openssh.com";

/// More names than these are not looked at; ssh-keygen writes 256 at most.
const MOST_PRINCIPALS: usize = 256;

/// A certificate, read and not yet believed.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The key that is vouched for.
    pub(crate) key: KeyData,
    /// Who vouches.
    pub(crate) authority: KeyData,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    is_user: bool,
    critical: Option<String>,
    /// The bytes that the authority signed, and its signature.
    signed: Vec<u8>,
    signature: Signature,
}

/// Why a certificate does not let its key sign. The text ends a sentence that begins with the certificate.
pub(crate) enum Flaw {
    NotYetValid(Timestamp),
    Expired(Timestamp),
    Other(String),
}

impl Certificate {
    /// Reads a public key's bytes; `None` if they are a plain key.
    pub(crate) fn read(blob: &[u8]) -> Result<Option<Self>, String> {
        let mut reader = Reader::new(blob);
        let kind = reader.text()?;
        let Some(plain) = kind.strip_suffix(SUFFIX) else { return Ok(None) };
        // The fields that the key itself consists of stand in the middle of the certificate.
        let (plain, fields) = match plain {
            "ssh-ed25519" => (plain.to_owned(), 1),
            "ssh-rsa" => (plain.to_owned(), 2),
            "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => (plain.to_owned(), 2),
            "sk-ssh-ed25519" => (format!("{plain}@openssh.com"), 2),
            "sk-ecdsa-sha2-nistp256" => (format!("{plain}@openssh.com"), 3),
            _ => return Err(format!("certificates of the type {kind:?} are not understood")),
        };
        reader.bytes()?;
        let key = reader.raw(fields)?;
        let mut whole = (plain.len() as u32).to_be_bytes().to_vec();
        whole.extend_from_slice(plain.as_bytes());
        whole.extend_from_slice(key);
        let key = key_of(&whole)?;
        let _serial = reader.u64()?;
        let is_user = reader.u32()? == 1;
        let _key_id = reader.bytes()?;
        let principals = principals(reader.bytes()?)?;
        let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
        let mut options = Reader::new(reader.bytes()?);
        let critical = if options.is_empty() { None } else { Some(options.text()?.to_owned()) };
        let _extensions = reader.bytes()?;
        let _reserved = reader.bytes()?;
        let authority = key_of(reader.bytes()?)?;
        let signed = blob.get(..blob.len() - reader.left()).unwrap_or_default().to_vec();
        let signature = reader.bytes()?;
        let signature = Signature::try_from(signature).map_err(|error| format!("the certificate: {error}"))?;
        match reader.is_empty() {
            true => Ok(Some(Self {
                key,
                authority,
                principals,
                valid_after,
                valid_before,
                is_user,
                critical,
                signed,
                signature,
            })),
            false => Err("more bytes follow the certificate".to_owned()),
        }
    }

    /// The name under which the certificate lets its key sign at a time, if one of `allowed` says yes to it.
    pub(crate) fn principal(&self, allowed: impl Fn(&str) -> bool, signed: Timestamp) -> Result<&str, Flaw> {
        use signature::Verifier as _;
        let other = |text: &str| Flaw::Other(text.to_owned());
        if self.authority.verify(&self.signed, &self.signature).is_err() {
            return Err(other("was not signed by the authority that it names"));
        }
        if !self.is_user {
            return Err(other("is a host's, not a user's"));
        }
        let at = u64::try_from(signed.as_second()).unwrap_or_default();
        if at < self.valid_after {
            return Err(Flaw::NotYetValid(moment(self.valid_after)));
        }
        if at >= self.valid_before {
            return Err(Flaw::Expired(moment(self.valid_before)));
        }
        if let Some(option) = &self.critical {
            return Err(Flaw::Other(format!("has the critical option {option:?}, which is not understood")));
        }
        if self.principals.is_empty() {
            return Err(other("names no principal"));
        }
        match self.principals.iter().find(|principal| allowed(principal)) {
            Some(principal) => Ok(principal),
            None => Err(Flaw::Other(format!(
                "names no principal that its authority may vouch for, only {}",
                self.principals.iter().take(4).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}

fn key_of(blob: &[u8]) -> Result<KeyData, String> {
    PublicKey::from_bytes(blob).map(KeyData::from).map_err(|error| format!("a key of the certificate: {error}"))
}

fn principals(packed: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = Reader::new(packed);
    let mut names = Vec::new();
    while !reader.is_empty() {
        if names.len() == MOST_PRINCIPALS {
            return Err(format!("the certificate names more than {MOST_PRINCIPALS} principals"));
        }
        let name = reader.text()?;
        if name.chars().any(char::is_control) {
            return Err("a principal of the certificate holds control characters".to_owned());
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn moment(seconds: u64) -> Timestamp {
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}
