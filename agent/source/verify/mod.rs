//! What was verified, as a type.
//!
//! [`Verified`] has no constructor outside this folder. A stage that takes a `Verified<Snapshot>` therefore cannot be
//! handed anything whose signature was not checked against the signers of its source, from the bytes in the store.
//!
//! ```text
//! chain      the trust file, version by version: whom to believe
//! signed     the offer: commit, tag, notes; how many signers
//! graph      the commits since the last accepted one, and where they left what was accepted before
//! changes    which paths each of them changed itself
//! history    each of them: signed by whom, and may they
//! ```
//!
//! A judgement reads the store and nothing else. What it lacks it says ([`Missing`]); a poll fetches that and judges again
//! from the beginning, a load refuses. So both judge the same way, and what was read is what must be kept
//! ([`Evidence`]).

mod chain;
mod changes;
mod graph;
mod history;
mod signed;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use wickie_model::{Oid, Revision};
use wickie_trust::{Refusal, owners};

use super::error::{Fault, SourceError};
use super::object::{Commit, Tag};
use super::reference::Offer;
use super::repository::Repository;
use super::snapshot::{Snapshot, content_error};
use super::tree::{Target, TreeEntry};
use crate::config::git::{GitSource, Verify, VerifyMode};
use crate::store::Evidence;

pub(crate) use chain::{Trust, believed_signers};
use signed::Signed;
pub(crate) use signed::{NOTES, Notes};

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

/// A commit that was believed, and what that was judged by.
pub(crate) struct Judged {
    pub(crate) head: Verified<Head>,
    pub(crate) evidence: Evidence,
}

/// The circumstances of a judgement.
pub(crate) struct Case {
    /// When the commit is taken over; for one that was taken over before, when that was: a key that expires later does not
    /// make a node give up what it enforces.
    pub(crate) adopted: Timestamp,
    /// The commit accepted before, if its history is to be judged.
    pub(crate) since: Option<Oid>,
    pub(crate) notes: Notes,
    pub(crate) trust: Trust,
}

/// What is not in the store and would have to be, in the terms in which it can be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Single trees and blobs.
    Objects(Vec<Oid>),
    /// Single commits.
    Commits(Vec<Oid>),
    /// These parents of new commits: new commits themselves, or part of what was accepted before.
    Parents { since: Oid, parents: Vec<Oid> },
    /// The reference that notes lie under.
    Notes,
}

/// Why a judgement did not come to its end.
pub(crate) enum Stop {
    Missing(Missing),
    Refused(Box<SourceError>),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// One judgement, from objects in the store alone.
pub(crate) struct Judge<'a> {
    repository: &'a Repository,
    source: &'a GitSource,
    offer: &'a Offer,
    case: &'a Case,
    /// What was read on the way.
    evidence: Evidence,
    trees: Trees,
}

/// Judges what an offer leads to: its signatures, and what the node's policy asks for beyond them.
pub(crate) async fn judge(
    repository: &Repository,
    source: &GitSource,
    offer: &Offer,
    (commit, tag): (&Commit, Option<&Tag>),
    case: &Case,
) -> Result<Judged, Stop> {
    let mut judge = Judge { repository, source, offer, case, evidence: Evidence::default(), trees: Trees::default() };
    let signer = judge.signers_of_offer(commit, tag).await?;
    let head = Head {
        revision: offer.revision.clone(),
        tree: commit.tree,
        tag: tag.map(|tag| tag.oid),
        committed: commit.committed,
        signer,
    };
    Ok(Judged { head: Verified(head), evidence: judge.evidence })
}

impl Judge<'_> {
    /// Who signed, and by which rules that is enough, in words; `None` where nobody is asked to.
    async fn signers_of_offer(&mut self, commit: &Commit, tag: Option<&Tag>) -> Result<Option<String>, Stop> {
        let source = self.source;
        if !source.is_verified() {
            return Ok(None);
        }
        let trusted = self.trusted(commit).await?;
        let Signed { words, signers } = self.signed(commit, tag, trusted.newest()).await?;
        let Some(policy) = &source.policy else { return Ok(Some(words)) };
        let mut rules = vec![format!("policy {}", policy.name)];
        if policy.threshold > 1 {
            rules.push(format!("{} signers of {}", owners(&signers), policy.threshold));
        }
        if policy.trust_file {
            rules.push(match trusted.version() {
                0 => "no trust file yet".to_owned(),
                version => format!("trust file version {version}"),
            });
        }
        if policy.judges_history() {
            rules.push(self.history(policy, commit, &trusted, signers).await?);
        }
        Ok(Some(format!("{words}; {}", rules.join(", "))))
    }

    fn refused(&self, object: String, refusal: Refusal) -> Stop {
        Stop::from(SourceError::Refused { object, refusal })
    }

    fn fault(&self, fault: impl Into<Fault>) -> Stop {
        Stop::from(content_error(&self.offer.revision, fault.into()))
    }

    /// A tree that is in the store.
    async fn tree(&mut self, oid: Oid) -> Result<Option<Arc<Vec<TreeEntry>>>, Stop> {
        if let Some(tree) = self.trees.0.get(&oid) {
            return Ok(Some(tree.clone()));
        }
        let Some(tree) = self.repository.tree(oid).await.map_err(|fault| self.fault(fault))? else { return Ok(None) };
        self.evidence.objects.insert(oid);
        let tree = Arc::new(tree);
        self.trees.put(oid, &tree);
        Ok(Some(tree))
    }

    /// A blob that is in the store.
    async fn blob(&mut self, oid: Oid) -> Result<Option<Vec<u8>>, Stop> {
        let blob = self.repository.blob(oid).await.map_err(|fault| self.fault(fault))?;
        if blob.is_some() {
            self.evidence.objects.insert(oid);
        }
        Ok(blob)
    }

    /// The folder `path` of a commit's tree; `None` if there is none.
    async fn folder(&mut self, root: Oid, path: &[&str]) -> Result<Option<Arc<Vec<TreeEntry>>>, Stop> {
        let mut next = root;
        for name in path {
            let tree = self.tree(next).await?.ok_or(Stop::Missing(Missing::Objects(vec![next])))?;
            match tree.iter().find(|entry| entry.name == *name && entry.target == Target::Directory) {
                Some(entry) => next = entry.oid,
                None => return Ok(None),
            }
        }
        self.tree(next).await?.ok_or(Stop::Missing(Missing::Objects(vec![next]))).map(Some)
    }
}

/// Trees that were read lately: a commit's are its child's too.
#[derive(Default)]
struct Trees(HashMap<Oid, Arc<Vec<TreeEntry>>>);

impl Trees {
    fn put(&mut self, oid: Oid, tree: &Arc<Vec<TreeEntry>>) {
        const MOST: usize = 256;
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(oid, tree.clone());
    }
}

/// The same signers, where no tag leads to a commit: the commit itself must be signed.
pub(crate) fn of_commits(verify: &Verify) -> Verify {
    Verify { mode: VerifyMode::Head, ..verify.clone() }
}

impl Verified<Head> {
    /// A believed commit as a snapshot, once all its files are in the store.
    pub(crate) fn into_snapshot(self, complete: Snapshot) -> Verified<Snapshot> {
        debug_assert_eq!(self.0.revision, *complete.revision());
        Verified(complete)
    }
}
