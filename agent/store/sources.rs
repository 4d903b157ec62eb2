//! Sources: the floor of each, and what its server was found to be able to do.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use wickie_model::{Oid, ResourceName};
use wickie_trust::Floor;

use super::objects::{oid, optional_oid};
use super::{KeptFloor, OwnFloor, Store, StoreError};

/// What the store knows of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRow {
    /// What was accepted last.
    pub floor: Option<Floor>,
    /// Commits that it moved on from on the same track; the newest thousand of them.
    pub passed: Vec<Oid>,
    /// What the server was found to be able to do; the Git client's own notes.
    pub server: Option<String>,
    /// The commit that is being fetched.
    pub pending: Option<Oid>,
}

impl Store {
    /// What is known of a source; nothing of one that is new.
    pub async fn source(&self, name: &ResourceName) -> Result<SourceRow, StoreError> {
        let name = name.clone();
        self.call(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT track, floor, floor_tag, floor_version, server, pending
                     FROM source WHERE namespace = ?1 AND name = ?2",
                )
                .and_then(|mut select| select.query_row(params![name.namespace, name.name], read).optional())
                .map_err(StoreError::sql("read a source"))?;
            let row = match found {
                Some((row, Some(version))) => with_version(row, &version)?,
                Some((row, None)) => row,
                None => return Ok(SourceRow::default()),
            };
            let passed = connection
                .prepare_cached(
                    "SELECT oid FROM passed JOIN source ON source.id = passed.source
                     WHERE namespace = ?1 AND name = ?2",
                )
                .and_then(|mut select| {
                    select.query_map(params![name.namespace, name.name], |row| oid(row, 0)).and_then(Iterator::collect)
                })
                .map_err(StoreError::sql("read what a source has passed"))?;
            Ok(SourceRow { passed, ..row })
        })
        .await
    }

    /// The floor of every source that has one, to be kept elsewhere too.
    pub async fn floors(&self) -> Result<Vec<OwnFloor>, StoreError> {
        let names = self.call(|connection| {
            connection
                .prepare_cached("SELECT namespace, name, floor_at FROM source WHERE floor IS NOT NULL ORDER BY 1, 2")
                .and_then(|mut select| {
                    let each = |row: &Row<'_>| {
                        let name = ResourceName::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
                        Ok((name, row.get::<_, Option<i64>>(2)?.unwrap_or_default()))
                    };
                    select.query_map([], each).and_then(Iterator::collect::<Result<Vec<_>, _>>)
                })
                .map_err(StoreError::sql("list the floors"))
        });
        let mut floors = Vec::new();
        for (source, at) in names.await? {
            let SourceRow { floor, passed, .. } = self.source(&source).await?;
            let accepted_at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
            floors.extend(floor.map(|floor| OwnFloor { kept: KeptFloor { source, floor, accepted_at }, passed }));
        }
        Ok(floors)
    }

    /// Notes what the server of a source can do; nothing, to have it asked again.
    pub async fn note_server(&self, name: &ResourceName, server: Option<String>) -> Result<(), StoreError> {
        let name = name.clone();
        self.transact(move |transaction| {
            let id = source_id(transaction, &name)?;
            transaction
                .execute("UPDATE source SET server = ?2 WHERE id = ?1", params![id, server])
                .map(drop)
                .map_err(StoreError::sql("note a server"))
        })
        .await
    }

    /// Notes which commit is being fetched, so that what was received of it outlives an interruption.
    pub async fn note_pending(&self, name: &ResourceName, pending: Oid) -> Result<(), StoreError> {
        let name = name.clone();
        self.transact(move |transaction| {
            let id = source_id(transaction, &name)?;
            transaction
                .execute("UPDATE source SET pending = ?2 WHERE id = ?1", params![id, pending.as_bytes()])
                .map(drop)
                .map_err(StoreError::sql("note a fetch"))
        })
        .await
    }

    /// What was being fetched is given up: what was received of it need not be kept.
    pub async fn forget_pending(&self, name: &ResourceName) -> Result<(), StoreError> {
        let name = name.clone();
        self.transact(move |transaction| {
            transaction
                .execute(
                    "UPDATE source SET pending = NULL WHERE namespace = ?1 AND name = ?2",
                    params![name.namespace, name.name],
                )
                .map(drop)
                .map_err(StoreError::sql("give up a fetch"))
        })
        .await
    }

    /// Forgets a source with its floor and its snapshots: its spec is gone.
    pub async fn forget_source(&self, name: &ResourceName) -> Result<(), StoreError> {
        let name = name.clone();
        self.call(move |connection| {
            connection
                .execute("DELETE FROM source WHERE namespace = ?1 AND name = ?2", params![name.namespace, name.name])
                .map(drop)
                .map_err(StoreError::sql("forget a source"))
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<(SourceRow, Option<String>)> {
    let track: Option<String> = row.get(0)?;
    let floor = match (track, optional_oid(row, 1)?) {
        (Some(track), Some(commit)) => Some(Floor { track, commit, tag: optional_oid(row, 2)?, version: None }),
        _ => None,
    };
    let row_of = SourceRow { floor, passed: Vec::new(), server: row.get(4)?, pending: optional_oid(row, 5)? };
    Ok((row_of, row.get(3)?))
}

fn with_version(mut row: SourceRow, version: &str) -> Result<SourceRow, StoreError> {
    let version = version.parse().map_err(|error| StoreError::Corrupt {
        what: "floor",
        detail: format!("{version:?} is no version: {error}"),
    })?;
    if let Some(floor) = &mut row.floor {
        floor.version = Some(version);
    }
    Ok(row)
}

/// The row of a source, made where it is missing.
pub(super) fn source_id(transaction: &Transaction<'_>, name: &ResourceName) -> Result<i64, StoreError> {
    let failed = StoreError::sql;
    transaction
        .execute("INSERT OR IGNORE INTO source (namespace, name) VALUES (?1, ?2)", params![name.namespace, name.name])
        .map_err(failed("write a source"))?;
    transaction
        .query_row(
            "SELECT id FROM source WHERE namespace = ?1 AND name = ?2",
            params![name.namespace, name.name],
            |row| row.get(0),
        )
        .map_err(failed("write a source"))
}
