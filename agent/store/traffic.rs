//! Table `traffic`: what each source has cost on the network, a day.

use jiff::civil::Date;
use rusqlite::{Row, Transaction, params};
use wickie_model::ResourceName;

use super::{Store, StoreError};

/// Days that are kept of a source: a month, and the one before it.
const KEPT: i64 = 62;

/// One source's day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficDay {
    /// The source.
    pub name: ResourceName,
    /// The day, in the time zone of the budget.
    pub day: Date,
    /// Bytes received, with the heads of HTTP, without TLS.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Requests made.
    pub requests: u64,
}

impl TrafficDay {
    /// A day on which nothing was spent.
    pub fn new(name: ResourceName, day: Date) -> Self {
        Self { name, day, received: 0, sent: 0, requests: 0 }
    }

    /// Bytes in both directions.
    pub fn total(&self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

impl Store {
    /// What all sources have cost, by name and day.
    pub async fn traffic(&self) -> Result<Vec<TrafficDay>, StoreError> {
        self.call(|connection| {
            connection
                .prepare_cached(
                    "SELECT namespace, name, day, received, sent, requests FROM traffic ORDER BY namespace, name, day",
                )
                .and_then(|mut select| select.query_map([], read).and_then(Iterator::collect))
                .map_err(StoreError::sql("read what sources have cost"))
        })
        .await
    }
}

/// Writes what a day came to so far, and lets the oldest days go.
pub(super) fn put(transaction: &Transaction<'_>, day: &TrafficDay) -> Result<(), StoreError> {
    let TrafficDay { name, day, received, sent, requests } = day;
    transaction
        .prepare_cached(
            "INSERT INTO traffic (namespace, name, day, received, sent, requests) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET received = ?4, sent = ?5, requests = ?6",
        )
        .and_then(|mut insert| {
            let [received, sent, requests] =
                [received, sent, requests].map(|number| i64::try_from(*number).unwrap_or(i64::MAX));
            insert.execute(params![name.namespace, name.name, day.to_string(), received, sent, requests])
        })
        .map_err(StoreError::sql("write what a source has cost"))?;
    transaction
        .prepare_cached(
            "DELETE FROM traffic WHERE namespace = ?1 AND name = ?2 AND day NOT IN
             (SELECT day FROM traffic WHERE namespace = ?1 AND name = ?2 ORDER BY day DESC LIMIT ?3)",
        )
        .and_then(|mut delete| delete.execute(params![name.namespace, name.name, KEPT]))
        .map(drop)
        .map_err(StoreError::sql("let old days go"))
}

fn read(row: &Row<'_>) -> rusqlite::Result<TrafficDay> {
    let day: Date = row.get::<_, String>(2)?.parse().map_err(|error: jiff::Error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into())
    })?;
    let number = |column| row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or_default());
    Ok(TrafficDay {
        name: ResourceName::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
        day,
        received: number(3)?,
        sent: number(4)?,
        requests: number(5)?,
    })
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use jiff::civil::date;

    use super::*;
    use crate::store::{Batch, DataDir};

    #[tokio::test]
    async fn days_are_kept_up_to_their_bound_and_the_last_word_on_each_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let day = |ahead: i32, received| {
            let day = date(2026, 1, 1).checked_add(ahead.days()).unwrap();
            TrafficDay {
                received,
                sent: 1,
                requests: 2,
                ..TrafficDay::new(ResourceName::new("flux-system", "fleet"), day)
            }
        };
        let traffic = (0..70).map(|ahead| day(ahead, 7)).chain([day(69, 9)]).collect();
        store.commit(Batch { traffic, ..Batch::default() }).await.unwrap();
        let kept = store.traffic().await.unwrap();
        assert_eq!((kept.len(), &kept[0], &kept[61]), (62, &day(8, 7), &day(69, 9)));
        assert_eq!(kept[61].total(), 10);
    }
}
