//! HKDF-SHA-256 and ChaCha20-Poly1305, as age uses them.

use hkdf::Hkdf;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// 32 bytes derived from `secret`.
pub(super) fn hkdf(salt: &[u8], secret: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // 32 bytes are never too many.
    let expanded = Hkdf::<sha2::Sha256>::new(Some(salt), secret).expand(info, &mut *key);
    debug_assert!(expanded.is_ok());
    key
}

/// Decrypts; nothing where key or bytes are not those that were encrypted.
pub(super) fn open(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

/// Decrypts a file key, which has one length only: a text made to fit several keys gains nothing.
pub(super) fn open_file_key(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    open(key, nonce, sealed).filter(|key| key.len() == super::FILE_KEY)
}
