//! The thread that owns the connection, and the handle that everything else holds.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::open::{self, Found};
use super::{Bounds, DataDir, StoreError};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the store; clones speak to the same thread. The thread ends with the last of them.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    bounds: Bounds,
}

/// How many calls may wait before the next caller does.
const QUEUE: usize = 64;

/// When nothing was asked for so long, the pages of the file that were read or written are let go: most will not be wanted
/// again for hours, and the system has them.
const IDLE: Duration = Duration::from_millis(100);

impl Store {
    /// Opens the store of a data directory that the caller has locked. A damaged file is set aside, and its new name
    /// given back, so that it can be said.
    pub fn open(dir: &DataDir, now: Timestamp) -> Result<(Self, Option<PathBuf>), StoreError> {
        Self::open_within(dir, Bounds::default(), now)
    }

    /// Like [`Store::open`], with another bound of its size.
    pub fn open_within(dir: &DataDir, bounds: Bounds, now: Timestamp) -> Result<(Self, Option<PathBuf>), StoreError> {
        let (connection, found) = open::for_writing(&dir.database(), now)?;
        let aside = match found {
            Found::Whole => None,
            Found::SetAside(path) => Some(path),
        };
        Ok((Self::on(connection, bounds), aside))
    }

    /// Opens the store for reading alone, beside a running agent or without one.
    pub fn open_for_reading(dir: &DataDir) -> Result<Self, StoreError> {
        Ok(Self::on(open::for_reading(&dir.database())?, Bounds::default()))
    }

    /// How large it may grow.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// A store in memory, for what is only looked at.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self::on(open::in_memory()?, Bounds::default()))
    }

    fn on(mut connection: Connection, bounds: Bounds) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::spawn(move || {
            // Of a runtime that does nothing but wait, nothing can be lacking.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
            while let Some(job) = queue.blocking_recv() {
                let mut next = Some(job);
                while let Some(job) = next {
                    job(&mut connection);
                    next = runtime.block_on(async { tokio::time::timeout(IDLE, queue.recv()).await.ok().flatten() });
                }
                // A failure costs nothing but memory.
                let _ = connection.execute_batch("PRAGMA shrink_memory");
            }
        });
        Self { jobs, bounds }
    }

    /// Returns when the store's thread has done what it was asked before. Nothing is read or written.
    ///
    /// # Errors
    /// Where the thread has ended.
    pub async fn answers(&self) -> Result<(), StoreError> {
        self.call(|_| Ok(())).await
    }

    /// Keeps the thread from everything else, as a slow disk does.
    #[cfg(test)]
    pub(crate) async fn busy_for(&self, time: std::time::Duration) -> Result<(), StoreError> {
        self.call(move |_| {
            std::thread::sleep(time);
            Ok(())
        })
        .await
    }

    /// Runs `work` on the store's thread and waits for it without blocking the runtime.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The caller may have been cancelled; the work is done all the same.
            let _ = answer.send(work(connection));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Like [`Store::call`], within one transaction that is committed when `work` succeeds and rolled back when it fails.
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(move |connection| {
            let transaction = connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                .map_err(StoreError::sql("begin a transaction"))?;
            let done = work(&transaction)?;
            transaction.commit().map_err(StoreError::sql("commit a transaction"))?;
            Ok(done)
        })
        .await
    }
}
