//! What time it is at least. It is written along with what is written anyway: it costs no write of its own.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Store, StoreError};

impl Store {
    /// What time it is at least, as it was written down last.
    pub async fn time_floor(&self) -> Result<Option<Timestamp>, StoreError> {
        self.call(|connection| {
            let found: Option<i64> = connection
                .query_row("SELECT floor FROM time WHERE id = 1", [], |row| row.get(0))
                .optional()
                .map_err(StoreError::sql("read the time floor"))?;
            let read = |at| Timestamp::from_millisecond(at);
            found
                .map(read)
                .transpose()
                .map_err(|error| StoreError::Corrupt { what: "time floor", detail: error.to_string() })
        })
        .await
    }

    /// Writes down what time it is at least, by itself: where something has just been seen to have ended.
    pub async fn raise_time_floor(&self, floor: Timestamp) -> Result<(), StoreError> {
        self.transact(move |transaction| raise(transaction, floor)).await
    }
}

/// Raises the floor; one that is higher stays.
pub(super) fn raise(transaction: &Transaction<'_>, floor: Timestamp) -> Result<(), StoreError> {
    transaction
        .execute(
            "INSERT INTO time (id, floor) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET floor = max(floor, ?1)",
            params![floor.as_millisecond()],
        )
        .map(drop)
        .map_err(StoreError::sql("write the time floor"))
}
