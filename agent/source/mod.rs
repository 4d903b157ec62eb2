//! Source: signed Git at the end of a thin link, believed only as far as it proves itself.
//!
//! ```text
//! poll:  ls-refs ----> floor ----> commits ----> signature, descent ----> files ----> accept
//!        (reference)   (trust)     (fetch)       (verify, repository)     (fetch)     (store)
//! load:  store ----> signature ----> all files there ----> Verified<Snapshot>
//! ```
//!
//! Guarantees: nothing is accepted whose signature, descent and completeness were not shown from bytes that are in the
//! store; an accepted snapshot and the floor it raises commit together; whatever goes wrong, the last accepted snapshot
//! stays. A poll with nothing new is one request.
//!
//! The wire, from the outside in: [`http`](self) carries requests, `body` counts and bounds the bytes of the answer,
//! `pktline` cuts them into frames, `protocol` reads the frames, `pack` and `delta` turn them into objects, `receive`
//! stores those. `session` is a conversation made of such requests, `line` what sources of
//! one repository share of them, `fetch` the order in which they are made, `poll` what is decided on the way.

mod body;
mod breaker;
mod client;
mod delta;
mod error;
mod examine;
mod fetch;
mod floors;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod github_app;
mod http;
mod ignore;
mod include;
mod line;
mod local;
mod object;
mod pack;
mod permits;
mod pktline;
mod poll;
mod protocol;
mod proxy;
mod receive;
mod reference;
mod repository;
mod room;
mod scope;
mod session;
mod snapshot;
mod ssh;
mod submodule;
mod time;
mod transport;
mod tree;
mod trees;
mod verify;
mod widen;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::time::Instant;
use wickie_model::{Oid, ResourceName, Revision};
use wickie_trust::{Candidate, Floor, Kept, PermitError, Signers};

pub use body::Traffic;
pub use error::{SourceError, SourceErrorClass};
pub use examine::{Examined, FloorSeen, Witness};
pub use floors::Began;
pub use local::LocalError;
pub use object::ObjectError;
pub use snapshot::{FileEntry, Found, Snapshot};
pub use transport::TransportError;
pub use tree::FileMode;
pub use verify::Verified;
pub use widen::{Further, Reached};
pub use wire::WireError;

use body::Meter;
use breaker::Breaker;
use client::Clients;
use line::Lines;
use reference::Offer;
use repository::Repository;
use room::{InUse, Unfit};
use scope::Scope;
use snapshot::content_error;
use time::Time;
use verify::{Case, Head, Judged, Missing, Notes, Stop, Trust};

use crate::config::git::{GitSource, Limits};
use crate::store::{Extent, FloorFile, KeptFloor, NewSnapshot, SnapshotRow, Store};

/// The Git stage: one for the whole agent.
#[derive(Clone)]
pub struct Git {
    repository: Repository,
    clients: Clients,
    breaker: Breaker,
    lines: Lines,
    in_use: InUse,
    unfit: Unfit,
    /// When somebody asked for a source that was not asked since.
    wanted_at: Arc<Mutex<HashMap<ResourceName, Instant>>>,
    asked: Arc<Mutex<HashMap<ResourceName, Asked>>>,
    /// The copies of floors that are kept outside the store, by place.
    copies: Arc<Mutex<Vec<(Kept, KeptFloor)>>>,
    /// The file among those places.
    file: Option<FloorFile>,
    time: Time,
    /// Commits that were seen since the start to be as complete as they were accepted: a poll with nothing new need not
    /// walk them again.
    complete: Arc<Mutex<HashMap<ResourceName, Oid>>>,
    /// Held for reading by every fetch: nothing is collected while objects arrive that nothing points to yet.
    fetching: Arc<RwLock<()>>,
}

/// An offer whose commits were asked for, and the floors they were asked for down to. What the server then gave is all
/// there is: an offer that was refused is not fetched again with every poll.
type Asked = (Offer, Vec<Option<Oid>>);

/// How often room is made for one poll before it is given up: there are not many more snapshots than that.
const ROOM_ATTEMPTS: usize = 50;

/// What a poll came to.
#[derive(Debug)]
pub struct Polled {
    /// What the source holds now, or why that could not be found out.
    pub outcome: Result<PollOutcome, SourceError>,
    /// What the poll has cost on the network, however it ended.
    pub traffic: Traffic,
}

/// Whether there is something new.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one a poll, and it is taken apart at once")]
pub enum PollOutcome {
    /// The server still offers what was accepted last.
    Unchanged(Revision),
    /// Something new was verified, fetched and accepted.
    New(Verified<Snapshot>),
}

impl Git {
    /// The stage, on a store.
    pub fn new(store: Store) -> Self {
        Self {
            repository: Repository::new(store),
            clients: Clients::default(),
            breaker: Breaker::default(),
            lines: Lines::default(),
            in_use: InUse::default(),
            unfit: Unfit::default(),
            wanted_at: Arc::default(),
            asked: Arc::default(),
            copies: Arc::default(),
            file: None,
            time: Time::default(),
            complete: Arc::default(),
            fetching: Arc::default(),
        }
    }

    /// Asks the server of a source for news, and fetches, verifies and accepts them.
    ///
    /// `now` is what the node's clock says; what has an end is judged by the time floor too.
    ///
    /// Cancelling it is safe at any point; what was received is kept and not asked for again.
    pub async fn poll(&self, source: &GitSource, now: Timestamp) -> Polled {
        self.poll_for(source, None, now).await
    }

    /// The same; `further` says which folders a new commit is used in beyond [`GitSource::paths`]. It is accepted once
    /// those are here too.
    pub async fn poll_for(&self, source: &GitSource, further: Option<&Further>, now: Timestamp) -> Polled {
        let meter = Meter::default();
        let asked = self.wanted_at.lock().unwrap_or_else(PoisonError::into_inner).remove(&source.name);
        let mut turn = self.lines.turn(source, asked).await;
        let mut outcome =
            self.ask(source, &meter, self.poll_without_end(source, further, now, &meter, &mut turn)).await;
        for attempt in 0..ROOM_ATTEMPTS {
            match self.make_room(source, &outcome, attempt).await {
                Ok(true) => {
                    let again = self.poll_without_end(source, further, now, &meter, &mut turn);
                    outcome = self.ask(source, &meter, again).await;
                }
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error = crate::chain::chain(&error), "no room could be made in the store");
                    break;
                }
            }
        }
        Polled { outcome, traffic: meter.read() }
    }

    /// An exchange with the server of a source, unless its host is known to be down, and within its timeout.
    async fn ask<T>(
        &self,
        source: &GitSource,
        meter: &Meter,
        exchange: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let authority = source.url.authority();
        let leave = self
            .breaker
            .ask(authority)
            .await
            .map_err(|after| SourceError::HostDown { host: authority.to_owned(), after })?;
        let late = |_| SourceError::TimedOut { host: source.url.host().to_owned(), after: source.timeout };
        let outcome = tokio::time::timeout(source.timeout, exchange).await.map_err(late).flatten();
        self.clients.unburden(source, meter.read().received);
        // A host that was heard is not dead, also when it then broke off.
        let silent = |error: &&SourceError| error.is_silence() && meter.read().received == 0;
        match outcome.as_ref().err().filter(|error| silent(error) || error.retry_after().is_some()) {
            Some(error) => leave.failed(error.retry_after(), Instant::now()),
            None => leave.succeeded(),
        }
        outcome
    }

    /// Lets the next poll ask the server of a source whatever happened and was heard before: somebody wants to know now.
    pub fn ask_at_once(&self, source: &GitSource) {
        self.wanted_at.lock().unwrap_or_else(PoisonError::into_inner).insert(source.name.clone(), Instant::now());
        self.unfit.forget(&source.name);
        self.breaker.reset(source.url.authority());
    }

    /// The last accepted snapshot of a source, verified again from the stored bytes, without the network; `None` if
    /// nothing was accepted yet, or the spec now names another URL or reference.
    pub async fn load(&self, source: &GitSource) -> Result<Option<Verified<Snapshot>>, SourceError> {
        let newest = self.repository.store.snapshots(&source.name, 1).await?;
        let Some((head, row)) = self.accepted(source, newest.into_iter().next()).await? else { return Ok(None) };
        self.check_complete(source, &head, &row.extent).await?;
        self.note_complete(source, head.revision.commit());
        self.snapshot(source, head, row.accepted_at, row.extent, None).await.map(Some)
    }

    /// The snapshot of a source at a revision that was accepted before, verified again in the same way; `None` where it
    /// is no longer kept. It need not be the newest: the floor has no part in what is enforced again of what was once
    /// accepted, and stays where it is.
    pub async fn load_at(
        &self,
        source: &GitSource,
        revision: &Revision,
    ) -> Result<Option<Verified<Snapshot>>, SourceError> {
        let stored = self.repository.store.snapshot_at(&source.name, revision).await?;
        let Some((head, row)) = self.accepted(source, stored).await? else { return Ok(None) };
        // One walk over all files serves every Kustomization that builds from them: what is then not there is missed as
        // it is read.
        let commit = head.revision.commit();
        if !self.is_complete(source, commit) {
            self.check_complete(source, &head, &row.extent).await?;
            self.note_complete(source, commit);
        }
        self.snapshot(source, head, row.accepted_at, row.extent, None).await.map(Some)
    }

    /// What was accepted, believed again; its files may have gone. Nothing where the spec now names another URL or
    /// reference.
    pub(crate) async fn accepted(
        &self,
        source: &GitSource,
        stored: Option<SnapshotRow>,
    ) -> Result<Option<(Verified<Head>, NewSnapshot)>, SourceError> {
        let Some(SnapshotRow { snapshot, id }) = stored else { return Ok(None) };
        let row = self.repository.store.source(&source.name).await?;
        let Some(floor) = row.floor.clone().filter(|floor| floor.track == source.track()) else { return Ok(None) };
        self.check_ahead(source, &row, &floor).await?;
        // The version that a range chose is that of the floor, and of no other.
        let newest = Some(&floor).filter(|floor| floor.commit == snapshot.revision.commit());
        let offer = accepted_offer(source, &snapshot, newest);
        let case = self.accepted_case(source, id, snapshot.accepted_at).await?;
        let Some(judged) = self.believe(source, &offer, &case).await? else { return Ok(None) };
        let Judged { head, .. } = judged.map_err(|missing| unproven(source, &missing))?;
        Ok(Some((head, snapshot)))
    }

    /// Whether all is here that was accepted of a commit.
    async fn check_complete(&self, source: &GitSource, head: &Head, extent: &Extent) -> Result<(), SourceError> {
        let scope = Scope::of(extent);
        let missing = self.repository.missing(head.tree, &scope, &source.limits).await;
        let missing = missing.map_err(|fault| content_error(&head.revision, fault))?;
        if let Some(oid) = missing.first() {
            let source = ObjectError::Missing { kind: "object", oid };
            return Err(SourceError::Content { revision: head.revision.to_string(), source });
        }
        self.check_submodules(source, head.tree, &scope).await
    }

    fn note_complete(&self, source: &GitSource, commit: Oid) {
        let mut complete = self.complete.lock().unwrap_or_else(PoisonError::into_inner);
        complete.insert(source.name.clone(), commit);
    }

    fn is_complete(&self, source: &GitSource, commit: Oid) -> bool {
        let complete = self.complete.lock().unwrap_or_else(PoisonError::into_inner);
        complete.get(&source.name) == Some(&commit)
    }

    /// What an accepted snapshot is judged by: what it was accepted by then, as far as the node's policy still asks the
    /// same. What was accepted under other rules of history is judged by its newest commit.
    async fn accepted_case(&self, source: &GitSource, row: i64, adopted: Timestamp) -> Result<Case, SourceError> {
        let mut case = Case { adopted, since: None, notes: Notes::None, trust: Trust::default() };
        let Some(policy) = &source.policy else { return Ok(case) };
        let evidence = self.repository.store.evidence(row).await?;
        case.notes = Notes::Kept(evidence.notes);
        case.since = evidence.since.filter(|_| evidence.rules == Some(policy.rules()));
        if policy.trust_file {
            let span = evidence.trust.filter(|span| span.domain == policy.name);
            case.trust = self.trust(source, span.map(|span| (span.from, span.upto))).await?;
            case.trust.grows = false;
        }
        Ok(case)
    }

    /// The trusted versions of a source's trust file: those of a span, or the newest.
    async fn trust(&self, source: &GitSource, span: Option<(u64, u64)>) -> Result<Trust, SourceError> {
        let Some(policy) = source.policy.as_ref().filter(|policy| policy.trust_file) else {
            return Ok(Trust::default());
        };
        let mut documents = self.repository.store.trusted(&policy.name).await?;
        let newest = documents.last_key_value().map_or(0, |(version, _)| *version);
        let (from, upto) = span.unwrap_or((newest, newest));
        documents.retain(|version, _| (from..=upto).contains(version));
        Ok(Trust { from, documents, grows: span.is_none() })
    }

    /// Reads the commit (and the tag) of an offer from the store and judges it; `None` if it is not there, and what else is
    /// missing for a judgement.
    async fn believe(
        &self,
        source: &GitSource,
        offer: &Offer,
        case: &Case,
    ) -> Result<Option<Result<Judged, Missing>>, SourceError> {
        let failed = |fault| content_error(&offer.revision, fault);
        let Some(commit) = self.repository.commit(offer.commit()).await.map_err(failed)? else { return Ok(None) };
        let tag = match offer.tag() {
            Some(oid) => {
                let Some(tag) = self.repository.tag(oid).await.map_err(failed)? else { return Ok(None) };
                if tag.target != commit.oid {
                    let detail = format!("it is a tag of {}, not of {}", tag.target, commit.oid);
                    let source = ObjectError::Malformed { kind: "tag", oid, detail };
                    return Err(SourceError::Content { revision: offer.revision.to_string(), source });
                }
                Some(tag)
            }
            None => None,
        };
        match verify::judge(&self.repository, source, offer, (&commit, tag.as_ref()), case).await {
            Ok(judged) => Ok(Some(Ok(judged))),
            Err(Stop::Missing(missing)) => Ok(Some(Err(missing))),
            Err(Stop::Refused(error)) => Err(*error),
        }
    }

    async fn snapshot(
        &self,
        source: &GitSource,
        head: Verified<Head>,
        accepted_at: Timestamp,
        extent: Extent,
        began: Option<Began>,
    ) -> Result<Verified<Snapshot>, SourceError> {
        let snapshot = Snapshot::new(self.repository.clone(), source, (*head).clone(), accepted_at, extent);
        let snapshot = self.with_includes(source, snapshot).await?;
        let snapshot = snapshot.read_by(self.in_use.reading(head.revision.commit()));
        Ok(head.into_snapshot(snapshot.beginning(began)))
    }

    /// Who permits, by a signed permit, that what follows `source` goes from one commit to an earlier one; or why the
    /// permit gives no leave for that.
    pub fn permitted(
        &self,
        source: &GitSource,
        signers: &Signers,
        permit: &str,
        (from, to): (Oid, Oid),
        now: Timestamp,
    ) -> Result<String, PermitError> {
        permits::given(source, signers, permit, (from, to), self.later_of(now)).map(|signer| signer.to_string())
    }

    /// Whose permits count for a source, as its signers stand now.
    pub async fn permit_signers(&self, source: &GitSource) -> Result<Signers, SourceError> {
        let trust = self.trust(source, None).await?;
        verify::believed_signers(source, &trust)
    }

    /// Deletes the objects that no kept snapshot, floor or interrupted fetch reaches, and gives their number. While a
    /// fetch runs, nothing is deleted.
    pub async fn collect(&self) -> Result<usize, SourceError> {
        match self.fetching.try_write() {
            Ok(alone) => self.collect_alone(&alone).await,
            Err(_) => Ok(0),
        }
    }

    async fn collect_alone(&self, _alone: &RwLockWriteGuard<'_, ()>) -> Result<usize, SourceError> {
        let store = &self.repository.store;
        let roots = store.roots().await?.into_iter().chain(self.in_use.commits()).collect();
        let keep = self.repository.reachable(roots, &Limits::default()).await;
        let mut keep = keep.map_err(|fault| content_error(&Revision::new(None, Oid::from_bytes([0; 20])), fault))?;
        keep.extend(store.evidence_objects().await?);
        Ok(store.collect_objects(keep).await?)
    }
}

/// What is said where a judgement lacks something that cannot be had.
fn unproven(source: &GitSource, missing: &Missing) -> SourceError {
    let object = match missing {
        Missing::Objects(oids) => oids.first().map(|oid| format!("the object {oid}")),
        Missing::Commits(oids) | Missing::Parents { parents: oids, .. } => {
            oids.first().map(|oid| format!("the commit {oid}"))
        }
        Missing::Notes => Some(format!("the reference {}", verify::NOTES)),
    };
    SourceError::Unproven { object: object.unwrap_or_default(), host: source.url.host().to_owned() }
}

/// What was accepted, in the form in which it was offered then.
fn accepted_offer(source: &GitSource, snapshot: &NewSnapshot, floor: Option<&Floor>) -> Offer {
    use crate::config::git::Reference;
    let commit = snapshot.revision.commit();
    let shown = snapshot.revision.reference().unwrap_or_default();
    let tag_name = match &source.reference {
        Reference::Tag(_) | Reference::Semver(_) => Some(shown.to_owned()),
        Reference::Name(name) => name.as_str().strip_prefix("refs/tags/").map(str::to_owned),
        Reference::Branch(_) | Reference::Commit { .. } => None,
    };
    let candidate = match &tag_name {
        Some(_) => Candidate::Tag { commit, tag: snapshot.tag, version: floor.and_then(|floor| floor.version.clone()) },
        None => Candidate::Tip(commit),
    };
    Offer { candidate, revision: snapshot.revision.clone(), tag_name }
}
