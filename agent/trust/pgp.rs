//! OpenPGP signatures, as `git commit -S` makes them with `gpg`.
//!
//! rPGP answers whether a signature fits a key. Whether the key may be used at all is ours to decide: expiry,
//! revocation, the right to sign data and the back signature of a signing subkey (RFC 9580, sections 5.2.3.13, 5.2.3.29
//! and 10.1.5). A self-signature counts only if it verifies; one that does not is as if it were not there.

use jiff::Timestamp;
use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

use crate::{At, Owner, Refusal, Signer};

/// How an armored key begins.
pub(crate) const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// More signatures than this on one object are not looked at.
const MOST_SIGNATURES: usize = 8;

/// OpenPGP certificates, and whose they are, where that is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRing(Vec<(Option<String>, SignedPublicKey)>);

impl KeyRing {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds every certificate of every armored block in `text`; the fingerprints of all their keys.
    pub(crate) fn add(&mut self, text: &str, owner: Option<&str>) -> Result<Vec<String>, String> {
        let before = self.0.len();
        for block in text.split(ARMOR).skip(1) {
            let armored = format!("{ARMOR}{block}");
            let (keys, _) = SignedPublicKey::from_string_many(&armored).map_err(|error| error.to_string())?;
            for key in keys {
                self.0.push((owner.map(str::to_owned), key.map_err(|error| error.to_string())?));
            }
        }
        let added = self.0.get(before..).unwrap_or_default();
        let keys = added.iter().flat_map(|(_, key)| {
            let subkeys = key.public_subkeys.iter().map(|subkey| subkey.key.fingerprint());
            std::iter::once(key.primary_key.fingerprint()).chain(subkeys)
        });
        match added.is_empty() {
            true => Err("the key ring is empty".to_owned()),
            false => Ok(keys.map(|key| format!("{key:X}")).collect()),
        }
    }

    /// Who signed `payload`, if one of these keys did and may.
    pub(crate) fn verify(&self, payload: &[u8], armored: &str, at: At) -> Result<Signer, Refusal> {
        let malformed = |error: pgp::errors::Error| Refusal::Malformed { detail: error.to_string() };
        let (signatures, _) = DetachedSignature::from_string_many(armored).map_err(malformed)?;
        let mut refusal = Refusal::Malformed { detail: "it holds no signature".to_owned() };
        for signature in signatures.take(MOST_SIGNATURES) {
            match self.check(payload, &signature.map_err(malformed)?.signature, at) {
                Ok(signer) => return Ok(signer),
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    fn check(&self, payload: &[u8], signature: &Signature, at: At) -> Result<Signer, Refusal> {
        let mut refusal = Refusal::UnknownKey { key: issuer(signature) };
        for (owner, certificate) in &self.0 {
            let subkeys = certificate.public_subkeys.iter().map(Some);
            for subkey in std::iter::once(None).chain(subkeys) {
                let component = Component { owner: owner.as_deref(), certificate, subkey };
                if !component.issued(signature) {
                    continue;
                }
                match component.check(payload, signature, at) {
                    Ok(()) => return Ok(component.signer()),
                    Err(reason) => refusal = reason,
                }
            }
        }
        Err(refusal)
    }
}

impl KeyRing {
    /// When the keys end that may sign now, or might before they ended.
    pub(crate) fn ends(&self, at: At) -> Vec<(Signer, Timestamp)> {
        let mut ends = Vec::new();
        for (owner, certificate) in &self.0 {
            let subkeys = certificate.public_subkeys.iter().map(Some);
            for subkey in std::iter::once(None).chain(subkeys) {
                let component = Component { owner: owner.as_deref(), certificate, subkey };
                ends.extend(component.end(at).map(|end| (component.signer(), end)));
            }
        }
        ends
    }
}

/// The key that a signature says it was made with.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let key_id = || signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    fingerprint.or_else(key_id).unwrap_or_else(|| "without a name".to_owned())
}

/// The primary key of a certificate, or one of its subkeys.
struct Component<'a> {
    owner: Option<&'a str>,
    certificate: &'a SignedPublicKey,
    subkey: Option<&'a SignedPublicSubKey>,
}

impl<'a> Component<'a> {
    fn details(&self) -> &dyn KeyDetails {
        match self.subkey {
            Some(subkey) => &subkey.key,
            None => &self.certificate.primary_key,
        }
    }

    fn signer(&self) -> Signer {
        let user = self.certificate.details.users.first().and_then(|user| user.id.as_str().map(str::to_owned));
        let primary = format!("{:X}", self.certificate.primary_key.fingerprint());
        let owner = Owner {
            name: self.owner.map_or_else(|| primary.clone(), str::to_owned),
            group: None,
            issuer: Some(primary),
        };
        Signer {
            key: format!("{:X}", self.details().fingerprint()),
            name: self.owner.map(str::to_owned).or(user),
            owner: Box::new(owner),
        }
    }

    /// Whether a signature names this key as its issuer.
    fn issued(&self, signature: &Signature) -> bool {
        let details = self.details();
        let fingerprints = signature.issuer_fingerprint();
        if !fingerprints.is_empty() {
            return fingerprints.contains(&&details.fingerprint());
        }
        signature.issuer_key_id().contains(&&details.legacy_key_id())
    }

    fn check(&self, payload: &[u8], signature: &Signature, at: At) -> Result<(), Refusal> {
        let signer = || self.signer();
        self.fits(payload, signature).map_err(|_| Refusal::BadSignature { signer: signer() })?;
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err(Refusal::Malformed { detail: "it is not a signature over data".to_owned() });
        }
        if let Some(weak @ (HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160)) = signature.hash_alg()
        {
            return Err(Refusal::Weak { signer: signer(), what: format!("the digest {weak}") });
        }
        self.standing(at)?;
        self.age(signature, at)
    }

    fn fits(&self, payload: &[u8], signature: &Signature) -> pgp::errors::Result<()> {
        match self.subkey {
            Some(subkey) => signature.verify(&subkey.key, payload),
            None => signature.verify(&self.certificate.primary_key, payload),
        }
    }

    /// Whether the key itself may sign data at that time.
    fn standing(&self, at: At) -> Result<(), Refusal> {
        let primary = &self.certificate.primary_key;
        let owner = self.primary_self_signature(at);
        if self
            .certificate
            .details
            .revocation_signatures
            .iter()
            .any(|revocation| revocation.verify_key(primary).is_ok())
        {
            return Err(Refusal::Revoked { signer: self.signer() });
        }
        let Some(owner) = owner else { return Err(Refusal::NotForSigning { signer: self.signer() }) };
        self.not_expired(primary.created_at(), owner, at)?;
        let flags = match self.subkey {
            None => owner.key_flags(),
            Some(subkey) => {
                if subkey.signatures.iter().any(|signature| self.revokes(subkey, signature)) {
                    return Err(Refusal::Revoked { signer: self.signer() });
                }
                let Some(binding) = self.binding(subkey, at) else {
                    return Err(Refusal::NotForSigning { signer: self.signer() });
                };
                self.not_expired(subkey.key.created_at(), binding, at)?;
                binding.key_flags()
            }
        };
        match flags.sign() {
            true => Ok(()),
            false => Err(Refusal::NotForSigning { signer: self.signer() }),
        }
    }

    /// When a key that may sign ends: with its primary key, or before. Nothing where it does not end.
    fn end(&self, at: At) -> Option<Timestamp> {
        let lasts = |created: pgp::types::Timestamp, by: &Signature| {
            let seconds = by.key_expiration_time().map(|time| time.as_secs()).filter(|seconds| *seconds > 0)?;
            Timestamp::from_second(moment(created).as_second() + i64::from(seconds)).ok()
        };
        let owner = self.primary_self_signature(at)?;
        let primary = lasts(self.certificate.primary_key.created_at(), owner);
        let Some(subkey) = self.subkey else { return primary.filter(|_| owner.key_flags().sign()) };
        let binding = self.binding(subkey, at)?;
        if !binding.key_flags().sign() || subkey.signatures.iter().any(|signature| self.revokes(subkey, signature)) {
            return None;
        }
        let own = lasts(subkey.key.created_at(), binding);
        [primary, own].into_iter().flatten().min()
    }

    /// The newest self-signature that says what the primary key is for: over a user id, or directly over the key.
    fn primary_self_signature(&self, at: At) -> Option<&'a Signature> {
        let primary = &self.certificate.primary_key;
        let details = &self.certificate.details;
        let direct = details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
        let users = details.users.iter().filter_map(|user| {
            let own = |signature: &&Signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok();
            let newest = newest(user.signatures.iter().filter(own), at)?;
            (newest.typ() != Some(SignatureType::CertRevocation)).then_some(newest)
        });
        newest(users, at).or_else(|| newest(direct, at))
    }

    /// The newest valid binding of a subkey. One with the right to sign must carry the subkey's own consent.
    fn binding(&self, subkey: &'a SignedPublicSubKey, at: At) -> Option<&'a Signature> {
        let primary = &self.certificate.primary_key;
        let valid = |signature: &&Signature| {
            signature.typ() == Some(SignatureType::SubkeyBinding)
                && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
                && (!signature.key_flags().sign()
                    || signature
                        .embedded_signature()
                        .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok()))
        };
        newest(subkey.signatures.iter().filter(valid), at)
    }

    fn revokes(&self, subkey: &SignedPublicSubKey, signature: &Signature) -> bool {
        signature.typ() == Some(SignatureType::SubkeyRevocation)
            && signature.verify_subkey_binding(&self.certificate.primary_key, &subkey.key).is_ok()
    }

    fn not_expired(&self, created: pgp::types::Timestamp, by: &Signature, at: At) -> Result<(), Refusal> {
        let begins = moment(created);
        if at.now < begins {
            return Err(Refusal::NotYetValid { signer: self.signer(), begins });
        }
        match by.key_expiration_time().map(|time| time.as_secs()).filter(|seconds| *seconds > 0) {
            Some(seconds) => self.ends(begins, seconds, at),
            None => Ok(()),
        }
    }

    /// Whether the signature itself is of an age to be believed.
    fn age(&self, signature: &Signature, at: At) -> Result<(), Refusal> {
        let Some(created) = signature.created() else {
            return Err(Refusal::Malformed { detail: "it does not say when it was made".to_owned() });
        };
        if created < self.details().created_at() {
            return Err(Refusal::NotYetValid { signer: self.signer(), begins: moment(self.details().created_at()) });
        }
        match signature.signature_expiration_time().map(|time| time.as_secs()).filter(|seconds| *seconds > 0) {
            Some(seconds) => self.ends(moment(created), seconds, at),
            None => Ok(()),
        }
    }

    fn ends(&self, begins: Timestamp, seconds: u32, at: At) -> Result<(), Refusal> {
        let ended = Timestamp::from_second(begins.as_second() + i64::from(seconds)).unwrap_or(Timestamp::MAX);
        match at.now >= ended {
            true => Err(Refusal::Expired { signer: self.signer(), ended }),
            false => Ok(()),
        }
    }
}

/// The newest of some signatures over keys that was made by `at`. One that has expired since is as if it were not there
/// (RFC 9580, section 5.2.3.18), and so is one over an MD5 digest, as for gpg. SHA-1 counts there, as for gpg: what it
/// covers was written by the key's own owner.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, at: At) -> Option<&'a Signature> {
    let counts = |signature: &&Signature| {
        let Some(created) = signature.created().map(moment).filter(|created| *created <= at.now) else { return false };
        let lasts = signature.signature_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
        let expired = lasts > 0 && at.now.as_second() >= created.as_second() + lasts;
        !expired && signature.hash_alg() != Some(HashAlgorithm::Md5)
    };
    signatures.filter(counts).max_by_key(|signature| signature.created())
}

fn moment(time: pgp::types::Timestamp) -> Timestamp {
    Timestamp::from_second(i64::from(time.as_secs())).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use pgp::composed::{
        ArmorOptions, DetachedSignature, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
        SignedSecretKey, SubkeyParamsBuilder,
    };
    use pgp::crypto::hash::HashAlgorithm;
    use pgp::types::{Password, SigningKey};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const PAYLOAD: &[u8] = b"tree 1\n";

    /// A key whose primary part and first subkey may sign or not.
    fn key(primary: bool, subkey: bool) -> SignedSecretKey {
        let mut sub = SubkeyParamsBuilder::default();
        sub.key_type(KeyType::Ed25519Legacy).can_sign(subkey).can_encrypt(EncryptionCaps::None).can_authenticate(true);
        let mut params = SecretKeyParamsBuilder::default();
        params
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(primary)
            .can_encrypt(EncryptionCaps::None)
            .primary_user_id("Ada <ada@example.org>".to_owned())
            .subkeys(vec![sub.build().unwrap()]);
        params.build().unwrap().generate(StdRng::seed_from_u64(7)).unwrap()
    }

    fn sign(by: &impl SigningKey, hash: HashAlgorithm) -> String {
        let random = StdRng::seed_from_u64(8);
        let made = DetachedSignature::sign_binary_data(random, by, &Password::empty(), hash, PAYLOAD).unwrap();
        made.to_armored_string(ArmorOptions::default()).unwrap()
    }

    fn judge(key: &SignedPublicKey, signature: &str) -> Result<Signer, Refusal> {
        let armored = key.to_armored_string(ArmorOptions::default()).unwrap();
        let mut ring = KeyRing::default();
        ring.add(&armored, None).unwrap();
        let now = Timestamp::now() + jiff::SignedDuration::from_secs(5);
        ring.verify(PAYLOAD, signature, At { now, signed: now })
    }

    #[test]
    fn only_a_key_with_the_right_to_sign_is_believed() {
        for (primary, subkey) in [(true, true), (true, false), (false, true), (false, false)] {
            let secret = key(primary, subkey);
            let public = secret.to_public_key();
            let by_primary = judge(&public, &sign(&secret.primary_key, HashAlgorithm::Sha256));
            let by_subkey = judge(&public, &sign(&secret.secret_subkeys[0].key, HashAlgorithm::Sha256));
            for (may, verdict) in [(primary, by_primary), (subkey, by_subkey)] {
                match may {
                    true => assert_eq!(verdict.unwrap().name.as_deref(), Some("Ada <ada@example.org>")),
                    false => assert!(matches!(verdict, Err(Refusal::NotForSigning { .. })), "{verdict:?}"),
                }
            }
        }
    }

    #[test]
    fn a_subkey_that_did_not_consent_is_not_believed() {
        // Somebody binds another's signing key to a key of his own: the other's signatures would become his.
        let mine = key(true, true);
        let strange = {
            let mut params = SecretKeyParamsBuilder::default();
            params.key_type(KeyType::Ed25519Legacy).can_certify(true).can_sign(true);
            params.primary_user_id("Eve".to_owned());
            params.build().unwrap().generate(StdRng::seed_from_u64(9)).unwrap()
        };
        let mut public = strange.to_public_key();
        public.public_subkeys = mine.to_public_key().public_subkeys;
        let verdict = judge(&public, &sign(&mine.secret_subkeys[0].key, HashAlgorithm::Sha256));
        assert!(matches!(verdict, Err(Refusal::NotForSigning { .. })), "{verdict:?}");
    }

    #[test]
    fn a_key_without_a_self_signature_is_not_believed() {
        let secret = key(true, true);
        let mut public = secret.to_public_key();
        public.details.users.clear();
        let verdict = judge(&public, &sign(&secret.primary_key, HashAlgorithm::Sha256));
        assert!(matches!(verdict, Err(Refusal::NotForSigning { .. } | Refusal::UnknownKey { .. })), "{verdict:?}");
    }

    #[test]
    fn other_bytes_and_other_keys() {
        let secret = key(true, true);
        let good = sign(&secret.primary_key, HashAlgorithm::Sha512);
        let mut ring = KeyRing::default();
        ring.add(&secret.to_public_key().to_armored_string(ArmorOptions::default()).unwrap(), None).unwrap();
        let now = Timestamp::now() + jiff::SignedDuration::from_secs(5);
        let at = At { now, signed: now };
        assert!(matches!(ring.verify(b"tree 2\n", &good, at), Err(Refusal::BadSignature { .. })));
        assert!(matches!(KeyRing::default().verify(PAYLOAD, &good, at), Err(Refusal::UnknownKey { .. })));
        // Before the key was made.
        let early = At { now: Timestamp::UNIX_EPOCH, signed: now };
        assert!(ring.verify(PAYLOAD, &good, early).is_err());
    }
}
