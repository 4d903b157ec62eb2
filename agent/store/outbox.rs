//! Table `outbox`: what must still reach a Provider, in order.
//!
//! Guarantees: a row leaves only when its receiver has taken it ([`Store::outbox_done`]) or when the outbox is full;
//! what is dropped then leaves a note in its place, which the receiver gets in the same order as everything else.
//! A failed attempt to send writes nothing.
//!
//! When the outbox is full, the oldest information goes first, then the oldest error: after a week cut off, what went
//! wrong and how things stand now is worth more than the successes of last Tuesday.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use wickie_model::{Event, Resource, ResourceKind, ResourceName, Severity};

use super::{Store, StoreError, events, time};

/// How much the outbox holds for all Providers together.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    rows: i64,
    bytes: i64,
}

const BOUNDS: Bounds = Bounds { rows: 10_000, bytes: 16 << 20 };

/// Reason of the note that stands for reports that were dropped.
const REPORTS_DROPPED: &str = "ReportsDropped";

/// The columns `severity` may hold. A note is never dropped.
mod rank {
    pub(super) const INFO: i64 = 0;
    pub(super) const ERROR: i64 = 1;
    pub(super) const NOTE: i64 = 2;
}

/// An event on its way to one Provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whom it is for.
    pub provider: ResourceName,
    /// What it will read: the event with the metadata of the Alert that selected it. It is put into the Provider's own
    /// form when it is sent.
    pub event: Event,
}

/// The row whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its place in the order.
    pub seq: i64,
    /// What is to be sent.
    pub event: Event,
}

/// What one Provider is still to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The Provider.
    #[serde(flatten)]
    pub provider: ResourceName,
    /// How many events wait for it.
    pub waiting: u64,
    /// When the oldest of them happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// How many its receiver would not have.
    pub set_aside: u64,
    /// How many were dropped because the outbox was full, and not yet told.
    pub dropped: u64,
}

impl Store {
    /// What waits, for each Provider for which something does.
    pub async fn outbox(&self) -> Result<Vec<Waiting>, StoreError> {
        self.call(|connection| {
            let failed = || StoreError::sql("read the outbox");
            let mut statement = connection
                .prepare_cached(
                    "SELECT namespace, name, sum(refused IS NULL), min(CASE WHEN refused IS NULL THEN at END),
                            sum(refused IS NOT NULL), sum(dropped)
                     FROM outbox GROUP BY namespace, name ORDER BY namespace, name",
                )
                .map_err(failed())?;
            let mut rows = statement.query([]).map_err(failed())?;
            let mut all = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                all.push(read_waiting(row)?);
            }
            Ok(all)
        })
        .await
    }

    /// The oldest event that a Provider is still to be sent, if there is one.
    pub async fn outbox_next(&self, provider: ResourceName) -> Result<Option<Queued>, StoreError> {
        self.call(move |connection| {
            let row = connection
                .prepare_cached(
                    "SELECT seq, body FROM outbox
                     WHERE namespace = ?1 AND name = ?2 AND refused IS NULL ORDER BY seq LIMIT 1",
                )
                .and_then(|mut statement| {
                    statement
                        .query_row([&provider.namespace, &provider.name], |row| {
                            Ok((row.get(0)?, row.get::<_, String>(1)?))
                        })
                        .optional()
                })
                .map_err(StoreError::sql("read the outbox"))?;
            row.map(|(seq, body)| Ok(Queued { seq, event: events::decode(&body)? })).transpose()
        })
        .await
    }

    /// Takes a row out: its receiver has it. A note that has come to stand for more since it was sent stays.
    pub async fn outbox_done(&self, sent: Queued) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction
                .prepare_cached("DELETE FROM outbox WHERE seq = ?1 AND event = ?2")
                .and_then(|mut statement| statement.execute(params![sent.seq, sent.event.id]))
                .map(drop)
                .map_err(StoreError::sql("take a report out of the outbox"))
        })
        .await
    }

    /// Sets a row aside that its receiver will never have, so that those behind it get their turn, and says so.
    pub async fn outbox_set_aside(&self, refused: Queued, why: String, said: Event) -> Result<(), StoreError> {
        self.transact(move |transaction| {
            transaction
                .prepare_cached("UPDATE outbox SET refused = ?3 WHERE seq = ?1 AND event = ?2")
                .and_then(|mut statement| statement.execute(params![refused.seq, refused.event.id, why]))
                .map_err(StoreError::sql("set a report aside"))?;
            events::add(transaction, &said)
        })
        .await
    }
}

/// Puts a delivery at the end. [`make_room`] must follow, once for all that a transaction adds.
pub(super) fn add(transaction: &Transaction<'_>, delivery: &Delivery) -> Result<(), StoreError> {
    let rank = match delivery.event.severity {
        Severity::Info => rank::INFO,
        Severity::Error => rank::ERROR,
    };
    insert(transaction, None, &delivery.provider, &delivery.event, rank, 0)
}

/// Drops rows until the outbox is within its bounds; `now` is when the newest of the added happened.
pub(super) fn make_room(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), StoreError> {
    drop_beyond(transaction, BOUNDS, now)
}

fn insert(
    transaction: &Transaction<'_>,
    seq: Option<i64>,
    provider: &ResourceName,
    event: &Event,
    rank: i64,
    dropped: i64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (seq, namespace, name, event, severity, at, bytes, dropped, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            let body = events::encode(event)?;
            statement.execute(params![
                seq,
                provider.namespace,
                provider.name,
                event.id,
                rank,
                time::to_column(event.at),
                body.len() as i64,
                dropped,
                body
            ])
        })
        .map(drop)
        .map_err(StoreError::sql("write a report into the outbox"))
}

/// A row that has to go.
struct Victim {
    seq: i64,
    provider: ResourceName,
    event: String,
    at: i64,
}

fn drop_beyond(transaction: &Transaction<'_>, bounds: Bounds, now: Timestamp) -> Result<(), StoreError> {
    let failed = || StoreError::sql("measure the outbox");
    let mut dropped: BTreeMap<ResourceName, u64> = BTreeMap::new();
    loop {
        let (rows, bytes): (i64, i64) = transaction
            .prepare_cached("SELECT count(*), coalesce(sum(bytes), 0) FROM outbox INDEXED BY outbox_by_severity")
            .and_then(|mut statement| statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(failed())?;
        if rows <= bounds.rows && bytes <= bounds.bytes {
            break;
        }
        let Some(victim) = first_to_go(transaction)? else { break };
        drop_row(transaction, &victim, now)?;
        *dropped.entry(victim.provider).or_default() += 1;
    }
    for (provider, count) in dropped {
        tracing::warn!(%provider, count, "the outbox is full: reports were dropped, information first");
    }
    Ok(())
}

/// The oldest information, or else the oldest error; nothing where only notes are left.
fn first_to_go(transaction: &Transaction<'_>) -> Result<Option<Victim>, StoreError> {
    transaction
        .prepare_cached(
            "SELECT seq, namespace, name, event, at FROM outbox WHERE severity < ?1 ORDER BY severity, seq LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([rank::NOTE], |row| {
                    Ok(Victim {
                        seq: row.get(0)?,
                        provider: ResourceName::new(row.get::<_, String>(1)?, row.get::<_, String>(2)?),
                        event: row.get(3)?,
                        at: row.get(4)?,
                    })
                })
                .optional()
        })
        .map_err(StoreError::sql("choose what to drop from the outbox"))
}

/// Drops a row and writes it into its Provider's note, which takes the place of the first row that went.
fn drop_row(transaction: &Transaction<'_>, victim: &Victim, now: Timestamp) -> Result<(), StoreError> {
    let failed = || StoreError::sql("drop from the outbox");
    let execute = |sql: &str, seq: i64| {
        transaction.prepare_cached(sql).and_then(|mut statement| statement.execute([seq])).map_err(failed())
    };
    execute("DELETE FROM outbox WHERE seq = ?1", victim.seq)?;
    let note: Option<(i64, i64, i64)> = transaction
        .prepare_cached(
            "SELECT seq, dropped, at FROM outbox WHERE namespace = ?1 AND name = ?2 AND severity = ?3 LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![victim.provider.namespace, victim.provider.name, rank::NOTE], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
        })
        .map_err(failed())?;
    let (seq, dropped, since) = match note {
        Some((seq, dropped, since)) => {
            execute("DELETE FROM outbox WHERE seq = ?1", seq)?;
            (seq, dropped + 1, since.min(victim.at))
        }
        None => (victim.seq, 1, victim.at),
    };
    if dropped == 1 {
        events::add(transaction, &beginning(victim, now))?;
    }
    let note = note_of(victim, dropped, time::from_column(since)?, now);
    insert(transaction, Some(seq), &victim.provider, &note, rank::NOTE, dropped)
}

/// What a receiver reads in the place of what was dropped. Its id changes with the count, so that a note that was sent
/// while more was dropped is not taken for the whole.
fn note_of(victim: &Victim, dropped: i64, since: Timestamp, now: Timestamp) -> Event {
    Event {
        id: format!("{}-dropped-{dropped}", victim.event),
        about: Resource::new(ResourceKind::Provider, victim.provider.clone()),
        uid: String::new(),
        severity: Severity::Error,
        at: since,
        reason: REPORTS_DROPPED.to_owned(),
        message: format!(
            "{dropped} report{} to this Provider from {since:.0} on, oldest information first, had to be dropped by {now:.0}: its receiver has not taken any for so long that the outbox is full",
            if dropped == 1 { "" } else { "s" },
        ),
        metadata: BTreeMap::from([("dropped".to_owned(), dropped.to_string())]),
    }
}

/// What the log of events says when dropping begins.
fn beginning(victim: &Victim, now: Timestamp) -> Event {
    Event {
        id: format!("{}-dropping", victim.event),
        about: Resource::new(ResourceKind::Provider, victim.provider.clone()),
        uid: String::new(),
        severity: Severity::Error,
        at: now,
        reason: REPORTS_DROPPED.to_owned(),
        message: "the outbox is full: reports to this Provider are dropped, oldest information first, until its receiver takes some again; `wickie status` tells how many".to_owned(),
        metadata: BTreeMap::new(),
    }
}

fn read_waiting(row: &Row<'_>) -> Result<Waiting, StoreError> {
    let failed = || StoreError::sql("read the outbox");
    let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs).map_err(failed());
    let text = |column: usize| row.get::<_, String>(column).map_err(failed());
    Ok(Waiting {
        provider: ResourceName::new(text(0)?, text(1)?),
        waiting: count(2)?,
        oldest: row.get::<_, Option<i64>>(3).map_err(failed())?.map(time::from_column).transpose()?,
        set_aside: count(4)?,
        dropped: count(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, DataDir, EventFilter};

    fn store() -> (Store, tempfile::TempDir) {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(temporary.path()), Timestamp::UNIX_EPOCH).unwrap().0;
        (store, temporary)
    }

    fn provider() -> ResourceName {
        ResourceName::new("flux-system", "ci")
    }

    fn event(id: &str, severity: Severity) -> Event {
        Event {
            id: id.to_owned(),
            about: Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop")),
            uid: String::new(),
            severity,
            at: Timestamp::from_second(1_800_000_000).unwrap(),
            reason: "ReconciliationSucceeded".to_owned(),
            message: "applied".to_owned(),
            metadata: BTreeMap::new(),
        }
    }

    /// Adds one event and drops what is beyond `rows`.
    async fn add(store: &Store, id: &str, severity: Severity, rows: i64) {
        let event = event(id, severity);
        store
            .transact(move |transaction| {
                let now = event.at;
                super::add(transaction, &Delivery { provider: provider(), event })?;
                drop_beyond(transaction, Bounds { rows, bytes: i64::MAX }, now)
            })
            .await
            .unwrap();
    }

    async fn drain(store: &Store) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(next) = store.outbox_next(provider()).await.unwrap() {
            ids.push(next.event.id.clone());
            store.outbox_done(next).await.unwrap();
        }
        ids
    }

    #[tokio::test]
    async fn what_was_written_first_goes_first_and_once() {
        let (store, _dir) = store();
        for id in ["a", "b", "c"] {
            add(&store, id, Severity::Info, 100).await;
        }
        let waiting = store.outbox().await.unwrap();
        assert_eq!((waiting[0].waiting, waiting[0].dropped), (3, 0));
        assert_eq!(drain(&store).await, ["a", "b", "c"]);
        assert_eq!(store.outbox().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_full_outbox_drops_information_before_errors_and_leaves_a_note_in_its_place() {
        let (store, _dir) = store();
        for id in ["i1", "i2", "i3"] {
            add(&store, id, Severity::Info, 4).await;
        }
        for id in ["e1", "e2"] {
            add(&store, id, Severity::Error, 4).await;
        }
        assert_eq!(store.outbox().await.unwrap()[0].dropped, 2);
        assert_eq!(store.events(EventFilter::default(), 9).await.unwrap().len(), 1);
        assert_eq!(drain(&store).await, ["i2-dropped-2", "i3", "e1", "e2"]);
    }

    #[tokio::test]
    async fn a_note_that_grew_while_it_was_sent_is_sent_again() {
        let (store, _dir) = store();
        for id in ["a", "b", "c"] {
            add(&store, id, Severity::Error, 2).await;
        }
        let sent = store.outbox_next(provider()).await.unwrap().unwrap();
        assert_eq!(sent.event.id, "b-dropped-2");
        add(&store, "d", Severity::Error, 2).await;
        store.outbox_done(sent).await.unwrap();
        assert_eq!(drain(&store).await, ["c-dropped-3", "d"]);
    }

    #[tokio::test]
    async fn what_is_set_aside_lets_the_next_have_its_turn_and_is_counted() {
        let (store, _dir) = store();
        for id in ["bad", "good"] {
            add(&store, id, Severity::Info, 100).await;
        }
        let refused = store.outbox_next(provider()).await.unwrap().unwrap();
        store.outbox_set_aside(refused, "400 Bad Request".to_owned(), event("said", Severity::Error)).await.unwrap();
        assert_eq!(store.outbox_next(provider()).await.unwrap().unwrap().event.id, "good");
        let waiting = store.outbox().await.unwrap();
        assert_eq!((waiting[0].waiting, waiting[0].set_aside), (1, 1));
    }

    #[tokio::test]
    async fn the_bounds_hold_for_what_a_batch_adds() {
        let (store, _dir) = store();
        let mut large = event("large", Severity::Info);
        large.message = "x".repeat(1 << 20);
        for _ in 0..3 {
            let deliveries = vec![Delivery { provider: provider(), event: large.clone() }; 7];
            store.commit(Batch { events: vec![(large.clone(), deliveries)], ..Batch::default() }).await.unwrap();
        }
        let waiting = &store.outbox().await.unwrap()[0];
        assert_eq!(waiting.waiting + waiting.dropped, 21 + 1, "the note is one of those that wait");
        assert!(waiting.waiting <= 16, "{waiting:?}");
    }

    /// What a step of the test below does.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Add(Severity),
        Take,
    }

    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
        use proptest::prelude::*;
        let step = prop_oneof![
            3 => Just(Step::Add(Severity::Info)),
            2 => Just(Step::Add(Severity::Error)),
            1 => Just(Step::Take),
        ];
        proptest::collection::vec(step, 1..40)
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]
        /// However the outbox fills and empties: what arrives is in order, and what does not is in a note's count.
        #[test]
        fn nothing_is_lost_in_silence(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (store, _dir) = store();
                let (mut added, mut dropped, mut arrived) = (0_usize, 0, Vec::new());
                let mut take = |next: &Queued| match next.event.metadata.get("dropped") {
                    Some(count) => dropped += count.parse::<usize>().unwrap(),
                    None => arrived.push(next.event.id.parse::<usize>().unwrap()),
                };
                for step in steps {
                    match step {
                        Step::Add(severity) => {
                            add(&store, &added.to_string(), severity, 5).await;
                            added += 1;
                        }
                        Step::Take => {
                            let Some(next) = store.outbox_next(provider()).await.unwrap() else { continue };
                            take(&next);
                            store.outbox_done(next).await.unwrap();
                        }
                    }
                }
                while let Some(next) = store.outbox_next(provider()).await.unwrap() {
                    take(&next);
                    store.outbox_done(next).await.unwrap();
                }
                assert!(arrived.is_sorted(), "{arrived:?}");
                assert_eq!(arrived.len() + dropped, added);
            });
        }
    }
}
