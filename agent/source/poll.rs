//! One poll: from what a server offers to what is accepted.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::time::Instant;
use wickie_model::{Oid, ResourceName, Revision};
use wickie_trust::{Floor, Step, WentBack};

use super::body::Meter;
use super::error::{Fault, SourceError};
use super::fetch::Fetch;
use super::line::Turn;
use super::permits::{self, Leave, StepBack};
use super::reference::{self, Offer};
use super::repository::Descent;
use super::scope;
use super::session::Session;
use super::snapshot::{Snapshot, content_error};
use super::verify::{Case, Judged, Missing, NOTES, Notes, Verified};
use super::widen::{Further, wanted};
use super::wire::WireError;
use super::{Asked, Git, PollOutcome, unproven};
use crate::config::git::GitSource;
use crate::store::{Extent, NewSnapshot, SourceRow};

/// Requests for what a judgement takes, before a server that keeps leaving things out is given up. A level of folders
/// takes one.
const MOST_ROUNDS: u32 = 200;

impl Git {
    /// Asks, judges, fetches, accepts; without a time limit.
    pub(super) async fn poll_without_end(
        &self,
        source: &GitSource,
        further: Option<&Further>,
        now: Timestamp,
        meter: &Meter,
        turn: &mut Turn,
    ) -> Result<PollOutcome, SourceError> {
        let _fetching = self.fetching.read().await;
        let store = &self.repository.store;
        let row = store.source(&source.name).await?;
        let mut session = Session::new(&self.clients, source, turn.server(row.server.as_deref()), meter.clone())
            .map_err(SourceError::Transport)?;
        let polled = self.converse(source, further, &row, (&mut session, turn), meter, now).await;
        if let Some(note) = session.note() {
            turn.learn(&note);
            store.note_server(&source.name, Some(note)).await?;
        }
        polled
    }

    async fn converse(
        &self,
        source: &GitSource,
        further: Option<&Further>,
        row: &SourceRow,
        (session, turn): (&mut Session, &mut Turn),
        meter: &Meter,
        now: Timestamp,
    ) -> Result<PollOutcome, SourceError> {
        let offer = offered(source, session, turn).await?;
        let revision = &offer.revision;
        let floor = row.floor.as_ref();
        let step = Floor::step(floor, &source.track(), &offer.candidate);
        if step == Ok(Step::Same) && self.holds(source, &offer).await? {
            return Ok(PollOutcome::Unchanged(revision.clone()));
        }
        self.unfit.check(&source.name, offer.commit())?;
        // An offer that is refused again and again is written down once.
        if row.pending != Some(offer.commit()) {
            self.repository.store.note_pending(&source.name, offer.commit()).await?;
        }
        self.repository.store.has_room().await?;
        let mut fetch = Fetch { session, repository: &self.repository, limits: source.limits };
        let step = match step {
            Ok(step) => step,
            Err(reason) => {
                self.step_back(source, &offer, floor, reason, &mut fetch, now).await?;
                Step::Forward
            }
        };
        let judged = self.adopt(source, &offer, &step, &mut fetch, now).await?;
        let extent = self.fetch_extent(source, &judged.head, further, &mut fetch, meter).await?;
        self.accept(source, &offer, judged, extent, meter, now).await.map(PollOutcome::New)
    }

    /// Whether an offer is the last accepted snapshot, believed still and complete.
    async fn holds(&self, source: &GitSource, offer: &Offer) -> Result<bool, SourceError> {
        let newest = self.repository.store.snapshots(&source.name, 1).await?;
        let Some(held) = newest.first().filter(|row| row.snapshot.revision == offer.revision) else {
            return Ok(false);
        };
        if !scope::covers(&held.snapshot.extent, &wanted(source)) {
            return Ok(false);
        }
        if self.is_complete(source, offer.commit()) {
            let case = self.accepted_case(source, held.id, held.snapshot.accepted_at).await?;
            return Ok(matches!(self.believe(source, offer, &case).await, Ok(Some(Ok(_)))));
        }
        Ok(matches!(self.load(source).await, Ok(Some(_))))
    }

    /// Brings the commit of an offer here and believes it, or says why not. No file was paid for yet.
    async fn adopt(
        &self,
        source: &GitSource,
        offer: &Offer,
        step: &Step,
        fetch: &mut Fetch<'_>,
        now: Timestamp,
    ) -> Result<Judged, SourceError> {
        let floor = match step {
            Step::IfDescends(floor) => Some(*floor),
            _ => None,
        };
        let failed = |fault| exchange_error(source, &offer.revision, "fetch commits", fault);
        let asked = (offer.clone(), floor);
        let here = self.repository.commit(offer.commit()).await.map_err(failed)?.is_some();
        let was_asked = here && self.was_asked(source, &asked);
        if !was_asked && !self.has_commits(offer, floor, source).await.map_err(failed)? {
            fetch.commits(offer, floor).await.map_err(failed)?;
            self.asked().insert(source.name.clone(), asked);
        }
        let judged = self.judged(source, offer, fetch, now).await?;
        if let Some(from) = floor {
            self.check_descent(source, offer, from, fetch, now).await?;
        }
        Ok(judged)
    }

    /// Judges an offer whose commits are here, and fetches what that takes beyond them.
    async fn judged(
        &self,
        source: &GitSource,
        offer: &Offer,
        fetch: &mut Fetch<'_>,
        now: Timestamp,
    ) -> Result<Judged, SourceError> {
        let failed = |fault| exchange_error(source, &offer.revision, "fetch what history is judged by", fault);
        let since = self.accepted_before(source, offer).await?;
        let trust = self.trust(source, None).await?;
        let mut case = Case { adopted: now, since, notes: Notes::Unasked, trust };
        let (mut asked_for, mut asked_alone) = (Vec::new(), false);
        let not_sent = || {
            let missing = WireError::NotSent(offer.commit()).into();
            exchange_error(source, &offer.revision, "fetch commits", missing)
        };
        for _ in 0..MOST_ROUNDS {
            let missing = match self.believe(source, offer, &case).await? {
                Some(Ok(judged)) => return Ok(judged),
                Some(Err(missing)) => missing,
                None if asked_alone => return Err(not_sent()),
                // Behind the floor, a commit is not among those that are new: it is asked for by itself.
                None => {
                    asked_alone = true;
                    let commit = offer.tag().unwrap_or(offer.commit());
                    fetch.single_commits(&[commit]).await.map_err(|_| not_sent())?;
                    continue;
                }
            };
            if case.trust.grows && source.policy.as_ref().is_some_and(|policy| policy.trust_file) {
                // What was shown to be trusted by now is not shown again with every round.
                let known = self.trust(source, Some((case.trust.from, u64::MAX))).await?;
                case.trust.documents = known.documents;
            }
            // Parents that are not here may be new commits, or lie behind what was accepted: they are asked for as one,
            // and then as the other. Anything else that was asked for and did not come will not come.
            let times = asked_for.iter().filter(|asked| **asked == missing).count();
            let fetched = match &missing {
                Missing::Notes => {
                    let refs =
                        fetch.session.ls_refs(&[NOTES.to_owned()]).await.map_err(|error| failed(error.into()))?;
                    let found = refs.into_iter().find(|found| found.name == NOTES);
                    case.notes = found.map_or(Notes::None, |found| Notes::Under(found.oid));
                    continue;
                }
                Missing::Parents { since, .. } if times == 0 => fetch.commits(offer, Some(*since)).await,
                Missing::Parents { since, parents } if times == 1 => fetch.chain(*since, parents).await,
                Missing::Objects(oids) if times == 0 => fetch.single(oids).await,
                Missing::Commits(oids) if times == 0 => fetch.single_commits(oids).await,
                missing => return Err(unproven(source, missing)),
            };
            match fetched {
                Ok(()) => {}
                // The server has not got it, or does not give it by its id: what cannot be judged is refused.
                Err(Fault::Wire(WireError::NotSent(_) | WireError::Remote(_))) => {
                    return Err(unproven(source, &missing));
                }
                Err(fault) => return Err(failed(fault)),
            }
            asked_for.push(missing);
        }
        let limit = u64::from(MOST_ROUNDS);
        Err(failed(WireError::TooMuch { what: "requests for what history is judged by", limit }.into()))
    }

    /// The commit since which the history of an offer is to be judged, if the node's policy asks for that.
    async fn accepted_before(&self, source: &GitSource, offer: &Offer) -> Result<Option<Oid>, SourceError> {
        let Some(policy) = source.policy.as_ref().filter(|policy| policy.judges_history()) else { return Ok(None) };
        let store = &self.repository.store;
        let floor = store.source(&source.name).await?.floor.filter(|floor| floor.track == source.track());
        let Some(floor) = floor else { return Ok(None) };
        if floor.commit != offer.commit() {
            return Ok(Some(floor.commit));
        }
        // It was accepted before: not by itself, but since what was accepted before it.
        let newest = store.snapshots(&source.name, 1).await?;
        let Some(held) = newest.first().filter(|row| row.snapshot.revision.commit() == offer.commit()) else {
            return Ok(None);
        };
        let evidence = store.evidence(held.id).await?;
        Ok(evidence.since.filter(|_| evidence.rules == Some(policy.rules())))
    }

    /// Goes on if there is leave for a step back, and otherwise says why history may not go there.
    async fn step_back(
        &self,
        source: &GitSource,
        offer: &Offer,
        floor: Option<&Floor>,
        reason: WentBack,
        fetch: &mut Fetch<'_>,
        now: Timestamp,
    ) -> Result<(), SourceError> {
        let (revision, to) = (offer.revision.to_string(), offer.commit());
        let Some(from) = floor.map(|floor| floor.commit) else {
            return Err(SourceError::WentBack { revision, reason: Box::new(reason), permits: String::new() });
        };
        let trust = self.trust(source, None).await?;
        match permits::ask(source, &trust, fetch, StepBack { from, to, now }).await? {
            Leave::Given(signer) => {
                tracing::warn!(source = %source.name, %revision, %from, %signer, "history goes back: a permit allows it");
                Ok(())
            }
            Leave::None(permits) => Err(SourceError::WentBack { revision, reason: Box::new(reason), permits }),
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<ResourceName, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_asked(&self, source: &GitSource, asked: &Asked) -> bool {
        self.asked().get(&source.name) == Some(asked)
    }

    /// Whether the commits of an offer are here already, from a fetch that was interrupted.
    async fn has_commits(&self, offer: &Offer, floor: Option<Oid>, source: &GitSource) -> Result<bool, Fault> {
        if self.repository.commit(offer.commit()).await?.is_none() {
            return Ok(false);
        }
        if let Some(tag) = offer.tag()
            && self.repository.tag(tag).await?.is_none()
        {
            return Ok(false);
        }
        let Some(floor) = floor else { return Ok(true) };
        let descent = self.repository.descends(offer.commit(), floor, source.limits.commits).await?;
        Ok(descent == Descent::Proven)
    }

    async fn check_descent(
        &self,
        source: &GitSource,
        offer: &Offer,
        from: Oid,
        fetch: &mut Fetch<'_>,
        now: Timestamp,
    ) -> Result<(), SourceError> {
        let (to, most) = (offer.commit(), source.limits.commits);
        let descent = self.repository.descends(to, from, most).await;
        let reason = match descent.map_err(|fault| content_error(&offer.revision, fault))? {
            Descent::Proven => return Ok(()),
            Descent::TooLong => WentBack::Unproven { from, to, most },
            // Asked for all commits between the two, the server gave what there is: no chain leads from one to the other.
            Descent::Disproven | Descent::Open => WentBack::Rewritten { from, to },
        };
        let floor = Floor { track: source.track(), commit: from, tag: None, version: None };
        self.step_back(source, offer, Some(&floor), reason, fetch, now).await
    }

    async fn accept(
        &self,
        source: &GitSource,
        offer: &Offer,
        Judged { head, evidence }: Judged,
        extent: Extent,
        meter: &Meter,
        now: Timestamp,
    ) -> Result<Verified<Snapshot>, SourceError> {
        let store = &self.repository.store;
        let snapshot = NewSnapshot {
            revision: offer.revision.clone(),
            tag: head.tag,
            signer: head.signer.clone(),
            bytes: meter.read().received,
            accepted_at: now,
            extent: extent.clone(),
        };
        // What cannot be put together is not accepted.
        let accepted = self.snapshot(source, head, now, extent).await?;
        let floor = Floor { track: source.track(), commit: offer.commit(), tag: offer.tag(), version: offer.version() };
        store.accept_snapshot(&source.name, snapshot, floor, evidence, source.history).await?;
        self.note_complete(source, offer.commit());
        Ok(accepted)
    }
}

async fn offered(source: &GitSource, session: &mut Session, turn: &mut Turn) -> Result<Offer, SourceError> {
    if let Some(fixed) = Offer::fixed(&source.reference) {
        return Ok(fixed);
    }
    let (own, now) = (reference::prefixes(&source.reference), Instant::now());
    let prefixes = turn.prefixes(&own, now);
    let refs = match turn.listed(&own) {
        Some(listed) => listed,
        None => {
            let refs = session.ls_refs(&prefixes).await.map_err(|error| SourceError::Exchange {
                operation: "list references",
                host: source.url.host().to_owned(),
                source: error,
            })?;
            turn.hear(prefixes, &refs, now);
            refs
        }
    };
    Offer::choose(&source.reference, refs).ok_or_else(|| SourceError::NoSuchRef {
        host: source.url.host().to_owned(),
        reference: source.reference.to_string(),
    })
}

pub(super) fn exchange_error(
    source: &GitSource,
    revision: &Revision,
    operation: &'static str,
    fault: Fault,
) -> SourceError {
    match fault {
        Fault::Wire(error) => SourceError::Exchange { operation, host: source.url.host().to_owned(), source: error },
        other => content_error(revision, other),
    }
}
