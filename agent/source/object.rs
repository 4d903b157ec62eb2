//! Git objects: their ids, and what commits and tags say.
//!
//! Source: gitformat-commit and git's own fsck.c; for what a signature covers, git's commit.c
//! (`parse_buffer_signed_by_header`) and gpg-interface.c (`parse_signature`).

use gix_object::commit::ref_iter::Token;
use gix_object::{CommitRefIter, TagRefIter};
use jiff::Timestamp;
use wickie_model::Oid;

use super::wire::WireError;
use crate::store::{ObjectKind, StoredObject};
use crate::zlib::{self, Deflater, Form};

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

/// An object that is not what Git allows, or not what it claims to be.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum ObjectError {
    #[error("the {kind} {oid} is malformed: {detail}")]
    Malformed { kind: &'static str, oid: Oid, detail: String },
    #[error("the tree {oid} holds the entry {name:?}, which is refused: {detail}")]
    Hostile { oid: Oid, name: String, detail: String },
    #[error("the object {oid} in the store is damaged: {detail}; it will be fetched again once the store is rebuilt")]
    Damaged { oid: Oid, detail: String },
    #[error("{oid} is a {found} where a {expected} belongs")]
    WrongKind { oid: Oid, found: &'static str, expected: &'static str },
    #[error("the {kind} {oid} is not in the store")]
    Missing { kind: &'static str, oid: Oid },
    #[error("the snapshot holds more than {limit} {what}")]
    TooMuch { what: &'static str, limit: u64 },
    #[error("the file {oid} is a Git LFS pointer: LFS is not supported, put the file itself into the repository")]
    Lfs { oid: Oid },
}

/// The id of an object: the collision-detecting SHA-1 of its header and bytes.
pub(crate) fn id(kind: ObjectKind, bytes: &[u8]) -> Result<Oid, WireError> {
    let mut hasher = gix_hash::hasher(SHA1);
    hasher.update(format!("{} {}\0", kind.as_str(), bytes.len()).as_bytes());
    hasher.update(bytes);
    finish(hasher)
}

fn finish(hasher: gix_hash::Hasher) -> Result<Oid, WireError> {
    let digest = hasher.try_finalize().map_err(|error| WireError::Collision(error.to_string()))?;
    Ok(model_id(&digest))
}

/// An id of gix's as one of ours. Only SHA-1 is compiled in, so the length always fits.
pub(crate) fn model_id(id: &gix_hash::oid) -> Oid {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&id.as_bytes()[..20]);
    Oid::from_bytes(bytes)
}

/// Compresses objects for the store.
#[derive(Debug)]
pub(crate) struct Compressor(Deflater);

impl Default for Compressor {
    fn default() -> Self {
        Self(Deflater::new(Form::Zlib))
    }
}

impl Compressor {
    /// An object's bytes, compressed.
    pub(crate) fn deflate(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut deflated = Vec::new();
        self.0.deflate(bytes, &mut deflated)?;
        // It waits for its turn to be written among hundreds.
        deflated.shrink_to_fit();
        Ok(deflated)
    }
}

/// The bytes of a stored object, shown to be the ones that its id names.
pub(crate) fn open(stored: &StoredObject, expected: ObjectKind) -> Result<Vec<u8>, ObjectError> {
    let oid = stored.oid;
    if stored.kind != expected {
        return Err(ObjectError::WrongKind { oid, found: stored.kind.as_str(), expected: expected.as_str() });
    }
    let damaged = |detail: String| ObjectError::Damaged { oid, detail };
    let size = usize::try_from(stored.size).map_err(|error| damaged(error.to_string()))?;
    // One byte more than there should be: too long is seen, endless is not waited for.
    let bytes = zlib::inflate(&stored.deflated, Form::Zlib, size, size.saturating_add(1))
        .map_err(|error| damaged(error.to_string()))?;
    match id(stored.kind, &bytes) {
        Ok(found) if found == oid => Ok(bytes),
        Ok(found) => Err(damaged(format!("its bytes have the id {found}"))),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// What a signature covers, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Option<Vec<u8>>,
}

/// A commit.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) oid: Oid,
    pub(crate) tree: Oid,
    pub(crate) parents: Vec<Oid>,
    pub(crate) committed: Timestamp,
    pub(crate) signed: Signed,
}

impl Commit {
    pub(crate) fn parse(oid: Oid, bytes: &[u8]) -> Result<Self, ObjectError> {
        let malformed = |detail: String| ObjectError::Malformed { kind: "commit", oid, detail };
        let (mut tree, mut parents, mut committed) = (None, Vec::new(), None);
        for token in CommitRefIter::from_bytes(bytes, SHA1) {
            match token.map_err(|error| malformed(error.to_string()))? {
                Token::Tree { id } => tree = Some(model_id(&id)),
                Token::Parent { id } => parents.push(model_id(&id)),
                Token::Committer { signature } => committed = signature.time().ok().map(|time| time.seconds),
                _ => {}
            }
        }
        let committed = committed.and_then(|seconds| Timestamp::from_second(seconds).ok());
        Ok(Self {
            oid,
            tree: tree.ok_or_else(|| malformed("it names no tree".to_owned()))?,
            parents,
            committed: committed.ok_or_else(|| malformed("its committer has no valid time".to_owned()))?,
            signed: signed_by_header(bytes).map_err(malformed)?,
        })
    }
}

/// Splits a commit into its signature and what that covers: everything but the signature headers.
///
/// Git would join several `gpgsig` headers into one signature; no tool writes that, so it is refused here.
fn signed_by_header(bytes: &[u8]) -> Result<Signed, String> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").map_or(bytes.len(), |at| at + 1);
    let (headers, message) = bytes.split_at(end);
    let mut payload = Vec::with_capacity(bytes.len());
    let mut signature: Option<Vec<u8>> = None;
    // Which header a line that begins with a blank goes on with.
    let mut within = Within::Other;
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        let begins = match line.strip_prefix(b"gpgsig ") {
            Some(first) if signature.is_none() => {
                signature = Some(first.to_vec());
                Within::Signature
            }
            Some(_) => return Err("it has more than one signature".to_owned()),
            None if line.starts_with(b" ") => match within {
                Within::Signature => {
                    if let Some(signature) = &mut signature {
                        signature.extend_from_slice(&line[1..]);
                    }
                    continue;
                }
                Within::OtherSignature => continue,
                Within::Other => Within::Other,
            },
            None if line.starts_with(b"gpgsig") => Within::OtherSignature,
            None => Within::Other,
        };
        if begins == Within::Other {
            payload.extend_from_slice(line);
        }
        within = begins;
    }
    payload.extend_from_slice(message);
    Ok(Signed { payload, signature })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Signature,
    OtherSignature,
    Other,
}

/// An annotated tag of a commit.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) target: Oid,
    pub(crate) tagged: Option<Timestamp>,
    pub(crate) signed: Signed,
}

impl Tag {
    pub(crate) fn parse(oid: Oid, bytes: &[u8]) -> Result<Self, ObjectError> {
        use gix_object::tag::ref_iter::Token;
        let malformed = |detail: String| ObjectError::Malformed { kind: "tag", oid, detail };
        let (mut target, mut name, mut tagged) = (None, None, None);
        for token in TagRefIter::from_bytes(bytes, SHA1) {
            match token.map_err(|error| malformed(error.to_string()))? {
                Token::Target { id } => target = Some(model_id(&id)),
                Token::TargetKind(gix_object::Kind::Commit) => {}
                Token::TargetKind(other) => {
                    return Err(malformed(format!("it names a {other}; only tags of commits are followed")));
                }
                Token::Name(found) => name = Some(found.to_string()),
                Token::Tagger(Some(who)) => tagged = who.time().ok().map(|time| time.seconds),
                Token::Tagger(None) | Token::Body { .. } => {}
            }
        }
        Ok(Self {
            oid,
            name: name.ok_or_else(|| malformed("it has no name".to_owned()))?,
            target: target.ok_or_else(|| malformed("it names no object".to_owned()))?,
            tagged: tagged.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            signed: signed_at_end(bytes),
        })
    }
}

/// Splits a tag into its signature and what that covers: all before the last line that begins a signature.
fn signed_at_end(bytes: &[u8]) -> Signed {
    const BEGINNINGS: [&[u8]; 4] = [
        b"-----BEGIN PGP SIGNATURE-----",
        b"-----BEGIN PGP MESSAGE-----",
        b"-----BEGIN SIGNED MESSAGE-----",
        b"-----BEGIN SSH SIGNATURE-----",
    ];
    let (mut at, mut begins) = (0, None);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) {
            begins = Some(at);
        }
        at += line.len();
    }
    match begins {
        Some(begins) => Signed { payload: bytes[..begins].to_vec(), signature: Some(bytes[begins..].to_vec()) },
        None => Signed { payload: bytes.to_vec(), signature: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid() -> Oid {
        Oid::from_bytes([7; 20])
    }

    fn commit(extra: &str) -> String {
        let tree = "1".repeat(40);
        format!(
            "tree {tree}\nparent {tree}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1700000000 +0100\n{extra}\nsubject\n\ngpgsig not a header\n"
        )
    }

    #[test]
    fn the_payload_is_all_but_the_signature() {
        let text = commit("gpgsig -----BEGIN SSH SIGNATURE-----\n abc\n \n -----END SSH SIGNATURE-----\nother x\n y\n");
        let parsed = Commit::parse(oid(), text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(parsed.signed.payload).unwrap(), commit("other x\n y\n"));
        assert_eq!(
            parsed.signed.signature.unwrap(),
            b"-----BEGIN SSH SIGNATURE-----\nabc\n\n-----END SSH SIGNATURE-----\n"
        );
        assert_eq!(parsed.committed.as_second(), 1_700_000_000);
        assert_eq!(parsed.parents.len(), 1);
    }

    #[test]
    fn a_signature_of_another_hash_is_not_covered_and_does_not_count() {
        let text = commit("gpgsig-sha256 abc\n def\n");
        let parsed = Commit::parse(oid(), text.as_bytes()).unwrap();
        assert_eq!(parsed.signed, Signed { payload: commit("").into_bytes(), signature: None });
    }

    #[test]
    fn ambiguous_or_broken_commits_are_refused() {
        let two = commit("gpgsig a\ngpgsig b\n");
        let error = Commit::parse(oid(), two.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("more than one signature"), "{error}");
        for text in ["", "tree 12\n", "parent x", &commit("")[..60]] {
            assert!(Commit::parse(oid(), text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tag_is_signed_at_its_end() {
        let head =
            format!("object {}\ntype commit\ntag v1\ntagger T <t@u> 1700000000 +0000\n\nwords\n", "2".repeat(40));
        let signature = "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n";
        let parsed = Tag::parse(oid(), format!("{head}{signature}").as_bytes()).unwrap();
        assert_eq!(parsed.signed, Signed { payload: head.clone().into(), signature: Some(signature.into()) });
        assert_eq!(parsed.name, "v1");
        assert!(Tag::parse(oid(), head.replace("commit", "tree").as_bytes()).is_err());
    }

    #[test]
    fn ids_are_gits() {
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(id(ObjectKind::Blob, b"hello\n").unwrap().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn a_made_collision_is_noticed() {
        // One of the two messages of "SHA-1 is a Shambles" (Leurent and Peyrin, 2020), whose digests are the same.
        let message = include_bytes!("../../tests/cases/source/attacks/collision/sha-mbles-1.bin");
        let mut hasher = gix_hash::hasher(SHA1);
        hasher.update(message);
        assert!(matches!(finish(hasher), Err(WireError::Collision(_))));
        // Behind Git's header it is a message like any other.
        assert!(id(ObjectKind::Blob, message).is_ok());
    }

    #[test]
    fn a_damaged_object_is_not_used() {
        let oid = id(ObjectKind::Blob, b"hello\n").unwrap();
        let stored = |bytes: &[u8], size| StoredObject {
            oid,
            kind: ObjectKind::Blob,
            size,
            deflated: Compressor::default().deflate(bytes).unwrap(),
        };
        assert_eq!(open(&stored(b"hello\n", 6), ObjectKind::Blob).unwrap(), b"hello\n");
        for wrong in [stored(b"hellO\n", 6), stored(b"hello\nmore", 6), stored(b"hello\n", 3)] {
            assert!(matches!(open(&wrong, ObjectKind::Blob), Err(ObjectError::Damaged { .. })));
        }
        assert!(matches!(open(&stored(b"hello\n", 6), ObjectKind::Tree), Err(ObjectError::WrongKind { .. })));
    }
}
