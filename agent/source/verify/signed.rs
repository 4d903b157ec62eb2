//! Who signed a commit: in the commit itself, in a tag of it, in notes about it.
//!
//! A note lies under `refs/notes/wickie/signatures`, as git-notes(1) writes it, and holds one or more armored signatures
//! over the commit object, to the byte, its own signature included:
//!
//! ```text
//! git cat-file commit HEAD | ssh-keygen -Y sign -n git -f KEY > sig      (or: | gpg --armor --detach-sign)
//! git notes --ref wickie/signatures append -F sig HEAD && git push origin refs/notes/wickie/signatures
//! ```
//!
//! The reference itself is believed nothing: what is in it counts by its signatures alone. A note is younger than its
//! commit and carries no time of its own, so the keys of SSH signatures in it are judged by when the commit is adopted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wickie_model::Oid;
use wickie_trust::{At, Purpose, Refusal, Signer, Signers, owners};

use super::{Judge, Missing, Stop};
use crate::source::error::SourceError;
use crate::source::object;
use crate::source::object::{Commit, Tag};
use crate::source::tree::Target;

/// Where notes with signatures lie.
pub(crate) const NOTES: &str = "refs/notes/wickie/signatures";

/// A longer note is not read.
const LONGEST_NOTE: usize = 256 << 10;

/// Where notes are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notes {
    /// Nobody has asked the server yet.
    Unasked,
    /// The server has none.
    None,
    /// Under this commit.
    Under(Oid),
    /// What was found when the snapshot was accepted: the blob, by commit.
    Kept(BTreeMap<Oid, Oid>),
}

/// Who signed, and how that is said.
pub(super) struct Signed {
    pub(super) words: String,
    pub(super) signers: Vec<Signer>,
}

impl Judge<'_> {
    /// Who signed an offer, if that is enough for its source and the node's policy.
    pub(super) async fn signed(&mut self, commit: &Commit, tag: Option<&Tag>, by: &Signers) -> Result<Signed, Stop> {
        let mode = self.source.verify.as_ref().map(|verify| verify.mode);
        let (mut words, mut signers, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        if mode.is_some_and(|mode| mode.tag()) || (self.source.policy.is_some() && tag.is_some()) {
            match self.tag_signer(by, commit, tag) {
                Ok(signer) => {
                    words.push(format!("tag by {signer}"));
                    signers.push(signer);
                }
                Err(error) if mode.is_some_and(|mode| mode.tag()) => return Err(error.into()),
                Err(error) => refusals.push(error.to_string()),
            }
        }
        if mode.is_none_or(|mode| mode.head()) || self.source.policy.is_some() {
            match signer(by, &commit.signed, commit.committed, self.case.adopted) {
                Ok(signer) => {
                    words.push(format!("commit by {signer}"));
                    signers.push(signer);
                }
                Err(refusal) if mode.is_some_and(|mode| mode.head()) => {
                    return Err(self.refused(format!("commit {}", commit.oid), refusal));
                }
                Err(refusal) => refusals.push(format!("the commit {refusal}")),
            }
        }
        let Some(policy) = self.source.policy.clone() else { return Ok(Signed { words: words.join(", "), signers }) };
        let enough = |signers: &[Signer]| owners(signers) >= policy.threshold as usize;
        if !enough(&signers) {
            let (more, refused) = self.noted(commit, by).await?;
            for signer in more {
                words.push(format!("note by {signer}"));
                signers.push(signer);
            }
            refusals.extend(refused.into_iter().map(|refusal| format!("a note {refusal}")));
        }
        match enough(&signers) {
            true => Ok(Signed { words: words.join(", "), signers }),
            false => Err(Stop::from(SourceError::TooFewSigners {
                commit: commit.oid,
                have: owners(&signers),
                need: policy.threshold,
                policy: policy.name.clone(),
                detail: detail(&words, &refusals),
            })),
        }
    }

    /// Who signed a commit, in itself and in notes. Notes are looked into only where `enough` says that is needed.
    pub(super) async fn commit_signers(
        &mut self,
        commit: &Commit,
        by: &Signers,
        enough: impl Fn(&[Signer]) -> bool,
    ) -> Result<(Vec<Signer>, Vec<String>), Stop> {
        let (mut signers, mut refusals) = (Vec::new(), Vec::new());
        match signer(by, &commit.signed, commit.committed, self.case.adopted) {
            Ok(signer) => signers.push(signer),
            Err(refusal) => refusals.push(format!("the commit {refusal}")),
        }
        if !enough(&signers) {
            let (more, refused) = self.noted(commit, by).await?;
            signers.extend(more);
            refusals.extend(refused.into_iter().map(|refusal| format!("a note {refusal}")));
        }
        Ok((signers, refusals))
    }

    /// Who signed a commit in a note.
    async fn noted(&mut self, commit: &Commit, by: &Signers) -> Result<(Vec<Signer>, Vec<Refusal>), Stop> {
        let Some(note) = self.note(commit.oid).await? else { return Ok((Vec::new(), Vec::new())) };
        let text = self.blob(note).await?.ok_or(Stop::Missing(Missing::Objects(vec![note])))?;
        self.evidence.notes.insert(commit.oid, note);
        if text.len() > LONGEST_NOTE {
            let detail = format!("it is longer than {LONGEST_NOTE} bytes");
            return Ok((Vec::new(), vec![Refusal::Malformed { detail }]));
        }
        let whole = self.repository.commit_bytes(commit.oid).await.map_err(|fault| self.fault(fault))?;
        let whole = whole.ok_or(Stop::Missing(Missing::Commits(vec![commit.oid])))?;
        let at = At { now: self.case.adopted.max(commit.committed), signed: self.case.adopted };
        Ok(by.verify_all(Purpose::Git, &whole, &String::from_utf8_lossy(&text), at))
    }

    /// The blob that is the note about a commit. Notes lie in one folder under the commits' ids, or in folders of their
    /// first digits.
    async fn note(&mut self, about: Oid) -> Result<Option<Oid>, Stop> {
        let tip = match &self.case.notes {
            Notes::Unasked => return Err(Stop::Missing(Missing::Notes)),
            Notes::None => return Ok(None),
            Notes::Kept(kept) => return Ok(kept.get(&about).copied()),
            Notes::Under(tip) => *tip,
        };
        let commit = self.repository.commit(tip).await.map_err(|fault| self.fault(fault))?;
        let mut next = commit.ok_or(Stop::Missing(Missing::Commits(vec![tip])))?.tree;
        let name = about.to_string();
        let mut rest = name.as_str();
        while !rest.is_empty() {
            // What leads to a note proves nothing, so it need not be kept.
            let tree = self.repository.tree(next).await.map_err(|fault| self.fault(fault))?;
            let tree = tree.ok_or(Stop::Missing(Missing::Objects(vec![next])))?;
            let found = tree.iter().find(|entry| match entry.target {
                Target::Directory => rest.get(..2) == Some(entry.name.as_str()),
                Target::File(_) => rest == entry.name,
                _ => false,
            });
            match found {
                Some(entry) if entry.target == Target::Directory => {
                    next = entry.oid;
                    rest = rest.get(2..).unwrap_or_default();
                }
                Some(entry) => return Ok(Some(entry.oid)),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Who signed the tag. The tag object must be signed for the very name it is offered under: an old, validly signed tag
    /// under a new name would move history back.
    fn tag_signer(&self, signers: &Signers, commit: &Commit, tag: Option<&Tag>) -> Result<Signer, SourceError> {
        let name = self.offer.tag_name.as_ref().ok_or(SourceError::VerifyWithoutTag)?;
        let object = format!("tag {name} on commit {}", commit.oid);
        let Some(tag) = tag else { return Err(SourceError::Refused { object, refusal: Refusal::Unsigned }) };
        let made = tag.tagged.unwrap_or(Timestamp::UNIX_EPOCH);
        let believed = signer(signers, &tag.signed, made, self.case.adopted)
            .map_err(|refusal| SourceError::Refused { object, refusal })?;
        match tag.name == *name {
            true => Ok(believed),
            false => {
                let (offered, named) = (name.clone(), tag.name.clone());
                Err(SourceError::OtherTag { offered, commit: commit.oid, named, signer: believed })
            }
        }
    }
}

/// Who signed, and why others do not count, as the end of a sentence.
pub(super) fn detail(words: &[String], refusals: &[String]) -> String {
    const MOST: usize = 8;
    words.iter().chain(refusals).take(MOST).map(|word| format!("; {word}")).collect()
}

fn signer(signers: &Signers, signed: &object::Signed, made: Timestamp, adopted: Timestamp) -> Result<Signer, Refusal> {
    // A node whose clock has not been set yet is not earlier than what it is shown.
    let at = At { now: adopted.max(made), signed: made };
    signers.verify(&signed.payload, signed.signature.as_deref(), at)
}
