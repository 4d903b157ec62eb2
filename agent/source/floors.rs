//! The copies of a source's floor, and what they ask of an offer and of what is stored.
//!
//! The store's own floor commits together with its snapshot. Two more copies lie outside of it: in a file beside it, and
//! in the cluster. They are written after it, and so may lie behind it; they bind where they do not. What that means:
//!
//! - A crash between the two leaves a copy behind. The store remembers what it moved on from, and so knows it for one.
//! - An old copy of the store is put back (a restored backup, a swapped disk): the others name a commit that it has never
//!   heard of. Its snapshot is older than what the cluster already was, and is **not enforced**: nothing is written, the
//!   cluster stays as it is, and the status says why, until Git or a stick brings a commit that descends from every copy
//!   that binds, the store's own among them. Repair waits until then; going back would undo what somebody signed.
//! - The store is lost: the others stand for it. The next contact is no first one.
//! - A copy is lost, damaged or deleted: that is said once, and it is written again. The others count meanwhile.
//! - Somebody writes a copy that no history holds: the source waits and says so, naming the copy. They need the right to
//!   write where wickie lives, and win a standstill by it, never an older state.

use std::sync::PoisonError;

use wickie_model::{Oid, ResourceName, Revision};
use wickie_trust::{Candidate, Floor, FloorCopy, Kept, Step, WentBack, binding};

use super::Git;
use super::error::SourceError;
use super::reference::Offer;
use super::repository::Descent;
use super::snapshot::content_error;
use crate::config::git::{GitSource, Reference};
use crate::store::{FloorFile, FloorsFound, KeptFloor, OwnFloor, SourceRow, merge_floors};

/// How a floor began, where a snapshot began one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Began {
    /// Nobody had been heard before: it was trusted once, or held against what the node's configuration gives.
    FirstContact {
        /// Whether the configuration gave a floor.
        given: bool,
    },
    /// The spec names another URL or reference than what was accepted before.
    Track {
        /// What was accepted there.
        before: Floor,
    },
    /// A permit allowed a step back.
    Permit {
        /// From this commit.
        from: Oid,
        /// Who gave leave.
        signer: String,
    },
}

/// What an offer must be shown to be before it is accepted.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// There is no copy that binds.
    pub(super) first: bool,
    /// It is what every copy says was accepted last.
    pub(super) unmoved: bool,
    /// It must descend from each of these.
    pub(super) descends: Vec<Demand>,
    /// It went back from these, and needs leave for that.
    pub(super) back: Vec<(Oid, WentBack)>,
    /// These lie behind once it is accepted.
    pub(super) passes: Vec<Oid>,
}

/// A commit that an offer must descend from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) from: Oid,
    /// The node's configuration says so: no permit of a tenant's signers helps.
    pub(super) given: bool,
}

impl Git {
    /// Also keeps a copy of every floor in this file beside the store. What it holds counts from here on, and what it
    /// lacks is written. What was wrong with it comes back, to be said: the end of a sentence.
    pub async fn with_file(mut self, file: FloorFile) -> (Self, Option<String>) {
        let found = file.read();
        self.file = Some(file);
        let is_new = matches!(self.repository.store.floors().await, Ok(own) if own.is_empty());
        let trouble = match found {
            FloorsFound::Whole(floors) => {
                self.note_copies(Kept::File, floors);
                None
            }
            FloorsFound::Missing if is_new => None,
            FloorsFound::Missing => Some("is gone".to_owned()),
            FloorsFound::Damaged(why) => Some(format!("is damaged ({why}) and counts for nothing")),
        };
        self.keep_file(None).await;
        (self, trouble)
    }

    /// Takes note of the copies that are kept in a place outside the store; those noted before of that place are gone.
    pub fn note_copies(&self, kept: Kept, floors: Vec<KeptFloor>) {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|(place, _)| *place != kept);
        copies.extend(floors.into_iter().map(|floor| (kept, floor)));
    }

    /// The copies that bind a source.
    pub(super) fn binding(&self, source: &GitSource, row: &SourceRow) -> Vec<FloorCopy> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let own = row.floor.iter().map(|floor| FloorCopy { kept: Kept::Store, floor: floor.clone() });
        let elsewhere = copies.iter().filter(|(_, kept)| kept.source == source.name);
        let elsewhere = elsewhere.map(|(kept, copy)| FloorCopy { kept: *kept, floor: copy.floor.clone() });
        // What was passed was passed on the store's own track; on another one everything binds.
        let track = source.track();
        let passed = if row.floor.as_ref().is_some_and(|floor| floor.track == track) { &row.passed[..] } else { &[] };
        binding(&own.chain(elsewhere).collect::<Vec<_>>(), &track, passed)
    }

    /// What an offer must be shown to be.
    pub(super) fn demands(&self, source: &GitSource, row: &SourceRow, offer: &Offer) -> Result<Demands, SourceError> {
        let track = source.track();
        let binding = self.binding(source, row);
        let mut demands = Demands { first: binding.is_empty(), unmoved: !binding.is_empty(), ..Demands::default() };
        for FloorCopy { floor, .. } in binding {
            match Floor::step(Some(&floor), &track, &offer.candidate) {
                Ok(Step::Same) => continue,
                Ok(Step::IfDescends(from)) => demands.descends.push(Demand { from, given: false }),
                Ok(Step::First | Step::Forward) => {}
                Err(reason) => demands.back.push((floor.commit, reason)),
            }
            demands.unmoved = false;
            demands.passes.push(floor.commit);
        }
        let own = row.floor.as_ref().filter(|floor| floor.track == track);
        let was_met = |commit| own.is_some_and(|floor| floor.commit == commit || row.passed.contains(&commit));
        if let Some(given) = &source.given {
            match given.step(&offer.candidate) {
                Ok(Step::IfDescends(from)) if !was_met(from) => {
                    demands.descends.push(Demand { from, given: true });
                    demands.unmoved = false;
                    demands.passes.push(from);
                }
                Ok(_) => {}
                Err(reason) => {
                    let revision = offer.revision.to_string();
                    return Err(SourceError::BelowGiven { revision, reason: Box::new(reason) });
                }
            }
        }
        Ok(demands)
    }

    /// Refuses to enforce what the store accepted last where a copy elsewhere is ahead of it, or may be.
    pub(super) async fn check_ahead(
        &self,
        source: &GitSource,
        row: &SourceRow,
        own: &Floor,
    ) -> Result<(), SourceError> {
        let is_tag = own.tag.is_some() || matches!(source.reference, Reference::Tag(_) | Reference::Semver(_));
        let candidate = match is_tag {
            true => Candidate::Tag { commit: own.commit, tag: own.tag, version: own.version.clone() },
            false => Candidate::Tip(own.commit),
        };
        let revision = Revision::new(None, own.commit);
        for copy in self.binding(source, row) {
            match Floor::step(Some(&copy.floor), &source.track(), &candidate) {
                Ok(Step::Same | Step::First | Step::Forward) => continue,
                Ok(Step::IfDescends(from)) => {
                    let descent = self.repository.descends(own.commit, from, source.limits.commits).await;
                    if descent.map_err(|fault| content_error(&revision, fault))? == Descent::Proven {
                        continue;
                    }
                }
                Err(_) => {}
            }
            let revision = revision.to_string();
            return Err(SourceError::Behind { revision, kept: copy.kept, commit: copy.floor.commit });
        }
        Ok(())
    }

    /// Brings the file beside the store up to what the store says; `moved` has just been accepted. One that says so
    /// already is not written.
    pub async fn keep_file(&self, moved: Option<&ResourceName>) {
        let Some(file) = self.file.clone() else { return };
        let own = match self.repository.store.floors().await {
            Ok(own) => own,
            Err(error) => return tracing::warn!(%error, "the trust floors cannot be read to be copied"),
        };
        let mut floors: Vec<KeptFloor> = {
            let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            copies.iter().filter(|(kept, _)| *kept == Kept::File).map(|(_, floor)| floor.clone()).collect()
        };
        if !merge_floors(&mut floors, &own, moved) && file.path().exists() {
            return;
        }
        let lines = floors.clone();
        let written = tokio::task::spawn_blocking(move || file.write(&lines).map_err(|error| (file, error))).await;
        match written {
            Ok(Ok(())) => self.note_copies(Kept::File, floors),
            Ok(Err((file, error))) => {
                tracing::warn!(file = %file.path().display(), %error, "the copy of the trust floors could not be written; it is tried again with the next acceptance");
            }
            Err(_) => {}
        }
    }

    /// The store's own floors, for a copy elsewhere.
    pub async fn own_floors(&self) -> Result<Vec<OwnFloor>, SourceError> {
        Ok(self.repository.store.floors().await?)
    }
}
