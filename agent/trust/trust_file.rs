//! The trust file: who may sign, carried by the repository itself, and changed by its own signers alone.
//!
//! Each version is a document of its own, which stays where it is when the next one comes, with its signatures beside it:
//!
//! ```text
//! .wickie/trust/1.yaml   .wickie/trust/1.sig
//! .wickie/trust/2.yaml   .wickie/trust/2.sig
//! ```
//!
//! ```yaml
//! apiVersion: wickie.dev/v1
//! kind: Trust
//! version: 2
//! expires: 2027-06-01T00:00:00Z
//! threshold: 2
//! signers:
//!   ada: ssh-ed25519 AAAA...        # keys as in a verify Secret: lines of SSH keys, allowed_signers, an OpenPGP key ring
//!   ben: ssh-ed25519 AAAA...
//!   cy: ssh-ed25519 AAAA...
//! revoked: ["SHA256:..."]           # keys that are believed no more, whatever they vouch for
//! ```
//!
//! Source: The Update Framework 1.0.34, section 5.3, whose root role this is. Version N+1 follows N if it was signed by
//! the threshold of N (5.3.4) and by its own (5.3.4), and says N+1 (5.3.5); nothing is skipped, nothing goes back. Whether
//! a version has expired is asked of the last one alone (5.3.10), so that a node which was away for long catches up. A
//! name counts once, however many keys and signatures it has. Beyond TUF, a revocation is never taken back.
//!
//! The document is signed, to the byte, by `ssh-keygen -Y sign -n wickie-trust` or `gpg --armor --detach-sign`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;

use crate::paths::owners;
use crate::{At, Purpose, Refusal, Signer, Signers};

/// A longer document is no trust file.
pub const LONGEST_TRUST_FILE: usize = 256 << 10;

/// More signers than these are not listed.
const MOST_SIGNERS: usize = 256;
/// More revoked keys than these are not listed.
const MOST_REVOKED: usize = 4_096;
/// The longest name of a signer.
const LONGEST_NAME: usize = 128;

/// One version of the trust file, read.
#[derive(Clone, Debug)]
pub struct TrustFile {
    /// Its number, from 1.
    pub version: u64,
    /// From then on nothing new is adopted by its word.
    pub expires: Timestamp,
    /// How many of its signers it takes to change it.
    pub threshold: u32,
    signers: Signers,
    revoked: BTreeSet<String>,
}

/// Why a version is not taken over. The text begins a sentence of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum TrustError {
    #[error("the trust file cannot be read: {0}")]
    Malformed(String),
    #[error("the trust file says version {found} where version {expected} belongs")]
    OtherVersion { found: u64, expected: u64 },
    #[error(
        "version {version} of the trust file is signed by {have} of the {need} signers that {whose} asks for{reasons}"
    )]
    TooFew { version: u64, have: usize, need: u32, whose: String, reasons: String },
    #[error("version {version} of the trust file takes back the revocation of {key}")]
    Unrevoked { version: u64, key: String },
    #[error("version {version} of the trust file expired at {expires}; sign and push the next version")]
    Expired { version: u64, expires: Timestamp },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    version: u64,
    expires: String,
    threshold: u32,
    signers: BTreeMap<String, String>,
    #[serde(default)]
    revoked: Vec<String>,
}

impl TrustFile {
    /// Reads a version; whether it is to be trusted is another question.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let malformed = |detail: String| TrustError::Malformed(detail);
        if bytes.len() > LONGEST_TRUST_FILE {
            return Err(malformed(format!("it is longer than {LONGEST_TRUST_FILE} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not text".to_owned()))?;
        let options = serde_saphyr::options! { with_snippet: false };
        let document: Document =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| malformed(error.to_string()))?;
        document.check().map_err(malformed)?;
        let expires = document.expires.parse().map_err(|_| malformed("expires is no time".to_owned()))?;
        let keys = document.signers.iter().map(|(name, keys)| (name.as_str(), keys.as_bytes()));
        let signers = Signers::named(keys).map_err(|error| malformed(error.to_string()))?;
        let revoked: BTreeSet<String> = document.revoked.into_iter().collect();
        let signers = signers.without(&revoked);
        Ok(Self { version: document.version, expires, threshold: document.threshold, signers, revoked })
    }

    /// The first version that a node trusts: signed by its own threshold, and by `threshold` of those whom the node
    /// trusts already.
    pub fn first(
        document: &[u8],
        signatures: &str,
        trusted: &Signers,
        threshold: u32,
        now: Timestamp,
    ) -> Result<Self, TrustError> {
        let first = Self::parse(document)?;
        first.signed(document, signatures, trusted, threshold, "the node's configuration".to_owned(), now)?;
        first.signed_by_itself(document, signatures, now)?;
        Ok(first)
    }

    /// The version that follows this one.
    pub fn next(&self, document: &[u8], signatures: &str, now: Timestamp) -> Result<Self, TrustError> {
        let next = Self::parse(document)?;
        let expected = self.version.saturating_add(1);
        if next.version != expected {
            return Err(TrustError::OtherVersion { found: next.version, expected });
        }
        let whose = format!("version {}", self.version);
        next.signed(document, signatures, &self.signers, self.threshold, whose, now)?;
        next.signed_by_itself(document, signatures, now)?;
        match self.revoked.iter().find(|key| !next.revoked.contains(*key)) {
            Some(key) => Err(TrustError::Unrevoked { version: next.version, key: key.clone() }),
            None => Ok(next),
        }
    }

    /// Whether something new may be adopted by its word.
    pub fn is_fresh(&self, now: Timestamp) -> Result<(), TrustError> {
        match now < self.expires {
            true => Ok(()),
            false => Err(TrustError::Expired { version: self.version, expires: self.expires }),
        }
    }

    /// Whom it trusts.
    pub fn signers(&self) -> &Signers {
        &self.signers
    }

    /// The keys that are believed no more.
    pub fn revoked(&self) -> &BTreeSet<String> {
        &self.revoked
    }

    fn signed_by_itself(&self, document: &[u8], signatures: &str, now: Timestamp) -> Result<(), TrustError> {
        self.signed(document, signatures, &self.signers, self.threshold, format!("version {}", self.version), now)
    }

    fn signed(
        &self,
        document: &[u8],
        signatures: &str,
        by: &Signers,
        need: u32,
        whose: String,
        now: Timestamp,
    ) -> Result<(), TrustError> {
        let at = At { now, signed: now };
        let (signed, refused) = by.verify_all(Purpose::Trust, document, signatures, at);
        let have = owners(&signed);
        match have >= need.max(1) as usize {
            true => Ok(()),
            false => {
                let reasons = refused.iter().map(|refusal| format!("; a signature {refusal}")).collect();
                Err(TrustError::TooFew { version: self.version, have, need: need.max(1), whose, reasons })
            }
        }
    }
}

impl Document {
    fn check(&self) -> Result<(), String> {
        if (self.api_version.as_str(), self.kind.as_str()) != ("wickie.dev/v1", "Trust") {
            return Err("it is not of apiVersion wickie.dev/v1 and kind Trust".to_owned());
        }
        if self.version == 0 {
            return Err("version is 0, and versions begin with 1".to_owned());
        }
        if self.signers.len() > MOST_SIGNERS || self.revoked.len() > MOST_REVOKED {
            return Err(format!("it lists more than {MOST_SIGNERS} signers or {MOST_REVOKED} revoked keys"));
        }
        if let Some(name) = self.signers.keys().find(|name| !is_name(name)) {
            return Err(format!("{name:?} is no name of a signer: {NAMES}"));
        }
        match self.threshold as usize {
            0 => Err("threshold is 0: anybody could change it".to_owned()),
            most if most > self.signers.len() => Err(format!(
                "threshold is {most}, and there are {} signers: nobody could change it",
                self.signers.len()
            )),
            _ => Ok(()),
        }
    }
}

/// What a name of a signer consists of.
pub const NAMES: &str = "it takes letters, digits and @ . _ + -, 128 at most";

/// Whether a signer may be called so. No `/`: that parts an authority from whom it vouches for.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "@._+-".contains(c);
    !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed)
}

impl Signers {
    /// Who signed `payload` with one of the signatures in `text`, armored, one behind the other; and why the others do
    /// not count. No more than the first 32 are looked at.
    pub fn verify_all(&self, purpose: Purpose, payload: &[u8], text: &str, at: At) -> (Vec<Signer>, Vec<Refusal>) {
        const MOST: usize = 32;
        let (mut signed, mut refused) = (Vec::new(), Vec::new());
        let begins: Vec<usize> = text.match_indices("-----BEGIN ").map(|(at, _)| at).take(MOST + 1).collect();
        for (number, from) in begins.iter().enumerate().take(MOST) {
            let armored = text.get(*from..begins.get(number + 1).copied().unwrap_or(text.len())).unwrap_or_default();
            // Words may stand between them.
            let ends = armored.find("\n-----END ").map(|at| at + 1);
            let ends = ends.and_then(|at| armored.get(at..)?.find('\n').map(|line| at + line + 1));
            let armored = ends.and_then(|ends| armored.get(..ends)).unwrap_or(armored);
            match self.verify_for(purpose, payload, Some(armored.as_bytes()), at) {
                Ok(signer) => signed.push(signer),
                Err(refusal) => refused.push(refusal),
            }
        }
        (signed, refused)
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::private::{Ed25519Keypair, KeypairData};
    use ssh_key::{HashAlg, LineEnding, PrivateKey};

    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    fn public(seed: u8) -> String {
        key(seed).public_key().to_openssh().unwrap()
    }

    fn fingerprint(seed: u8) -> String {
        key(seed).fingerprint(HashAlg::Sha256).to_string()
    }

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn document(version: u64, threshold: u32, signers: &[u8], revoked: &[u8]) -> String {
        let signers: String = signers.iter().map(|seed| format!("  s{seed}: {}\n", public(*seed))).collect();
        let revoked: Vec<String> = revoked.iter().map(|seed| format!("{:?}", fingerprint(*seed))).collect();
        format!(
            "apiVersion: wickie.dev/v1\nkind: Trust\nversion: {version}\nexpires: 2027-01-01T00:00:00Z\nthreshold: {threshold}\nsigners:\n{signers}revoked: [{}]\n",
            revoked.join(", ")
        )
    }

    fn sign(document: &str, seeds: &[u8], namespace: &str) -> String {
        let one = |seed: &u8| {
            let made = key(*seed).sign(namespace, HashAlg::Sha512, document.as_bytes()).unwrap();
            made.to_pem(LineEnding::LF).unwrap()
        };
        seeds.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    fn trusted(document: &str) -> TrustFile {
        TrustFile::parse(document.as_bytes()).unwrap()
    }

    fn step(from: &TrustFile, document: &str, by: &[u8]) -> Result<TrustFile, TrustError> {
        from.next(document.as_bytes(), &sign(document, by, "wickie-trust"), now())
    }

    #[test]
    fn the_next_version_is_signed_by_the_old_threshold_and_by_its_own() {
        let one = trusted(&document(1, 2, &[1, 2, 3], &[]));
        let two = document(2, 2, &[3, 4, 5], &[]);
        assert_eq!(step(&one, &two, &[1, 3, 4]).unwrap().version, 2);
        for (by, whose, have) in [
            (&[1, 2][..], "version 2", 0),
            (&[4, 5], "version 1", 0),
            (&[1, 4, 5], "version 1", 1),
            (&[1, 2, 4], "version 2", 1),
            // One signer who signs twice is one.
            (&[1, 1, 4, 5], "version 1", 1),
            (&[], "version 1", 0),
        ] {
            match step(&one, &two, by) {
                Err(TrustError::TooFew { whose: found, have: counted, need: 2, .. }) => {
                    assert_eq!((found.as_str(), counted), (whose, have), "{by:?}");
                }
                other => panic!("{by:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn nothing_is_skipped_nothing_goes_back_and_nobody_is_taken_back() {
        let two = trusted(&document(2, 1, &[1, 2], &[9]));
        for version in [1, 2, 4, u64::MAX] {
            let error = step(&two, &document(version, 1, &[1, 2], &[9]), &[1, 2]).unwrap_err();
            assert_eq!(error, TrustError::OtherVersion { found: version, expected: 3 });
        }
        let error = step(&two, &document(3, 1, &[1, 2], &[]), &[1]).unwrap_err();
        assert_eq!(error, TrustError::Unrevoked { version: 3, key: fingerprint(9) });
        assert!(step(&two, &document(3, 1, &[1, 2], &[9, 2]), &[1]).is_ok());
    }

    #[test]
    fn a_signature_for_a_commit_or_over_other_bytes_is_none() {
        let one = trusted(&document(1, 1, &[1], &[]));
        let two = document(2, 1, &[1], &[]);
        let for_git = one.next(two.as_bytes(), &sign(&two, &[1], "git"), now());
        assert!(matches!(for_git, Err(TrustError::TooFew { .. })), "{for_git:?}");
        let other = format!("{two}# more\n");
        let over_other = one.next(other.as_bytes(), &sign(&two, &[1], "wickie-trust"), now());
        assert!(matches!(over_other, Err(TrustError::TooFew { .. })), "{over_other:?}");
    }

    #[test]
    fn the_first_version_needs_those_who_are_trusted_already() {
        let first = document(1, 1, &[2], &[]);
        let node = Signers::named([("ada", public(1).as_bytes()), ("ben", public(3).as_bytes())]).unwrap();
        let begin = |by: &[u8], threshold| {
            let signatures = sign(&first, by, "wickie-trust");
            TrustFile::first(first.as_bytes(), &signatures, &node, threshold, now())
        };
        assert!(begin(&[1, 2], 1).is_ok());
        assert!(begin(&[1], 1).is_err());
        assert!(begin(&[2], 1).is_err());
        assert!(begin(&[1, 2], 2).is_err());
        assert!(begin(&[1, 2, 3], 2).is_ok());
    }

    #[test]
    fn an_expired_version_is_stepped_over_and_not_stopped_at() {
        let old = document(1, 1, &[1], &[]).replace("2027-01-01", "2020-01-01");
        let one = trusted(&old);
        assert!(matches!(one.is_fresh(now()), Err(TrustError::Expired { version: 1, .. })));
        assert!(step(&one, &document(2, 1, &[1], &[]), &[1]).unwrap().is_fresh(now()).is_ok());
    }

    #[test]
    fn what_a_revoked_key_vouched_for_is_not_believed() {
        let two = trusted(&document(2, 1, &[1, 2], &[2]));
        let sign = |seed: u8| key(seed).sign("git", HashAlg::Sha512, b"tree").unwrap().to_pem(LineEnding::LF).unwrap();
        let at = At { now: now(), signed: now() };
        assert_eq!(two.signers().verify(b"tree", Some(sign(1).as_bytes()), at).unwrap().owner.name, "s1");
        let refused = two.signers().verify(b"tree", Some(sign(2).as_bytes()), at);
        assert!(matches!(refused, Err(Refusal::Revoked { .. })), "{refused:?}");
    }

    #[test]
    fn a_document_that_could_mean_two_things_is_refused() {
        let good = document(1, 1, &[1, 2], &[]);
        assert!(TrustFile::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("kind: Trust", "kind: Permit"),
            ("version: 1\n", "version: 0\n"),
            ("version: 1\n", "version: -1\n"),
            ("version: 1\n", "version: 1\nversion: 2\n"),
            ("threshold: 1", "threshold: 0"),
            ("threshold: 1", "threshold: 3"),
            ("expires: 2027-01-01T00:00:00Z", "expires: soon"),
            ("  s1:", "  a/b:"),
            ("  s1:", "  '':"),
            ("revoked:", "revokd:"),
            ("ssh-ed25519 AAAA", "ssh-ed25519 BBBB"),
            ("apiVersion", "apiversion"),
        ] {
            let wrong = good.replacen(from, to, 1);
            assert_ne!(wrong, good);
            assert!(TrustFile::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        // One key under two names would count for both.
        let twice = good.replace(&public(2), &public(1));
        let error = TrustFile::parse(twice.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("s1"), "{error}");
    }
}
