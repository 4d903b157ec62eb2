//! OpenPGP: a data key in a message that is encrypted to one of the keys of the node.

use std::io::Read as _;

use pgp::composed::{DecryptionOptions, Deserializable as _, Message, SignedSecretKey, TheRing};
use pgp::types::Password;
use zeroize::Zeroizing;

use crate::error::KeyError;

/// A data key, or a share of one, is far shorter.
const MOST_BYTES: u64 = 1024;

/// SOPS makes a message for each recipient, of 1 KB or so. Each recipient of a message may cost an RSA decryption.
const MOST_ARMOR: usize = 16 << 10;

/// Reads every private key of an entry, as `gpg --export-secret-keys --armor` writes them.
pub(crate) fn read_all(entry: &str, text: &str) -> Result<Vec<SignedSecretKey>, KeyError> {
    let wrong = |why: String| KeyError::OpenPgp { entry: entry.to_owned(), why };
    const BEGIN: &str = "-----BEGIN PGP PRIVATE KEY BLOCK-----";
    let mut keys = Vec::new();
    for block in text.split(BEGIN).skip(1) {
        let armored = Zeroizing::new(format!("{BEGIN}{block}"));
        let (read, _) = SignedSecretKey::from_string_many(&armored).map_err(|error| wrong(error.to_string()))?;
        for key in read {
            keys.push(key.map_err(|error| wrong(error.to_string()))?);
        }
    }
    let locked = |key: &SignedSecretKey| {
        let subkeys = key.secret_subkeys.iter().any(|subkey| subkey.key.secret_params().is_encrypted());
        // A primary key that only signs may stay locked, or away: the subkeys decrypt.
        if key.secret_subkeys.is_empty() { key.primary_key.secret_params().is_encrypted() } else { subkeys }
    };
    match keys.iter().any(locked) {
        _ if keys.is_empty() => Err(wrong("it holds no OpenPGP private key in armor".to_owned())),
        true => {
            Err(wrong("the key has a passphrase, and nobody is there to type it: export it without one".to_owned()))
        }
        false => Ok(keys),
    }
}

/// What a message holds, where one of the keys opens it.
pub(crate) fn open(armored: &str, keys: &[SignedSecretKey]) -> Option<Zeroizing<Vec<u8>>> {
    if armored.len() > MOST_ARMOR || keys.is_empty() {
        return None;
    }
    // GnuPG writes its own form of authenticated encryption for keys of its own making. What is not authenticated at all is
    // not decrypted.
    let no_password = Password::empty();
    let ring = TheRing {
        secret_keys: keys.iter().collect(),
        key_passwords: vec![&no_password],
        decrypt_options: DecryptionOptions::default().enable_gnupg_aead(),
        ..TheRing::default()
    };
    let (message, _) = Message::from_string(armored).ok()?;
    let (mut message, _) = message.decrypt_the_ring(ring, true).ok()?;
    if message.is_compressed() {
        message = message.decompress().ok()?;
    }
    if !message.is_literal() {
        return None;
    }
    let mut opened = Zeroizing::new(Vec::with_capacity(64));
    message.by_ref().take(MOST_BYTES + 1).read_to_end(&mut opened).ok()?;
    // Read to its end: that is when the whole of it has been checked.
    let whole = u64::try_from(opened.len()).is_ok_and(|length| length <= MOST_BYTES);
    whole.then_some(opened)
}
