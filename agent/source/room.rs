//! Room for what is fetched: which snapshots can be missed, and what is not tried again because it cannot fit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wickie_model::{Oid, ResourceName};

use super::error::SourceError;
use super::{Git, PollOutcome};
use crate::config::git::GitSource;
use crate::store::StoreError;

/// For so long a commit that did not fit is not fetched again, unless somebody asks for it.
const REMEMBERED: Duration = Duration::from_secs(6 * 3_600);

/// Commits whose files somebody reads just now.
#[derive(Clone, Default)]
pub(crate) struct InUse(Arc<Mutex<HashMap<Oid, usize>>>);

/// The files of a commit are being read. Until it is dropped they are not collected.
pub(crate) struct Reading {
    in_use: InUse,
    commit: Oid,
}

impl InUse {
    pub(crate) fn reading(&self, commit: Oid) -> Arc<Reading> {
        *self.lock().entry(commit).or_default() += 1;
        Arc::new(Reading { in_use: self.clone(), commit })
    }

    pub(crate) fn commits(&self) -> Vec<Oid> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Oid, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut commits = self.in_use.lock();
        if let Some(readers) = commits.get_mut(&self.commit) {
            *readers -= 1;
            if *readers == 0 {
                commits.remove(&self.commit);
            }
        }
    }
}

/// Commits that did not fit into the store, and why.
#[derive(Clone, Default)]
pub(crate) struct Unfit(Arc<Mutex<HashMap<ResourceName, TooLarge>>>);

struct TooLarge {
    commit: Oid,
    used: u64,
    most: u64,
    at: Instant,
}

impl Unfit {
    /// Fails where a commit is known not to fit.
    pub(crate) fn check(&self, name: &ResourceName, commit: Oid) -> Result<(), StoreError> {
        let mut unfit = self.lock();
        match unfit.get(name) {
            Some(known) if known.commit == commit && known.at.elapsed() < REMEMBERED => {
                Err(StoreError::NoRoom { used: known.used, most: known.most })
            }
            Some(_) => {
                unfit.remove(name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn note(&self, name: &ResourceName, commit: Oid, used: u64, most: u64) {
        self.lock().insert(name.clone(), TooLarge { commit, used, most, at: Instant::now() });
    }

    /// Somebody wants it tried again.
    pub(crate) fn forget(&self, name: &ResourceName) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceName, TooLarge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Git {
    /// After a poll that found no room: forgets one old snapshot, so that it can be tried again. Where there is none that can
    /// be missed, what was fetched in vain makes way for others, and the commit is not fetched again.
    pub(super) async fn make_room(
        &self,
        source: &GitSource,
        outcome: &Result<PollOutcome, SourceError>,
        attempt: usize,
    ) -> Result<bool, SourceError> {
        let Err(SourceError::Store(error)) = outcome else { return Ok(false) };
        if !error.is_full() {
            return Ok(false);
        }
        let store = &self.repository.store;
        // What was fetched for a commit that is no longer offered is the first to go.
        let alone = self.fetching.write().await;
        if attempt == 0 && self.collect_alone(&alone).await? > 0 {
            return Ok(true);
        }
        drop(alone);
        if let Some((owner, revision)) = store.forget_oldest_snapshot(self.in_use.commits()).await? {
            tracing::info!(source = %source.name, "to make room, the old snapshot {revision} of {owner} is forgotten");
            let alone = self.fetching.write().await;
            self.collect_alone(&alone).await?;
            self.unfit.forget(&source.name);
            return Ok(true);
        }
        if let StoreError::NoRoom { used, most } = error
            && let Some(pending) = store.source(&source.name).await?.pending
        {
            self.unfit.note(&source.name, pending, *used, *most);
            store.forget_pending(&source.name).await?;
            let alone = self.fetching.write().await;
            self.collect_alone(&alone).await?;
        }
        Ok(false)
    }
}
