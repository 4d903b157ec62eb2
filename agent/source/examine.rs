//! Looking at a revision as the agent would, without accepting it: who signed what, what is believed and why.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use wickie_model::{Oid, Revision};
use wickie_trust::{At, Candidate};

use super::body::Meter;
use super::error::{Fault, SourceError};
use super::fetch::Fetch;
use super::object::Signed;
use super::poll::{Adoption, offered};
use super::reference::Offer;
use super::session::Session;
use super::snapshot::content_error;
use super::{Git, accepted_offer};
use crate::config::git::GitSource;
use crate::store::SnapshotRow;

/// No more commits than these are looked at, from the newest.
const COMMITS: usize = 20;

/// What was found out of a revision.
#[derive(Debug)]
pub struct Examined {
    /// Which.
    pub revision: Revision,
    /// The tag, and the commits from the newest: down to the floor, where there is one and they are here.
    pub objects: Vec<Witness>,
    /// The copies of the floor that it was held against.
    pub floors: Vec<FloorSeen>,
    /// The step back that a permit allows, and whose.
    pub permitted: Option<(Oid, String)>,
    /// Why it is not believed, if it is not.
    pub verdict: Result<(), SourceError>,
}

/// A commit or a tag, and what its signature is worth.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// `commit` or `tag`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// When it says it was made.
    pub made: Timestamp,
    /// Who signed it, where that is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Why its signature is not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A copy of a floor.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorSeen {
    /// Where it is kept.
    pub kept: String,
    /// The commit.
    pub commit: String,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Git {
    /// Asks the server what it offers for a source, and judges that as a poll does, but for its files. What arrives goes
    /// into this stage's store, and nothing is accepted.
    pub async fn examine(&self, source: &GitSource, wall: Timestamp) -> Result<Examined, SourceError> {
        let look = self.examine_without_end(source, wall);
        let host = || source.url.host().to_owned();
        let late = |_| Err(SourceError::TimedOut { host: host(), after: source.timeout });
        tokio::time::timeout(source.timeout, look).await.unwrap_or_else(late)
    }

    /// Asks the server what it offers for a source, with its credentials, and no more: one listing of references.
    pub async fn offered(&self, source: &GitSource) -> Result<Revision, SourceError> {
        let ask = async {
            let mut turn = self.lines.turn(source, Some(Instant::now())).await;
            let mut session =
                Session::new(&self.clients, source, None, Meter::default()).map_err(SourceError::Transport)?;
            Ok(offered(source, &mut session, &mut turn).await?.revision)
        };
        let late = |_| Err(SourceError::TimedOut { host: source.url.host().to_owned(), after: source.timeout });
        tokio::time::timeout(source.timeout, ask).await.unwrap_or_else(late)
    }

    async fn examine_without_end(&self, source: &GitSource, wall: Timestamp) -> Result<Examined, SourceError> {
        let now = self.judge(wall).await?;
        let row = self.repository.store.source(&source.name).await?;
        let mut turn = self.lines.turn(source, Some(Instant::now())).await;
        let mut session =
            Session::new(&self.clients, source, None, Meter::default()).map_err(SourceError::Transport)?;
        let mut offer = offered(source, &mut session, &mut turn).await?;
        if let Candidate::Commit(commit) = offer.candidate {
            // A commit that somebody asks about is held against the floor like the tip of a branch.
            offer.candidate = Candidate::Tip(commit);
        }
        let mut adoption = Adoption { source, offer: &offer, row: &row, now, permitted: None };
        let mut fetch = Fetch { session: &mut session, repository: &self.repository, limits: source.limits };
        let verdict = async {
            let demands = self.demands(source, &row, &offer)?;
            for (from, reason) in demands.back {
                self.step_back(&mut adoption, from, reason, &mut fetch).await?;
            }
            self.adopt(&mut adoption, &demands.descends, &mut fetch).await.map(drop)
        };
        let verdict = match verdict.await {
            Err(error) if !error.is_refusal() => return Err(error),
            verdict => verdict,
        };
        let permitted = adoption.permitted.take().map(|(from, signer)| (from, signer.to_string()));
        if self.repository.commit(offer.commit()).await.is_ok_and(|found| found.is_none()) {
            // It was refused before it was sent; who signed it is to be told all the same.
            let sent = fetch.commits(&offer, None).await;
            sent.map_err(|fault| super::poll::exchange_error(source, &offer.revision, "fetch commits", fault))?;
        }
        self.examined(source, &offer, now, permitted, verdict).await
    }

    /// Looks at what the store accepted last, without the network; nothing where that is nothing.
    pub async fn examine_stored(&self, source: &GitSource, wall: Timestamp) -> Result<Option<Examined>, SourceError> {
        let now = self.judge(wall).await?;
        let row = self.repository.store.source(&source.name).await?;
        let newest = self.repository.store.snapshots(&source.name, 1).await?;
        let Some(SnapshotRow { snapshot, .. }) = newest.into_iter().next() else { return Ok(None) };
        let offer = accepted_offer(source, &snapshot, row.floor.as_ref());
        let verdict = match self.load(source).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => return Ok(None),
            Err(error) if error.is_refusal() => Err(error),
            Err(error) => return Err(error),
        };
        self.examined(source, &offer, snapshot.accepted_at.max(now), None, verdict).await.map(Some)
    }

    async fn examined(
        &self,
        source: &GitSource,
        offer: &Offer,
        now: Timestamp,
        permitted: Option<(Oid, String)>,
        verdict: Result<(), SourceError>,
    ) -> Result<Examined, SourceError> {
        let row = self.repository.store.source(&source.name).await?;
        let floors = self.binding(source, &row);
        let seen = floors.iter().map(|copy| FloorSeen {
            kept: copy.kept.to_string(),
            commit: copy.floor.commit.to_string(),
            version: copy.floor.version.as_ref().map(ToString::to_string),
        });
        let stops: HashSet<Oid> = floors.iter().map(|copy| copy.floor.commit).collect();
        let objects = self.witnesses(source, offer, &stops, now).await;
        Ok(Examined {
            revision: offer.revision.clone(),
            objects: objects.map_err(|fault| content_error(&offer.revision, fault))?,
            floors: seen.collect(),
            permitted,
            verdict,
        })
    }

    async fn witnesses(
        &self,
        source: &GitSource,
        offer: &Offer,
        stops: &HashSet<Oid>,
        now: Timestamp,
    ) -> Result<Vec<Witness>, Fault> {
        let signers = match source.is_verified() {
            true => Some(self.permit_signers(source).await),
            false => None,
        };
        let witness = |kind, oid: Oid, made: Timestamp, signed: &Signed| {
            let at = At { now: now.max(made), signed: made };
            let judged = match &signers {
                None => Err("nobody was named whose signature would be believed".to_owned()),
                Some(Err(error)) => Err(error.to_string()),
                Some(Ok(signers)) => signers
                    .verify(&signed.payload, signed.signature.as_deref(), at)
                    .map(|signer| signer.to_string())
                    .map_err(|refusal| format!("it {refusal}")),
            };
            let (signer, refusal) = match judged {
                Ok(signer) => (Some(signer), None),
                Err(refusal) => (None, Some(refusal)),
            };
            Witness { kind, id: oid.to_string(), made, signer, refusal }
        };
        let mut found = Vec::new();
        if let Some(oid) = offer.tag()
            && let Some(tag) = self.repository.tag(oid).await?
        {
            found.push(witness("tag", oid, tag.tagged.unwrap_or(Timestamp::UNIX_EPOCH), &tag.signed));
        }
        let mut seen = HashSet::from([offer.commit()]);
        let mut ahead = VecDeque::from([offer.commit()]);
        while let Some(oid) = ahead.pop_front().filter(|_| found.len() < COMMITS) {
            let Some(commit) = self.repository.commit(oid).await? else { continue };
            found.push(witness("commit", oid, commit.committed, &commit.signed));
            let older = commit.parents.into_iter().filter(|parent| !stops.contains(parent) && !stops.contains(&oid));
            ahead.extend(older.filter(|parent| seen.insert(*parent)));
        }
        Ok(found)
    }
}
