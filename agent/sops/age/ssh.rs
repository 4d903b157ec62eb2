//! SSH keys as recipients: Ed25519 by way of Curve25519, RSA by OAEP.
//!
//! Flux knows them not in its Secrets; sops and age do. Source: `agessh/agessh.go`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256, Sha512};
use ssh_key::private::KeypairData;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Identity, Stanza, primitives};

const ED25519: &[u8] = b"age-encryption.org/v1/ssh-ed25519";
const RSA: &str = "age-encryption.org/v1/ssh-rsa";

pub(crate) struct SshEd25519 {
    tag: String,
    secret: StaticSecret,
    public: PublicKey,
    /// Makes the key one of its own, though its point is the SSH key's.
    tweak: StaticSecret,
}

pub(crate) struct SshRsa {
    tag: String,
    key: rsa::RsaPrivateKey,
}

/// Reads a private key in OpenSSH's form.
pub(super) fn read(block: &str) -> Result<Identity, &'static str> {
    const BROKEN: &str = "the SSH private key cannot be read; ssh-keygen -p -N '' -f FILE writes it in OpenSSH's form";
    let key = ssh_key::PrivateKey::from_openssh(block).map_err(|_| BROKEN)?;
    if key.is_encrypted() {
        return Err("the SSH private key has a passphrase, and nobody is there to type it: ssh-keygen -p takes it off");
    }
    let wire = key.public_key().to_bytes().map_err(|_| BROKEN)?;
    // age names a key by the first four bytes of its digest.
    let tag = STANDARD_NO_PAD.encode(&Sha256::digest(&wire)[..4]);
    match key.key_data() {
        KeypairData::Ed25519(pair) => {
            let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(pair.private.as_ref())));
            let mut scalar = Zeroizing::new([0; 32]);
            scalar.copy_from_slice(&hash[..32]);
            let secret = StaticSecret::from(*scalar);
            let tweak = StaticSecret::from(*primitives::hkdf(&wire, &[], ED25519));
            Ok(Identity::SshEd25519(SshEd25519 { tag, public: PublicKey::from(&secret), secret, tweak }))
        }
        KeypairData::Rsa(pair) => {
            let key = rsa_key(pair).ok_or(BROKEN)?;
            Ok(Identity::SshRsa(Box::new(SshRsa { tag, key })))
        }
        _ => Err("age takes Ed25519 and RSA keys of SSH alone"),
    }
}

/// The key of a pair, at least 2,048 bits long. ssh-key's own conversion takes one of the primes twice.
fn rsa_key(pair: &ssh_key::private::RsaKeypair) -> Option<rsa::RsaPrivateKey> {
    let number = |number: &ssh_key::Mpint| number.as_positive_bytes().map(rsa::BigUint::from_bytes_be);
    let primes = vec![number(&pair.private.p)?, number(&pair.private.q)?];
    let (n, e, d) = (number(&pair.public.n)?, number(&pair.public.e)?, number(&pair.private.d)?);
    let key = rsa::RsaPrivateKey::from_components(n, e, d, primes).ok()?;
    (rsa::traits::PublicKeyParts::size(&key) >= 256 && key.validate().is_ok()).then_some(key)
}

impl SshEd25519 {
    pub(super) fn unwrap(&self, stanza: &Stanza<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let [tag, share] = stanza.args.as_slice() else { return None };
        if *tag != self.tag {
            return None;
        }
        let share = super::point(share)?;
        let shared = self.secret.diffie_hellman(&share);
        if !shared.was_contributory() {
            return None;
        }
        let shared = self.tweak.diffie_hellman(&PublicKey::from(*shared.as_bytes()));
        let salt = [share.as_bytes().as_slice(), self.public.as_bytes()].concat();
        let key = primitives::hkdf(&salt, shared.as_bytes(), ED25519);
        primitives::open_file_key(&key, [0; 12], &stanza.body)
    }
}

impl SshRsa {
    pub(super) fn unwrap(&self, stanza: &Stanza<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let [tag] = stanza.args.as_slice() else { return None };
        if *tag != self.tag {
            return None;
        }
        let padding = rsa::Oaep::new_with_label::<rsa::sha2::Sha256, _>(RSA);
        // Blinded with random numbers, so that the time it takes tells nothing of the key.
        let opened = self.key.decrypt_blinded(&mut rsa::rand_core::OsRng, padding, &stanza.body).ok()?;
        Some(Zeroizing::new(opened)).filter(|key| key.len() == super::FILE_KEY)
    }
}
