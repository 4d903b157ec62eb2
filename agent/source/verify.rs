//! What was verified, as a type.
//!
//! [`Verified`] has no constructor outside this file. A stage that takes a `Verified<Snapshot>` therefore cannot be
//! handed anything whose signature was not checked against the signers of its source, from the bytes in the store.

use std::ops::Deref;

use jiff::Timestamp;
use wickie_model::{Oid, Revision};
use wickie_trust::{At, Signer, Signers};

use super::error::SourceError;
use super::object::{Commit, Signed, Tag};
use super::reference::Offer;
use super::snapshot::Snapshot;
use crate::config::git::{GitSource, Verify, VerifyMode};

/// Something that was shown to be what its source's signers signed; or, where the source names no signers, to be what
/// its server gave.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A commit that was believed; its files may not be here yet.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) revision: Revision,
    pub(crate) tree: Oid,
    pub(crate) tag: Option<Oid>,
    pub(crate) committed: Timestamp,
    /// Who signed it, for people; `None` where the source asks for no signature.
    pub(crate) signer: Option<String>,
}

/// Checks the signatures that `source` asks for on what an offer leads to.
///
/// `adopted` is when the commit is taken over; for one that was taken over before, when that was: a key that expires
/// later does not make a node give up what it enforces.
pub(crate) fn head(
    source: &GitSource,
    offer: &Offer,
    commit: &Commit,
    tag: Option<&Tag>,
    adopted: Timestamp,
) -> Result<Verified<Head>, SourceError> {
    let mut by = Vec::new();
    if let Some(verify) = &source.verify {
        let signers = signers(verify)?;
        if verify.mode.tag() {
            by.push(format!("tag by {}", tag_signer(&signers, offer, commit, tag, adopted)?));
        }
        if verify.mode.head() {
            let object = format!("commit {}", commit.oid);
            by.push(format!("commit by {}", signer(&signers, &commit.signed, object, commit.committed, adopted)?));
        }
    }
    Ok(Verified(Head {
        revision: offer.revision.clone(),
        tree: commit.tree,
        tag: tag.map(|tag| tag.oid),
        committed: commit.committed,
        signer: (!by.is_empty()).then(|| by.join(", ")),
    }))
}

/// The same signers, where no tag leads to a commit: the commit itself must be signed.
pub(crate) fn of_commits(verify: &Verify) -> Verify {
    Verify { mode: VerifyMode::Head, ..verify.clone() }
}

/// The signers that a source names.
pub(crate) fn signers(verify: &Verify) -> Result<Signers, SourceError> {
    let keys = verify.keys.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let signers = Signers::parse(keys).map_err(SourceError::Signers)?;
    match signers.is_empty() {
        true => Err(SourceError::NoSigners),
        false => Ok(signers),
    }
}

/// Who signed the tag. The tag object must be signed for the very name it is offered under: an old, validly signed tag
/// under a new name would move history back.
fn tag_signer(
    signers: &Signers,
    offer: &Offer,
    commit: &Commit,
    tag: Option<&Tag>,
    adopted: Timestamp,
) -> Result<Signer, SourceError> {
    let name = offer.tag_name.as_ref().ok_or(SourceError::VerifyWithoutTag)?;
    let object = format!("tag {name} on commit {}", commit.oid);
    let Some(tag) = tag else {
        return Err(SourceError::Refused { object, refusal: wickie_trust::Refusal::Unsigned });
    };
    let believed = signer(signers, &tag.signed, object, tag.tagged.unwrap_or(Timestamp::UNIX_EPOCH), adopted)?;
    match tag.name == *name {
        true => Ok(believed),
        false => {
            let (offered, named) = (name.clone(), tag.name.clone());
            Err(SourceError::OtherTag { offered, commit: commit.oid, named, signer: believed })
        }
    }
}

fn signer(
    signers: &Signers,
    signed: &Signed,
    object: String,
    made: Timestamp,
    adopted: Timestamp,
) -> Result<Signer, SourceError> {
    // A node whose clock has not been set yet is not earlier than what it is shown.
    let at = At { now: adopted.max(made), signed: made };
    signers
        .verify(&signed.payload, signed.signature.as_deref(), at)
        .map_err(|refusal| SourceError::Refused { object, refusal })
}

impl Verified<Head> {
    /// A believed commit as a snapshot, once all its files are in the store.
    pub(crate) fn into_snapshot(self, complete: Snapshot) -> Verified<Snapshot> {
        debug_assert_eq!(self.0.revision, *complete.revision());
        Verified(complete)
    }
}
