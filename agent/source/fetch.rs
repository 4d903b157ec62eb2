//! Fetching a revision: the commits first, and the files only once those are believed.

use wickie_model::Oid;

use super::error::Fault;
use super::protocol::{FetchRequest, Filter};
use super::receive::Receiver;
use super::reference::Offer;
use super::repository::{Missing, Repository};
use super::session::Session;
use super::wire::WireError;
use crate::config::git::Limits;

/// Objects asked for by id in one request: 50 bytes of request each.
const WANTS: usize = 1_000;

/// Requests for what is still missing, before a server that keeps leaving things out is given up.
const ROUNDS: usize = 200;

/// One fetch of one revision.
pub(crate) struct Fetch<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) repository: &'a Repository,
    pub(crate) limits: Limits,
}

impl Fetch<'_> {
    /// Fetches the commit and the tag of an offer; with `floor`, also the commits between the two.
    pub(crate) async fn commits(&mut self, offer: &Offer, floor: Option<Oid>) -> Result<(), Fault> {
        let capabilities = self.session.capabilities().await?;
        let mut request = FetchRequest { wants: vec![offer.tag().unwrap_or(offer.commit())], ..Default::default() };
        request.filter = capabilities.filter.then_some(Filter::NoTrees);
        match floor {
            Some(floor) => request.haves = vec![floor],
            None => request.depth = capabilities.shallow.then_some(1),
        }
        self.receive(&request).await
    }

    /// Fetches what is not here of the files in `tree`, building upon those of `known`, a commit whose files all are.
    pub(crate) async fn files(&mut self, tree: Oid, known: Option<Oid>) -> Result<(), Fault> {
        let mut missing = self.repository.missing(tree, &self.limits).await?;
        if missing.trees == [tree] {
            // Told that the known commit is where our history ends, a server sends the difference of the two trees; and
            // it builds upon the known one.
            let known: Vec<Oid> = known.into_iter().collect();
            let request =
                FetchRequest { wants: vec![tree], haves: known.clone(), shallow: known, ..Default::default() };
            self.receive(&request).await?;
            missing = self.repository.missing(tree, &self.limits).await?;
        }
        for _ in 0..ROUNDS {
            if missing.trees.is_empty() && missing.blobs.is_empty() {
                return Ok(());
            }
            let request = self.rest(&missing);
            self.receive(&request).await?;
            missing = self.repository.missing(tree, &self.limits).await?;
            if let Some(left) =
                request.wants.iter().find(|want| missing.trees.contains(want) || missing.blobs.contains(want))
            {
                return Err(WireError::NotSent(*left).into());
            }
        }
        Err(WireError::TooMuch { what: "requests for missing objects", limit: ROUNDS as u64 }.into())
    }

    /// Trees first, since they tell what else is missing; with all that is beneath them, but for files that may be here.
    fn rest(&self, missing: &Missing) -> FetchRequest {
        let wants = if missing.trees.is_empty() { &missing.blobs } else { &missing.trees };
        let filter = (!missing.trees.is_empty()).then_some(Filter::NoBlobs);
        FetchRequest { wants: wants.iter().take(WANTS).copied().collect(), filter, ..Default::default() }
    }

    async fn receive(&mut self, request: &FetchRequest) -> Result<(), Fault> {
        let mut receiver = Receiver::new(&self.repository.store, self.limits);
        let stream = self.session.fetch(request).await?;
        let bases = receiver.receive(stream).await?;
        for chunk in bases.chunks(WANTS) {
            // The server built upon what history suggests is here and is not. A base that is a tree comes without
            // what is beneath it.
            let request = FetchRequest { wants: chunk.to_vec(), filter: Some(Filter::NoTrees), ..Default::default() };
            let stream = self.session.fetch(&request).await?;
            receiver.receive(stream).await?;
        }
        receiver.finish().await
    }
}
