//! Digests of what must not be guessed.
//!
//! The store keeps digests of manifests and of live values, to tell later whether anything has changed. Of a manifest
//! that stands in Git that tells nothing new: Git stands in the same store. Of one that holds a decrypted or
//! substituted value it would: a short password can be found by hashing guesses, by whoever carries the node's disk
//! away. So those digests pass through HMAC-SHA-256 with a key that the store does not hold: it is made of the very
//! Secrets that the values come from, and their uids. Another key gives another digest, and the object is then sent once
//! more, no worse.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use wickie_model::{Digest, Fingerprint, Hasher};

/// A key for digests. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal(Digest);

impl Seal {
    /// The seal that is made of `secrets`: names, uids and entries.
    pub(super) fn new(secrets: Hasher) -> Self {
        Self(secrets.finish())
    }

    /// A digest that only those can compute who have the key.
    pub fn digest(&self, plain: Digest) -> Digest {
        let Ok(mac) = Hmac::<sha2::Sha256>::new_from_slice(self.0.as_bytes()) else {
            // HMAC takes a key of any length.
            return Digest::of(b"");
        };
        Digest::from_bytes(mac.chain_update(plain.as_bytes()).finalize().into_bytes().into())
    }

    /// The same of a fingerprint. The paths that are owned are no secret.
    pub fn fingerprint(&self, plain: Fingerprint) -> Fingerprint {
        Fingerprint { metadata: self.digest(plain.metadata), values: self.digest(plain.values), ..plain }
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_digest_depends_on_the_key_and_on_the_value() {
        let seal = |key: &[u8]| {
            let mut hasher = Hasher::default();
            hasher.field(key);
            Seal::new(hasher)
        };
        let (one, two) = (Digest::of(b"1234"), Digest::of(b"1235"));
        assert_eq!(seal(b"a").digest(one), seal(b"a").digest(one));
        assert_ne!(seal(b"a").digest(one), seal(b"b").digest(one));
        assert_ne!(seal(b"a").digest(one), seal(b"a").digest(two));
        assert_ne!(seal(b"a").digest(one), one);
    }
}
