//! What time it is, for what has an end: the node's clock held against the time floor.
//!
//! The floor outlives the agent in the store. It is written with what is written anyway (an acceptance, a step of the
//! loop), and by itself only when a permit is first seen to have expired: that one stays expired.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use wickie_trust::TimeFloor;

use super::Git;
use crate::store::StoreError;

/// What was written down may lie so far behind before it is written again with something else.
const WRITE: Duration = Duration::from_secs(600);

/// The floor of the whole agent, once it was read.
#[derive(Clone, Default)]
pub(super) struct Time(Arc<Mutex<Option<Seen>>>);

struct Seen {
    begin: Instant,
    floor: TimeFloor,
    written: Option<Timestamp>,
}

impl Git {
    /// What time it is to be taken to be when the node's clock says `wall`.
    pub(super) async fn judge(&self, wall: Timestamp) -> Result<Timestamp, StoreError> {
        if self.seen(|_| ()).is_none() {
            let written = self.repository.store.time_floor().await?;
            let seen = Seen { begin: Instant::now(), floor: TimeFloor::new(written, Duration::ZERO), written };
            self.time.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(seen);
        }
        Ok(self.seen(|seen| seen.floor.judge(wall, seen.begin.elapsed())).unwrap_or(wall))
    }

    /// The later of what the node's clock says and the floor, as far as it is known yet.
    pub fn later_of(&self, wall: Timestamp) -> Timestamp {
        self.seen(|seen| seen.floor.judge(wall, seen.begin.elapsed())).unwrap_or(wall)
    }

    /// A commit that was believed is dated so.
    pub(super) fn attest(&self, made: Timestamp, wall: Timestamp) {
        self.seen(|seen| seen.floor.attest(made, wall));
    }

    /// The floor, to be written with an acceptance.
    pub(super) fn time_floor(&self) -> Timestamp {
        self.seen(|seen| *seen.written.insert(seen.floor.floor())).unwrap_or_default()
    }

    /// The floor, if it is time to write it along with something else.
    pub fn time_floor_to_write(&self) -> Option<Timestamp> {
        self.seen(|seen| {
            let floor = seen.floor.floor();
            let due = seen.written.is_none_or(|written| floor.duration_since(written).unsigned_abs() >= WRITE);
            due.then(|| *seen.written.insert(floor))
        })?
    }

    /// Something was seen to have ended at `end`: that must not be forgotten.
    pub(super) async fn remember_end(&self, end: Timestamp) -> Result<(), StoreError> {
        let floor = self.seen(|seen| {
            let floor = seen.floor.floor();
            let unwritten = seen.written.is_none_or(|written| written < end) && floor >= end;
            unwritten.then(|| *seen.written.insert(floor))
        });
        match floor.flatten() {
            Some(floor) => self.repository.store.raise_time_floor(floor).await,
            None => Ok(()),
        }
    }

    fn seen<T>(&self, ask: impl FnOnce(&mut Seen) -> T) -> Option<T> {
        self.time.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(ask)
    }
}
