//! How much of a commit is fetched, and fetching more of one.
//!
//! The paths that are used are known from the start; which further ones a build goes to is known once the files there
//! have been read (`../../base`). Whoever builds says so ([`Further`]), round by round, *before* a new commit is accepted:
//! an accepted commit has all that it is used for, and a build without Git never lacks a folder of it. What comes into
//! use later (another path in a spec) is fetched for the commit that was accepted ([`Git::widen`]), whose signature is
//! checked again, whatever its server offers by then.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use wickie_model::Oid;

use super::body::{Meter, Traffic};
use super::error::{Fault, SourceError};
use super::fetch::Fetch;
use super::object::ObjectError;
use super::poll::exchange_error;
use super::reference::Offer;
use super::scope::Scope;
use super::session::Session;
use super::snapshot::{Snapshot, content_error};
use super::submodule::{self, Submodule};
use super::verify::{self, Case, Head, Notes};
use super::wire::WireError;
use super::{Git, Repository, unproven};
use crate::config::git::{GitSource, GitUrl, Limits, Reference};
use crate::store::{Extent, SnapshotRow};

/// How often more of one commit is fetched before whoever asks for more is refused.
const ROUNDS: usize = 32;

/// Submodules of one commit, at all levels.
const MOST_SUBMODULES: usize = 200;

/// Says what a snapshot is used for beyond [`GitSource::paths`].
#[derive(Clone)]
pub struct Further(Arc<Ask>);

type Ask = dyn Fn(Snapshot) -> Pin<Box<dyn Future<Output = Result<Reached, SourceError>> + Send>> + Send + Sync;

/// What of a snapshot is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Paths that are used, and are here.
    pub here: BTreeSet<String>,
    /// Paths that are used, and are not here.
    pub missing: BTreeSet<String>,
}

impl Further {
    /// Takes the answer from a function.
    pub fn new<F>(ask: impl Fn(Snapshot) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reached, SourceError>> + Send + 'static,
    {
        Self(Arc::new(move |snapshot| Box::pin(ask(snapshot))))
    }
}

/// How much of a commit its source asks for.
pub(super) fn wanted(source: &GitSource) -> Extent {
    let (paths, sparse) = (source.paths.clone(), source.sparse.clone());
    // As in Flux, whose sparse checkout does without the step that checks out submodules.
    let submodules = source.submodules && sparse.is_empty();
    Extent { paths, sparse, submodules }
}

impl Git {
    /// Fetches what a believed commit is used for, and gives how much of it that is.
    pub(super) async fn fetch_extent(
        &self,
        source: &GitSource,
        head: &Head,
        further: Option<&Further>,
        fetch: &mut Fetch<'_>,
        meter: &Meter,
    ) -> Result<Extent, SourceError> {
        let newest = self.repository.store.snapshots(&source.name, 1).await?.pop().map(|row| row.snapshot);
        let known = newest.as_ref().map(|snapshot| snapshot.revision.commit());
        let mut extent = wanted(source);
        let (Some(paths), Some(further)) = (&extent.paths, further) else {
            self.fetch_files(source, head, &extent, known, fetch, meter).await?;
            return Ok(extent);
        };
        let asked: BTreeSet<String> = paths.iter().cloned().collect();
        // What the last commit was used for, this one may be too.
        let before = newest.and_then(|snapshot| snapshot.extent.paths).unwrap_or_default();
        let mut paths: BTreeSet<String> = asked.iter().cloned().chain(before).collect();
        for _ in 0..ROUNDS {
            extent.paths = Some(paths.iter().cloned().collect());
            self.fetch_files(source, head, &extent, known, fetch, meter).await?;
            let now = jiff::Timestamp::UNIX_EPOCH;
            let snapshot = Snapshot::new(self.repository.clone(), source, head.clone(), now, extent.clone());
            let snapshot = self.with_includes(source, snapshot).await?;
            let reached = further.0(snapshot).await?;
            if reached.missing.is_subset(&paths) {
                extent.paths = Some(asked.union(&reached.here).cloned().collect());
                return Ok(extent);
            }
            paths.extend(reached.missing);
        }
        let source = ObjectError::TooMuch { what: "folders that lead to other folders", limit: ROUNDS as u64 };
        Err(SourceError::Content { revision: head.revision.to_string(), source })
    }

    /// Fetches more of a commit that was accepted, `paths`, and notes that it is here; `false` where it is kept no more.
    pub async fn widen(
        &self,
        source: &GitSource,
        commit: Oid,
        paths: &[String],
    ) -> (Result<bool, SourceError>, Traffic) {
        let meter = Meter::default();
        let outcome = self.widen_all(source, Some(commit), paths, &meter).await;
        (outcome, meter.read())
    }

    async fn widen_all(
        &self,
        source: &GitSource,
        commit: Option<Oid>,
        paths: &[String],
        meter: &Meter,
    ) -> Result<bool, SourceError> {
        let (mut own, mut still) = (paths.to_vec(), true);
        for include in &source.include {
            let Some(other) = source.others.iter().find(|other| other.name == include.name) else { continue };
            let inside: Vec<String> = own.iter().filter_map(|path| include.inside(path)).collect();
            own.retain(|path| include.inside(path).is_none());
            if !inside.is_empty() {
                still &= Box::pin(self.widen_all(other, None, &inside, meter)).await?;
            }
        }
        if own.is_empty() {
            return Ok(still);
        }
        Ok(still & self.ask(source, meter, self.widen_without_end(source, commit, &own, meter)).await?)
    }

    async fn widen_without_end(
        &self,
        source: &GitSource,
        commit: Option<Oid>,
        paths: &[String],
        meter: &Meter,
    ) -> Result<bool, SourceError> {
        let _fetching = self.fetching.read().await;
        let store = &self.repository.store;
        // It need not be the newest: what was put back may need more, too. Of an included source, the newest is meant.
        let stored = store.snapshots(&source.name, u32::MAX).await?;
        let is_meant = |row: &SnapshotRow| commit.is_none_or(|commit| row.snapshot.revision.commit() == commit);
        let stored = stored.into_iter().find(is_meant);
        let Some((head, row)) = self.accepted(source, stored).await? else { return Ok(false) };
        let note = store.source(&source.name).await?.server;
        let mut session =
            Session::new(&self.clients, source, note.as_deref(), meter.clone()).map_err(SourceError::Transport)?;
        let mut fetch = Fetch { session: &mut session, repository: &self.repository, limits: source.limits };
        let mut extent = row.extent;
        if let Some(held) = &mut extent.paths {
            held.extend(paths.iter().cloned());
        }
        self.fetch_files(source, &head, &extent, None, &mut fetch, meter).await?;
        store.widen_snapshot(&source.name, head.revision.commit(), paths.to_vec()).await?;
        Ok(true)
    }

    async fn fetch_files(
        &self,
        source: &GitSource,
        head: &Head,
        extent: &Extent,
        known: Option<Oid>,
        fetch: &mut Fetch<'_>,
        meter: &Meter,
    ) -> Result<(), SourceError> {
        let scope = Scope::of(extent);
        let failed = |fault| exchange_error(source, &head.revision, "fetch files", fault);
        fetch.files(head, &scope, known).await.map_err(failed)?;
        let snapshot = || {
            let now = jiff::Timestamp::UNIX_EPOCH;
            Snapshot::new(self.repository.clone(), source, head.clone(), now, extent.clone())
        };
        // Asked of what was checked out, submodules aside, which are not together with it.
        if !extent.sparse.is_empty() {
            let lacks = snapshot().lacks_sparse().await.map_err(|fault| content_error(&head.revision, fault))?;
            if let Some(path) = lacks {
                return Err(SourceError::NoSparse { path, revision: head.revision.to_string() });
            }
        }
        let mut left = MOST_SUBMODULES;
        self.fetch_submodules(source, &source.url, head.tree, &scope, meter, &mut left, 1).await
    }

    /// Fetches the submodules of a project that are in scope, and theirs.
    #[expect(clippy::too_many_arguments, reason = "a recursion carries its bounds with it")]
    async fn fetch_submodules(
        &self,
        source: &GitSource,
        project: &GitUrl,
        tree: Oid,
        scope: &Scope,
        meter: &Meter,
        left: &mut usize,
        level: usize,
    ) -> Result<(), SourceError> {
        for submodule in self.in_scope(source, tree, scope, level).await? {
            let place = place(source, project, &submodule)?;
            let failed = |error| unusable(&submodule, &place.url, error);
            *left = left.checked_sub(1).ok_or_else(|| {
                let source = ObjectError::TooMuch { what: "submodules", limit: MOST_SUBMODULES as u64 };
                failed(SourceError::Content { revision: submodule.commit.to_string(), source })
            })?;
            let head = match self.believed_submodule(&place).await.map_err(failed)? {
                Some(head) if self.has_all(&head, &submodule.scope, &place.limits).await.map_err(failed)? => head,
                _ => self.fetch_submodule(&place, &submodule, meter).await.map_err(failed)?,
            };
            let next = Box::pin(self.fetch_submodules(
                source,
                &place.url,
                head.tree,
                &submodule.scope,
                meter,
                left,
                level + 1,
            ));
            next.await.map_err(failed)?;
        }
        Ok(())
    }

    /// Whether the submodules in scope of a project are here, and believed.
    pub(super) async fn check_submodules(
        &self,
        source: &GitSource,
        tree: Oid,
        scope: &Scope,
    ) -> Result<(), SourceError> {
        let mut ahead = vec![(source.url.clone(), tree, scope.clone(), 1)];
        while let Some((project, tree, scope, level)) = ahead.pop() {
            for submodule in self.in_scope(source, tree, &scope, level).await? {
                let place = place(source, &project, &submodule)?;
                let failed = |error| unusable(&submodule, &place.url, error);
                let head = self.believed_submodule(&place).await.map_err(failed)?;
                let complete = match &head {
                    Some(head) => self.has_all(head, &submodule.scope, &place.limits).await.map_err(failed)?,
                    None => false,
                };
                let Some(head) = head.filter(|_| complete) else {
                    let source = ObjectError::Missing { kind: "commit, or a file of it,", oid: submodule.commit };
                    return Err(failed(SourceError::Content { revision: submodule.commit.to_string(), source }));
                };
                ahead.push((place.url, head.tree, submodule.scope, level + 1));
            }
        }
        Ok(())
    }

    async fn in_scope(
        &self,
        source: &GitSource,
        tree: Oid,
        scope: &Scope,
        level: usize,
    ) -> Result<Vec<Submodule>, SourceError> {
        if level > submodule::DEEPEST {
            return Ok(Vec::new());
        }
        let listed = self.repository.submodules(tree, scope).await;
        listed.map_err(|fault| content_error(&wickie_model::Revision::new(Some(source.name.to_string()), tree), fault))
    }

    /// The commit of a submodule, if it is here and believed.
    async fn believed_submodule(&self, place: &GitSource) -> Result<Option<Head>, SourceError> {
        let Some(offer) = Offer::fixed(&place.reference) else { return Ok(None) };
        // It was adopted with the superproject's commit, which had to be believed for it to be named at all.
        let mut trust = self.trust(place, None).await?;
        trust.grows = false;
        let case = Case { adopted: jiff::Timestamp::UNIX_EPOCH, since: None, notes: Notes::None, trust };
        match self.believe(place, &offer, &case).await? {
            Some(Ok(judged)) => Ok(Some((*judged.head).clone())),
            Some(Err(missing)) => Err(unproven(place, &missing)),
            None => Ok(None),
        }
    }

    async fn has_all(&self, head: &Head, scope: &Scope, limits: &Limits) -> Result<bool, SourceError> {
        let missing = self.repository.missing(head.tree, scope, limits).await;
        Ok(missing.map_err(|fault| content_error(&head.revision, fault))?.first().is_none())
    }

    async fn fetch_submodule(
        &self,
        place: &GitSource,
        submodule: &Submodule,
        meter: &Meter,
    ) -> Result<Head, SourceError> {
        let Some(offer) = Offer::fixed(&place.reference) else { return Err(SourceError::VerifyWithoutTag) };
        let failed = |operation| {
            let revision = offer.revision.clone();
            move |fault| exchange_error(place, &revision, operation, fault)
        };
        let mut session = Session::new(&self.clients, place, None, meter.clone()).map_err(SourceError::Transport)?;
        // Objects are bounded for all of one operation together.
        let received = place.limits.received.saturating_sub(meter.read().received);
        let limits = Limits { received, ..place.limits };
        let mut fetch = Fetch { session: &mut session, repository: &self.repository, limits };
        if self.repository.commit(submodule.commit).await.map_err(failed("read the commit"))?.is_none() {
            commit_by_id(&mut fetch, &self.repository, &offer).await.map_err(failed("fetch the commit"))?;
        }
        let Some(head) = self.believed_submodule(place).await? else {
            return Err(failed("fetch the commit")(WireError::NotSent(submodule.commit).into()));
        };
        fetch.files(&head, &submodule.scope, None).await.map_err(failed("fetch files"))?;
        Ok(head)
    }
}

/// Fetches a commit that may be no tip of any branch; from a server that gives tips alone, with its branches.
async fn commit_by_id(fetch: &mut Fetch<'_>, repository: &Repository, offer: &Offer) -> Result<(), Fault> {
    match fetch.commits(offer, None).await {
        Ok(()) => {}
        Err(Fault::Wire(WireError::Remote(_) | WireError::Protocol(_) | WireError::Ended)) => {}
        Err(fault) => return Err(fault),
    }
    match repository.commit(offer.commit()).await?.is_some() {
        true => Ok(()),
        false => fetch.branches().await,
    }
}

/// Where a submodule is, and how it is to be believed.
fn place(source: &GitSource, project: &GitUrl, submodule: &Submodule) -> Result<GitSource, SourceError> {
    let module = &submodule.module;
    let url = submodule::locate(project, &module.url).map_err(|why| SourceError::SubmoduleUrl {
        path: module.path.clone(),
        url: module.url.clone(),
        why,
    })?;
    let declared = source.others.iter().find(|other| submodule::same_repository(&other.url, &url));
    let trusted = declared.or(Some(source).filter(|source| submodule::same_host(&source.url, &url)));
    let verify = declared.and_then(|declared| declared.verify.clone()).map(|verify| verify::of_commits(&verify));
    Ok(GitSource {
        reference: Reference::Commit { oid: submodule.commit, branch: None },
        credentials: trusted.and_then(|trusted| trusted.credentials.clone()),
        ca: trusted.and_then(|trusted| trusted.ca.clone()),
        client_certificate: trusted.and_then(|trusted| trusted.client_certificate.clone()),
        proxy: declared.and_then(|declared| declared.proxy.clone()).or_else(|| source.proxy.clone()),
        local_roots: Some(Vec::new()),
        verify,
        // What its own repository must be signed by; of its history nothing is known here.
        policy: declared.and_then(|declared| declared.policy.clone()),
        url,
        permits: Vec::new(),
        paths: None,
        sparse: Vec::new(),
        include: Vec::new(),
        others: Vec::new(),
        ..source.clone()
    })
}

/// A submodule cannot be used, and why.
fn unusable(submodule: &Submodule, url: &GitUrl, why: SourceError) -> SourceError {
    let (path, url, commit) = (submodule.module.path.clone(), url.to_string(), submodule.commit);
    SourceError::Submodule { path, url, commit, source: Box::new(why) }
}
