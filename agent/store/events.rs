//! Table `event`: what happened, the newest kept.

use rusqlite::{Transaction, params};
use wickie_model::{Event, ResourceKind, Severity};

use super::{Store, StoreError};

/// How many events are kept.
const KEPT: i64 = 1_000;

/// Which events somebody wants to see; nothing set means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// About objects of this kind.
    pub kind: Option<ResourceKind>,
    /// About objects in this namespace.
    pub namespace: Option<String>,
    /// About objects of this name.
    pub name: Option<String>,
    /// At least this severe.
    pub severity: Option<Severity>,
}

impl EventFilter {
    /// Whether `event` is wanted.
    pub fn admits(&self, event: &Event) -> bool {
        let is = |want: &Option<String>, have: &str| want.as_deref().is_none_or(|want| want == have);
        self.kind.is_none_or(|kind| kind == event.about.kind)
            && is(&self.namespace, &event.about.name.namespace)
            && is(&self.name, &event.about.name.name)
            && self.severity.is_none_or(|least| event.severity >= least)
    }
}

impl Store {
    /// The newest events that the filter admits, newest first.
    pub async fn events(&self, filter: EventFilter, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.call(move |connection| {
            let failed = || StoreError::sql("read the events");
            let mut statement =
                connection.prepare_cached("SELECT body FROM event ORDER BY seq DESC").map_err(failed())?;
            let mut rows = statement.query([]).map_err(failed())?;
            let mut events = Vec::new();
            while events.len() < limit
                && let Some(row) = rows.next().map_err(failed())?
            {
                let event = decode(&row.get::<_, String>(0).map_err(failed())?)?;
                if filter.admits(&event) {
                    events.push(event);
                }
            }
            Ok(events)
        })
        .await
    }
}

/// Writes an event down and lets the oldest go.
pub(super) fn add(transaction: &Transaction<'_>, event: &Event) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT INTO event (body) VALUES (?1)")
        .and_then(|mut statement| statement.execute([encode(event)?]))
        .map_err(StoreError::sql("write an event"))?;
    transaction
        .prepare_cached("DELETE FROM event WHERE seq <= (SELECT max(seq) FROM event) - ?1")
        .and_then(|mut statement| statement.execute(params![KEPT]))
        .map(drop)
        .map_err(StoreError::sql("let old events go"))
}

/// An event as the file keeps it.
pub(super) fn encode(event: &Event) -> rusqlite::Result<String> {
    serde_json::to_string(event).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// The event that the file holds.
pub(super) fn decode(body: &str) -> Result<Event, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt { what: "event", detail: error.to_string() })
}
