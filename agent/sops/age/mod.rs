//! age files as SOPS holds them: armored, small, for X25519, SSH and hybrid post-quantum keys.
//!
//! Source: C2SP `age.md` and `age-ssh` as filippo.io/age v1.3.1 has them. It is written here, over kept primitives,
//! because the age crate has no `mlkem768x25519`, and brings 37 crates to translate its messages with. Only what a data
//! key takes is here: one chunk of payload.
//!
//! ```text
//! armor ─► header: stanzas, MAC ─► identity opens a stanza ─► file key ─► MAC checked ─► payload
//! ```

mod bech32;
mod hybrid;
mod identity;
mod primitives;
mod ssh;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use zeroize::Zeroizing;

pub(crate) use identity::Identity;

/// SOPS makes a file for each recipient; the largest, a hybrid one, takes 2.5 KB.
const MOST_BYTES: usize = 16 << 10;

/// A file key is 16 bytes long.
const FILE_KEY: usize = 16;

/// A recipient's part of a header.
struct Stanza<'h> {
    kind: &'h str,
    args: Vec<&'h str>,
    body: Vec<u8>,
}

/// Why a file does not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// None of its stanzas is for any of the identities.
    NotForUs,
    /// It is damaged.
    Damaged(&'static str),
}

/// Opens an armored file with whichever identity fits.
pub(crate) fn open(armored: &str, identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    let bytes = dearmored(armored).ok_or(NotOpened::Damaged("the armor of its age file is not as age writes it"))?;
    let (header, stanzas, payload) =
        parse(&bytes).ok_or(NotOpened::Damaged("the header of its age file is not as age writes it"))?;
    for identity in identities {
        let Some(key) = stanzas.iter().find_map(|stanza| identity.unwrap(stanza)) else { continue };
        // The MAC is checked with the key that it is made with: whoever changes a stanza cannot make it.
        if !is_whole(&header, &key) {
            return Err(NotOpened::Damaged("the header of its age file was changed"));
        }
        let (nonce, sealed) =
            payload.split_at_checked(16).ok_or(NotOpened::Damaged("the payload of its age file is cut short"))?;
        let key = primitives::hkdf(nonce, &key, b"payload");
        // One chunk, the last: a counter of nought, and the mark of the last.
        let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        return primitives::open(&key, nonce, sealed)
            .ok_or(NotOpened::Damaged("the payload of its age file was changed"));
    }
    Err(NotOpened::NotForUs)
}

fn dearmored(armored: &str) -> Option<Vec<u8>> {
    if armored.len() > MOST_BYTES {
        return None;
    }
    let mut lines = armored.trim().lines();
    if lines.next()? != "-----BEGIN AGE ENCRYPTED FILE-----" {
        return None;
    }
    let mut text = String::with_capacity(armored.len());
    let mut ended = false;
    for line in lines.by_ref() {
        if line == "-----END AGE ENCRYPTED FILE-----" {
            ended = true;
            break;
        }
        // Every line but the last is 64 characters long.
        if line.is_empty() || line.len() > 64 || !text.len().is_multiple_of(64) {
            return None;
        }
        text.push_str(line);
    }
    (ended && lines.next().is_none()).then(|| STANDARD.decode(text).ok())?
}

/// The MAC and the bytes it covers.
struct Header<'h> {
    covered: &'h [u8],
    mac: Vec<u8>,
}

fn parse(bytes: &[u8]) -> Option<(Header<'_>, Vec<Stanza<'_>>, &[u8])> {
    let mut at = 0;
    let mut line = || {
        let length = bytes.get(at..)?.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&bytes[at..at + length]).ok()?;
        at += length + 1;
        Some((line, at))
    };
    if line()?.0 != "age-encryption.org/v1" {
        return None;
    }
    let mut stanzas = Vec::new();
    loop {
        let (text, end) = line()?;
        if let Some(mac) = text.strip_prefix("--- ") {
            let mac = STANDARD_NO_PAD.decode(mac).ok().filter(|mac| mac.len() == 32)?;
            let covered = &bytes[..end - 1 - text.len() + 3];
            return Some((Header { covered, mac }, stanzas, bytes.get(end..)?));
        }
        let mut args = text.strip_prefix("-> ")?.split(' ');
        let kind = args.next().filter(|kind| is_word(kind))?;
        let args: Vec<&str> = args.collect();
        if !args.iter().all(|arg| is_word(arg)) {
            return None;
        }
        let mut body = String::new();
        loop {
            let (text, _) = line()?;
            body.push_str(text);
            match text.len() {
                64 => {}
                0..64 => break,
                _ => return None,
            }
        }
        stanzas.push(Stanza { kind, args, body: STANDARD_NO_PAD.decode(body).ok()? });
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (33..=126).contains(&byte))
}

fn is_whole(header: &Header<'_>, file_key: &[u8]) -> bool {
    let key = primitives::hkdf(&[], file_key, b"header");
    Hmac::<sha2::Sha256>::new_from_slice(&*key)
        .is_ok_and(|mac| mac.chain_update(header.covered).verify_slice(&header.mac).is_ok())
}

/// A point of Curve25519 in a stanza's argument.
fn point(text: &str) -> Option<x25519_dalek::PublicKey> {
    let bytes: [u8; 32] = STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()?;
    Some(bytes.into())
}
