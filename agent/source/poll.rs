//! One poll: from what a server offers to what is accepted.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use wickie_model::{Oid, ResourceName, Revision};
use wickie_trust::{Candidate, Floor, Signer, WentBack};

use super::body::Meter;
use super::error::{Fault, SourceError};
use super::fetch::Fetch;
use super::floors::{Began, Demand};
use super::line::Turn;
use super::permits::{self, Leave};
use super::reference::{self, Offer};
use super::repository::Descent;
use super::scope;
use super::session::Session;
use super::snapshot::{Snapshot, content_error};
use super::verify::{Case, Head, Judged, Missing, NOTES, Notes, Verified};
use super::widen::{Further, wanted};
use super::wire::WireError;
use super::{Asked, Git, PollOutcome, unproven};
use crate::config::git::GitSource;
use crate::store::{Extent, Moved, NewSnapshot, SourceRow};

/// Requests for what a judgement takes, before a server that keeps leaving things out is given up. A level of folders
/// takes one.
const MOST_ROUNDS: u32 = 200;

impl Git {
    /// Asks, judges, fetches, accepts; without a time limit.
    pub(super) async fn poll_without_end(
        &self,
        source: &GitSource,
        further: Option<&Further>,
        wall: Timestamp,
        meter: &Meter,
        turn: &mut Turn,
    ) -> Result<PollOutcome, SourceError> {
        let _fetching = self.fetching.read().await;
        let store = &self.repository.store;
        let now = self.judge(wall).await?;
        let row = store.source(&source.name).await?;
        let mut session = Session::new(&self.clients, source, turn.server(row.server.as_deref()), meter.clone())
            .map_err(SourceError::Transport)?;
        let polled = self.converse(source, further, &row, (&mut session, turn), meter, now).await;
        if let Some(note) = session.note() {
            turn.learn(&note);
            store.note_server(&source.name, Some(note)).await?;
        }
        if let Ok(PollOutcome::New(snapshot)) = &polled {
            self.attest(snapshot.committed(), wall);
            self.keep_file(Some(&source.name)).await;
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
        let demands = self.demands(source, row, &offer)?;
        if demands.unmoved && self.holds(source, &offer).await? {
            return Ok(PollOutcome::Unchanged(revision.clone()));
        }
        self.unfit.check(&source.name, offer.commit())?;
        // An offer that is refused again and again is written down once.
        if row.pending != Some(offer.commit()) {
            self.repository.store.note_pending(&source.name, offer.commit()).await?;
        }
        self.repository.store.has_room().await?;
        let mut fetch = Fetch { session, repository: &self.repository, limits: source.limits };
        let mut adoption = Adoption { source, offer: &offer, row, now, permitted: None };
        for (from, reason) in demands.back {
            self.step_back(&mut adoption, from, reason, &mut fetch).await?;
        }
        let judged = self.adopt(&mut adoption, &demands.descends, &mut fetch).await?;
        let extent = self.fetch_extent(source, &judged.head, further, &mut fetch, meter).await?;
        let began = adoption.began(demands.first);
        self.accept(&adoption, judged, extent, demands.passes, began, meter).await.map(PollOutcome::New)
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
    pub(super) async fn adopt(
        &self,
        adoption: &mut Adoption<'_>,
        demands: &[Demand],
        fetch: &mut Fetch<'_>,
    ) -> Result<Judged, SourceError> {
        let Adoption { source, offer, now, .. } = *adoption;
        let failed = |fault| exchange_error(source, &offer.revision, "fetch commits", fault);
        if demands.is_empty() {
            self.bring(source, offer, None, fetch).await.map_err(failed)?;
        }
        for demand in demands {
            self.bring(source, offer, Some(demand.from), fetch).await.map_err(failed)?;
        }
        let judged = self.judged(source, offer, fetch, now).await?;
        adoption.check_age(&judged.head)?;
        for demand in demands {
            self.check_descent(adoption, *demand, fetch).await?;
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

    /// Has the commits of an offer sent, down to `floor` if there is one, unless they are here or were asked for before.
    async fn bring(
        &self,
        source: &GitSource,
        offer: &Offer,
        floor: Option<Oid>,
        fetch: &mut Fetch<'_>,
    ) -> Result<(), Fault> {
        let here = self.repository.commit(offer.commit()).await?.is_some();
        if (here && self.was_asked(source, offer, floor)) || self.has_commits(offer, floor, source).await? {
            return Ok(());
        }
        fetch.commits(offer, floor).await?;
        if floor.is_some() && self.repository.commit(offer.commit()).await?.is_none() {
            // Told that we have the floor, a server leaves out what the floor descends from: it is older.
            fetch.commits(offer, None).await?;
        }
        let mut asked = self.asked();
        let asked = asked.entry(source.name.clone()).or_insert_with(|| (offer.clone(), Vec::new()));
        if asked.0 != *offer {
            *asked = (offer.clone(), Vec::new());
        }
        asked.1.push(floor);
        Ok(())
    }

    /// Goes on if there is leave for a step back from `from`, and otherwise says why history may not go there.
    pub(super) async fn step_back(
        &self,
        adoption: &mut Adoption<'_>,
        from: Oid,
        reason: WentBack,
        fetch: &mut Fetch<'_>,
    ) -> Result<(), SourceError> {
        let Adoption { source, offer, now, .. } = *adoption;
        let trust = self.trust(source, None).await?;
        let mut answer = permits::ask(source, &trust, fetch, from, now).await?;
        if let Some(end) = answer.expired {
            self.remember_end(end).await?;
        }
        for Leave { signer, to } in answer.leave {
            if self.leads_to(source, offer, to, fetch).await? {
                let revision = &offer.revision;
                tracing::warn!(source = %source.name, %revision, %from, %signer, "history goes back: a permit allows it");
                adoption.permitted = Some((from, signer));
                return Ok(());
            }
            answer
                .reasons
                .push_str(&format!("; the permit is for {to}, and what is offered does not descend from that"));
        }
        let revision = offer.revision.to_string();
        Err(SourceError::WentBack { revision, reason: Box::new(reason), permits: answer.reasons })
    }

    /// Whether an offer is what a permit is for, or, where it is the tip of something that grows, grew out of that.
    async fn leads_to(
        &self,
        source: &GitSource,
        offer: &Offer,
        to: Oid,
        fetch: &mut Fetch<'_>,
    ) -> Result<bool, SourceError> {
        let tip = offer.commit();
        if tip == to || !matches!(offer.candidate, Candidate::Tip(_)) {
            return Ok(tip == to);
        }
        let brought = self.bring(source, offer, Some(to), fetch).await;
        brought.map_err(|fault| exchange_error(source, &offer.revision, "fetch commits", fault))?;
        let descent = self.repository.descends(tip, to, source.limits.commits).await;
        Ok(descent.map_err(|fault| content_error(&offer.revision, fault))? == Descent::Proven)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<ResourceName, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_asked(&self, source: &GitSource, offer: &Offer, floor: Option<Oid>) -> bool {
        self.asked().get(&source.name).is_some_and(|(asked, floors)| asked == offer && floors.contains(&floor))
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
        adoption: &mut Adoption<'_>,
        demand: Demand,
        fetch: &mut Fetch<'_>,
    ) -> Result<(), SourceError> {
        let Adoption { source, offer, .. } = *adoption;
        let (from, to, most) = (demand.from, offer.commit(), source.limits.commits);
        let descent = self.repository.descends(to, from, most).await;
        let reason = match descent.map_err(|fault| content_error(&offer.revision, fault))? {
            Descent::Proven => return Ok(()),
            _ if demand.given => WentBack::NotGiven { from, to },
            Descent::TooLong => WentBack::Unproven { from, to, most },
            // Asked for all commits between the two, the server gave what there is: no chain leads from one to the other.
            Descent::Disproven | Descent::Open => WentBack::Rewritten { from, to },
        };
        if demand.given {
            let revision = offer.revision.to_string();
            return Err(SourceError::BelowGiven { revision, reason: Box::new(reason) });
        }
        self.step_back(adoption, from, reason, fetch).await
    }

    async fn accept(
        &self,
        adoption: &Adoption<'_>,
        Judged { head, evidence }: Judged,
        extent: Extent,
        passed: Vec<Oid>,
        began: Option<Began>,
        meter: &Meter,
    ) -> Result<Verified<Snapshot>, SourceError> {
        let Adoption { source, offer, now, .. } = *adoption;
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
        let accepted = self.snapshot(source, head, now, extent, began).await?;
        let floor = Floor { track: source.track(), commit: offer.commit(), tag: offer.tag(), version: offer.version() };
        let moved = Moved { passed, time_floor: self.time_floor() };
        store.accept_snapshot(&source.name, snapshot, floor, evidence, moved, source.history).await?;
        self.note_complete(source, offer.commit());
        Ok(accepted)
    }
}

/// One offer on its way to acceptance.
pub(super) struct Adoption<'a> {
    pub(super) source: &'a GitSource,
    pub(super) offer: &'a Offer,
    pub(super) row: &'a SourceRow,
    /// The later of the clock and the time floor.
    pub(super) now: Timestamp,
    /// The step back that was permitted, and by whom.
    pub(super) permitted: Option<(Oid, Signer)>,
}

impl Adoption<'_> {
    /// What was accepted on the track of the spec.
    fn floor(&self) -> Option<&Floor> {
        self.row.floor.as_ref().filter(|floor| floor.track == self.source.track())
    }

    /// Refuses what was committed too long ago, unless it was accepted before.
    fn check_age(&self, head: &Head) -> Result<(), SourceError> {
        let Some(max_age) = self.source.max_age else { return Ok(()) };
        let is_new = self.floor().is_none_or(|floor| floor.commit != self.offer.commit());
        let age = Duration::try_from(self.now.duration_since(head.committed)).unwrap_or_default();
        match is_new && age >= max_age.limit() {
            true => Err(SourceError::TooOld {
                revision: self.offer.revision.to_string(),
                committed: head.committed,
                max_age,
            }),
            false => Ok(()),
        }
    }

    /// How the floor begins with this one, if it does; `first` where no copy bound it.
    fn began(&self, first: bool) -> Option<Began> {
        if let Some((from, signer)) = &self.permitted {
            return Some(Began::Permit { from: *from, signer: signer.to_string() });
        }
        match &self.row.floor {
            Some(before) if before.track != self.source.track() => Some(Began::Track { before: before.clone() }),
            Some(_) => None,
            None if first => Some(Began::FirstContact { given: self.source.given.is_some() }),
            None => None,
        }
    }
}

pub(super) async fn offered(source: &GitSource, session: &mut Session, turn: &mut Turn) -> Result<Offer, SourceError> {
    if let Some(fixed) = Offer::fixed(&source.reference) {
        return Ok(fixed);
    }
    let (own, now) = (reference::prefixes(&source.reference), Instant::now());
    let prefixes = turn.prefixes(&own, now);
    // What is not in a listing that was made for somebody else may have come since.
    let offered = turn.listed(&own).and_then(|listed| Offer::choose(&source.reference, listed));
    if let Some(offer) = offered {
        return Ok(offer);
    }
    let refs = session.ls_refs(&prefixes).await.map_err(|error| SourceError::Exchange {
        operation: "list references",
        host: source.url.host().to_owned(),
        source: error,
    })?;
    turn.hear(prefixes, &refs, now);
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
