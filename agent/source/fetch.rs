//! Fetching a revision: the commits first, and the files only once those are believed.

use wickie_model::Oid;

use super::error::Fault;
use super::protocol::{FetchRequest, Filter};
use super::receive::Receiver;
use super::reference::Offer;
use super::repository::{Missing, Repository};
use super::scope::Scope;
use super::session::Session;
use super::verify::Head;
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

    /// Fetches all branches and tags with all their history and files: from a server that gives nothing by id, a commit
    /// somewhere within them cannot be had for less.
    pub(crate) async fn branches(&mut self) -> Result<(), Fault> {
        let mut refs = self.session.ls_refs(&["refs/heads/".to_owned(), "refs/tags/".to_owned()]).await?;
        refs.retain(|found| found.name.starts_with("refs/heads/") || found.name.starts_with("refs/tags/"));
        let mut wants: Vec<Oid> = refs.into_iter().map(|found| found.oid).collect();
        wants.sort_unstable();
        wants.dedup();
        match wants.is_empty() || wants.len() > WANTS {
            true => Err(WireError::TooMuch { what: "branches and tags", limit: WANTS as u64 }.into()),
            false => self.receive(&FetchRequest { wants, ..Default::default() }).await,
        }
    }

    /// Fetches single trees and blobs, without what lies beneath.
    pub(crate) async fn single(&mut self, oids: &[Oid]) -> Result<(), Fault> {
        let server = self.session.capabilities().await?;
        if let Some(first) = oids.first().filter(|_| !server.any_object) {
            return Err(WireError::NotSent(*first).into());
        }
        for wants in oids.chunks(WANTS) {
            let filter = server.filter.then_some(Filter::NoTrees);
            self.receive(&FetchRequest { wants: wants.to_vec(), filter, ..Default::default() }).await?;
        }
        Ok(())
    }

    /// Fetches single commits, without their history; with their files only from a server that cannot leave those out or
    /// gives nothing by its id later.
    pub(crate) async fn single_commits(&mut self, oids: &[Oid]) -> Result<(), Fault> {
        let server = self.session.capabilities().await?;
        for wants in oids.chunks(WANTS) {
            let filter = (server.filter && server.any_object).then_some(Filter::NoTrees);
            let depth = server.shallow.then_some(1);
            self.receive(&FetchRequest { wants: wants.to_vec(), filter, depth, ..Default::default() }).await?;
        }
        Ok(())
    }

    /// Fetches the commits that `from` reaches and those in `to` do not.
    pub(crate) async fn chain(&mut self, from: Oid, to: &[Oid]) -> Result<(), Fault> {
        let server = self.session.capabilities().await?;
        let filter = server.filter.then_some(Filter::NoTrees);
        let haves = to.iter().take(WANTS).copied().collect();
        self.receive(&FetchRequest { wants: vec![from], haves, filter, ..Default::default() }).await
    }

    /// Fetches single objects that are not here.
    pub(crate) async fn objects(&mut self, oids: &[Oid]) -> Result<(), Fault> {
        let here = self.repository.store.object_sizes(oids.to_vec()).await?;
        let wants: Vec<Oid> = oids.iter().copied().filter(|oid| here.iter().all(|(here, _)| here != oid)).collect();
        match wants.is_empty() {
            true => Ok(()),
            false => self.receive(&FetchRequest { wants, ..Default::default() }).await,
        }
    }

    /// Fetches what is in scope and not here of the files of a commit, building upon those of `known`, an earlier one.
    pub(crate) async fn files(&mut self, head: &Head, scope: &Scope, known: Option<Oid>) -> Result<(), Fault> {
        let mut known = known.filter(|known| *known != head.revision.commit());
        let server = self.session.capabilities().await?;
        let mut missing = self.repository.missing(head.tree, scope, &self.limits).await?;
        for _ in 0..ROUNDS {
            if missing.first().is_none() {
                return Ok(());
            }
            let by_id = self.by_id(&missing, known, server.filter);
            let request = match server.any_object {
                true => by_id,
                false => whole(head.revision.commit(), known),
            };
            self.receive(&request).await?;
            missing = self.repository.missing(head.tree, scope, &self.limits).await?;
            let left = request.wants.iter().copied().find(|want| missing.contains(*want));
            match left.or(missing.first().filter(|_| !server.any_object)) {
                None => {}
                // It was left out because the known commit has it, in a folder that was not in scope then.
                Some(_) if known.is_some() => known = None,
                Some(left) => return Err(WireError::NotSent(left).into()),
            }
        }
        Err(WireError::TooMuch { what: "requests for missing objects", limit: ROUNDS as u64 }.into())
    }

    /// Asks for what is missing by its ids: the way down to the folders in scope, then those, then single files.
    ///
    /// Told that the known commit is where our history ends, a server sends what differs between the two trees, and
    /// builds upon the known one. What it leaves out although it is not here is asked for by id in the next round.
    fn by_id(&self, missing: &Missing, known: Option<Oid>, filters: bool) -> FetchRequest {
        let (wants, filter) = match missing {
            Missing { above, .. } if !above.is_empty() => (above, Some(Filter::NoTrees)),
            // Once single files are missing, an earlier fetch broke off: what it brought is not asked for again.
            Missing { trees, blobs, .. } if !trees.is_empty() => {
                (trees, Some(Filter::NoBlobs).filter(|_| !blobs.is_empty()))
            }
            Missing { blobs, .. } => (blobs, None),
        };
        let known: Vec<Oid> = known.into_iter().collect();
        FetchRequest {
            wants: wants.iter().take(WANTS).copied().collect(),
            filter: filter.filter(|_| filters),
            haves: known.clone(),
            shallow: known,
            depth: None,
        }
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

/// Asks for a commit with all its files, where the server gives nothing by other ids.
fn whole(commit: Oid, known: Option<Oid>) -> FetchRequest {
    let haves = known.into_iter().collect();
    FetchRequest { wants: vec![commit], haves, depth: Some(1), ..Default::default() }
}
