//! Each parser that reads from outside, as a function of bytes: for the fuzz targets in `tests/fuzz`, and for the test
//! below, which feeds them honest inputs with a few bytes changed.
//!
//! They must return, whatever the bytes are: no panic, no endless loop, no memory beyond the limits.

use bytes::Bytes;
use jiff::Timestamp;
use wickie_model::Oid;
use wickie_trust::TrustFile;

use super::body::Body;
use super::object::{Commit, Tag};
use super::pack::PackReader;
use super::pktline::PacketReader;
use super::protocol::{self, Hello, PackStream, Version};
use super::{delta, tree};
use crate::config::git::Limits;

/// Small enough that a fuzzer does not spend its time on zeros.
fn limits() -> Limits {
    Limits { received: 1 << 20, object: 1 << 20, inflated: 4 << 20, objects: 1_000, refs: 1_000, ..Limits::default() }
}

fn nobody() -> Oid {
    Oid::from_bytes([0; 20])
}

/// Packet lines, as a greeting, as a list of references and as an answer with a pack. The first byte says in pieces of
/// which size they arrive.
pub fn pktline(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let chunks: Vec<Bytes> = bytes.chunks(usize::from(*step).max(1)).map(Bytes::copy_from_slice).collect();
    let packets = || PacketReader::new(Body::of(chunks.clone(), limits()));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(async {
        let _ = Hello::read(&mut packets(), limits().refs).await;
        let _ = protocol::read_refs(&mut packets(), limits().refs).await;
        for version in [Version::V0, Version::V2] {
            if let Ok(mut stream) = PackStream::open(packets(), version).await {
                while let Ok(Some(_)) = stream.piece().await {}
            }
        }
    });
}

/// A pack. The first byte says in pieces of which size it arrives.
pub fn pack(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let mut pack = PackReader::new(limits(), 0);
    for chunk in bytes.chunks(usize::from(*step).max(1)) {
        pack.push(chunk);
        loop {
            match pack.next() {
                Ok(Some(entry)) => assert!(entry.bytes.len() as u64 <= limits().object),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A delta upon a base: the first byte is the base's length.
pub fn delta(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first() else { return };
    let Some((base, delta)) = bytes.split_at_checked(usize::from(*length)) else { return };
    if let Ok(made) = delta::apply(base, delta, limits().object) {
        assert!(made.len() as u64 <= limits().object);
    }
}

/// A tree. What is let through can be shown to people and joined to a path.
pub fn tree(bytes: &[u8]) {
    for entry in tree::parse(nobody(), bytes).unwrap_or_default() {
        assert!(!entry.name.is_empty() && entry.name != "." && entry.name != "..");
        assert!(!entry.name.chars().any(|c| c.is_control() || c == '/'));
        assert!(!entry.name.eq_ignore_ascii_case(".git"));
    }
}

/// A commit, and the same bytes as a tag.
pub fn commit(bytes: &[u8]) {
    if let Ok(commit) = Commit::parse(nobody(), bytes) {
        assert!(commit.signed.payload.len() <= bytes.len());
    }
    if let Ok(tag) = Tag::parse(nobody(), bytes) {
        assert!(tag.signed.payload.len() <= bytes.len());
    }
}

/// A trust file, and armored signatures over it: the first two bytes say where it ends.
pub fn trust_file(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_at_checked(2) else { return };
    let cut = usize::from(u16::from_le_bytes([cut[0], cut[1]])).min(bytes.len());
    let (document, signatures) = bytes.split_at(cut);
    if let Ok(file) = TrustFile::parse(document) {
        assert!(file.version > 0 && file.threshold > 0 && !file.signers().is_empty());
        assert!(file.next(document, &String::from_utf8_lossy(signatures), Timestamp::UNIX_EPOCH).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX";

    /// Changes, cuts and doubles a few bytes, the same ones in every run.
    fn mutations(seed: &[u8], rounds: usize, parse: fn(&[u8])) {
        let mut random = fastrand::Rng::with_seed(seed.len() as u64);
        parse(seed);
        for _ in 0..rounds {
            let mut bytes = seed.to_vec();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..bytes.len().max(1));
                match random.u8(..6) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at.min(bytes.len()), random.u8(..)),
                    2 if at < bytes.len() => _ = bytes.remove(at),
                    3 if at < bytes.len() => bytes.extend_from_within(at..),
                    4 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)],
                    _ if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
                    _ => {}
                }
                bytes.truncate(1 << 16);
            }
            parse(&bytes);
        }
    }

    fn pack_of(blob: &[u8]) -> Vec<u8> {
        let head = [b"\x20PACK\0\0\0\x02\0\0\0\x02".as_slice(), &[0x30 | blob.len() as u8]].concat();
        let body = crate::source::object::Compressor::default().deflate(blob).unwrap();
        let delta =
            crate::source::object::Compressor::default().deflate(&[blob.len() as u8, 2, 2, b'x', b'y']).unwrap();
        [head, body.clone(), vec![0x65, (body.len() + 1) as u8], delta, vec![0; 20]].concat()
    }

    #[test]
    fn changed_bytes_never_bring_a_parser_down() {
        let oid = "1".repeat(40);
        let text = format!(
            "tree {oid}\nparent {oid}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1 +0000\ngpgsig -----BEGIN SSH SIGNATURE-----\n x\n\nwords\n"
        );
        mutations(text.as_bytes(), 20_000, commit);
        let text = format!(
            "object {oid}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nwords\n-----BEGIN PGP SIGNATURE-----\n"
        );
        mutations(text.as_bytes(), 20_000, commit);
        let entries = [&b"100644 a.yaml\0"[..], &[7; 20], b"40000 deploy\0", &[8; 20], b"120000 link\0", &[9; 20]];
        mutations(&entries.concat(), 20_000, tree);
        mutations(&pack_of(b"hello world"), 20_000, pack);
        mutations(&[5, b'a', b'b', b'c', b'd', b'e', 5, 8, 0x90, 4, 2, b'x', b'y', 0x91, 3, 2], 20_000, delta);
        let document = format!(
            "apiVersion: wickie.dev/v1\nkind: Trust\nversion: 1\nexpires: 2099-01-01T00:00:00Z\nthreshold: 1\nsigners:\n  ada: {KEY}\nrevoked: [x]\n"
        );
        let signature = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n";
        let cut = u16::try_from(document.len()).unwrap().to_le_bytes();
        mutations(&[&cut, document.as_bytes(), signature.as_bytes()].concat(), 5_000, trust_file);
        let lines =
            format!("\x07000eversion 2\n000afetch\n0000003d{oid} refs/heads/main\n0000000dpackfile\n0006\x01x0000");
        mutations(lines.as_bytes(), 3_000, pktline);
    }
}
