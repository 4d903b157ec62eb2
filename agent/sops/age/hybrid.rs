//! The hybrid post-quantum key, `AGE-SECRET-KEY-PQ-1..`: ML-KEM-768 and X25519 together (X-Wing), in HPKE.
//!
//! Source: `pq.go` of age v1.3.1, over `MLKEM768X25519` of draft-ietf-hpke-pq, which is X-Wing (draft-connolly-cfrg-xwing-kem)
//! with the KEM's number 0x647a; HPKE (RFC 9180) in base mode with HKDF-SHA-256 and ChaCha20-Poly1305.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hkdf::Hkdf;
use ml_kem::{Decapsulate as _, ml_kem_768};
use sha2::Sha256;
use sha3::Sha3_256;
use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{Stanza, primitives};

/// HPKE with this KEM, HKDF-SHA-256 and ChaCha20-Poly1305.
const SUITE: &[u8] = b"HPKE\x64\x7a\x00\x01\x00\x03";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// X-Wing's mark, a picture of the fighter.
const XWING: &[u8] = br"\.//^\";
/// An ML-KEM-768 ciphertext, before the share of X25519.
const CIPHERTEXT: usize = 1088;

pub(crate) struct Hybrid {
    lattice: ml_kem_768::DecapsulationKey,
    secret: StaticSecret,
    public: PublicKey,
}

impl Hybrid {
    /// The key that grows from a seed of 32 bytes.
    pub(super) fn new(seed: &[u8]) -> Option<Self> {
        let mut grown = Zeroizing::new([0; 96]);
        let mut hasher = shake::Shake256::default();
        hasher.update(seed);
        hasher.finalize_xof().read(&mut *grown);
        let (lattice, curve) = grown.split_at(64);
        let lattice = ml_kem_768::DecapsulationKey::from_seed(lattice.try_into().ok()?);
        let curve: [u8; 32] = curve.try_into().ok()?;
        let secret = StaticSecret::from(curve);
        Some(Self { lattice, public: PublicKey::from(&secret), secret })
    }

    pub(super) fn unwrap(&self, stanza: &Stanza<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let [enc] = stanza.args.as_slice() else { return None };
        let enc = STANDARD_NO_PAD.decode(enc).ok()?;
        let shared = self.decapsulate(&enc)?;
        let (key, nonce) = schedule(&*shared)?;
        // A key that does not fit gives another shared secret, and no error: this is where it shows.
        primitives::open_file_key(&key, nonce, &stanza.body)
    }

    /// X-Wing: both secrets, and what the classical one was made for, into one.
    fn decapsulate(&self, enc: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let (ciphertext, share) = enc.split_at_checked(CIPHERTEXT)?;
        let share: [u8; 32] = share.try_into().ok()?;
        let lattice = self.lattice.decapsulate_slice(ciphertext).ok()?;
        let curve = self.secret.diffie_hellman(&PublicKey::from(share));
        if !curve.was_contributory() {
            return None;
        }
        let mut hasher = <Sha3_256 as sha3::Digest>::new();
        for part in [lattice.as_slice(), curve.as_bytes(), &share, self.public.as_bytes(), XWING] {
            sha3::Digest::update(&mut hasher, part);
        }
        Some(Zeroizing::new(sha3::Digest::finalize(hasher).into()))
    }
}

/// HPKE's key schedule in base mode, for the first message. Source: RFC 9180, section 5.1.
fn schedule(shared: &[u8]) -> Option<(Zeroizing<[u8; 32]>, [u8; 12])> {
    let extract = |salt: &[u8], label: &[u8], input: &[u8]| {
        let input = Zeroizing::new([b"HPKE-v1", SUITE, label, input].concat());
        Hkdf::<Sha256>::extract(Some(salt), &input)
    };
    let (psk, _) = extract(&[], b"psk_id_hash", &[]);
    let (info, _) = extract(&[], b"info_hash", INFO);
    let context = [&[0], psk.as_slice(), info.as_slice()].concat();
    let (_, secret) = extract(shared, b"secret", &[]);
    let expand = |label: &[u8], out: &mut [u8]| {
        let length = u16::try_from(out.len()).ok()?.to_be_bytes();
        let labeled = [length.as_slice(), b"HPKE-v1", SUITE, label, &context].concat();
        secret.expand(&labeled, out).ok()
    };
    let mut key = Zeroizing::new([0; 32]);
    let mut nonce = [0; 12];
    expand(b"key", &mut *key)?;
    expand(b"base_nonce", &mut nonce)?;
    Some((key, nonce))
}
