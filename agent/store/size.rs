//! How large the store is, and how large it may grow.
//!
//! Git objects are what makes it large, so they alone are refused: when the file would grow past its bound less a
//! reserve, or the disk would have less free than a reserve. Both reserves are for what must be written in any case:
//! inventories, statuses and the outbox, which has a bound of its own.
//!
//! The log beside the file comes on top. It is folded into the file every 4 MiB, and cut back to that size.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use wickie_model::{ResourceName, Revision};

use super::{Store, StoreError};

/// How large the file may grow where nothing else is said.
pub const DEFAULT_MOST: u64 = 1 << 30;

/// The smallest bound that leaves room for anything.
pub const SMALLEST_MOST: u64 = 4 << 20;

/// The reserves: an eighth, and no more than this.
const RESERVE: u64 = 32 << 20;

/// What is to fit before a fetch is begun.
const BATCH: u64 = 2 << 20;

/// Pages given back to the file system in one step: short enough that no other caller of the store waits long.
const PAGES: u32 = 512;

/// How large the store may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file, at the most.
    pub most: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { most: DEFAULT_MOST }
    }
}

/// Bytes of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// The file.
    pub file: u64,
    /// What is free within it.
    pub free: u64,
    /// The log beside it.
    pub log: u64,
}

impl Store {
    /// Fails where there is no room for a batch of objects, before they are paid for.
    pub async fn has_room(&self) -> Result<(), StoreError> {
        let bounds = self.bounds();
        self.call(move |connection| check_room(connection, bounds, BATCH.min(bounds.most / 16))).await
    }

    /// How large it is.
    pub async fn size(&self) -> Result<StoreSize, StoreError> {
        self.call(|connection| {
            let (page, pages, free) = pages(connection)?;
            let log = beside(connection).and_then(|path| std::fs::metadata(format!("{}-wal", path.display())).ok());
            Ok(StoreSize { file: page * pages, free: page * free, log: log.map_or(0, |log| log.len()) })
        })
        .await
    }

    /// Forgets the snapshot that can be missed best, and says which: the oldest that is not its source's last, was not
    /// applied last nor tried last by any Kustomization, is nothing that one would go back to, and none of `in_use`. `None`
    /// if there is none.
    pub async fn forget_oldest_snapshot(
        &self,
        in_use: Vec<wickie_model::Oid>,
    ) -> Result<Option<(ResourceName, Revision)>, StoreError> {
        self.transact(move |transaction| {
            let failed = || StoreError::sql("look for a snapshot that can be missed");
            let mut select = transaction
                .prepare_cached(
                    "SELECT snapshot.id, snapshot.oid, namespace, name, revision
                     FROM snapshot JOIN source ON source.id = snapshot.source
                     WHERE snapshot.id NOT IN (SELECT max(id) FROM snapshot GROUP BY source)
                       AND NOT EXISTS (
                         SELECT 1 FROM needed WHERE source_namespace = source.namespace AND source_name = source.name
                           AND needed.revision = snapshot.revision)
                       AND NOT EXISTS (
                         SELECT 1 FROM resource WHERE kind = 'Kustomization' AND snapshot.revision IN
                           (json_extract(status, '$.lastAppliedRevision'), json_extract(status, '$.lastAttemptedRevision')))
                     ORDER BY snapshot.id",
                )
                .map_err(failed())?;
            let rows = select.query_map([], |row| {
                let name = ResourceName::new(row.get::<_, String>(2)?, row.get::<_, String>(3)?);
                Ok((row.get::<_, i64>(0)?, super::objects::oid(row, 1)?, name, row.get::<_, String>(4)?))
            });
            let rows = rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed())?;
            let Some((id, _, name, revision)) = rows.into_iter().find(|(_, oid, ..)| !in_use.contains(oid)) else {
                return Ok(None);
            };
            let revision = revision
                .parse()
                .map_err(|_| StoreError::Corrupt { what: "snapshot", detail: format!("{revision:?} is no revision") })?;
            transaction
                .execute("DELETE FROM snapshot WHERE id = ?1", [id])
                .map_err(StoreError::sql("forget a snapshot"))?;
            Ok(Some((name, revision)))
        })
        .await
    }

    /// Whether the file is whole, as its own check says: what is wrong, or nothing.
    pub async fn damage(&self) -> Result<Option<String>, StoreError> {
        self.call(|connection| {
            let check = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
            let check = check.map_err(StoreError::sql("check the file"))?;
            Ok(Some(check).filter(|check| check != "ok"))
        })
        .await
    }

    /// Gives what is free within the file back to the file system.
    pub async fn give_back(&self) -> Result<(), StoreError> {
        loop {
            let left = self
                .call(|connection| {
                    let failed = || StoreError::sql("give space back");
                    // Each row of the answer is a page given back: it must be read to its end.
                    let mut vacuum =
                        connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})")).map_err(failed())?;
                    let mut rows = vacuum.query([]).map_err(failed())?;
                    while rows.next().map_err(failed())?.is_some() {}
                    drop(rows);
                    drop(vacuum);
                    Ok(pages(connection)?.2)
                })
                .await?;
            if left == 0 {
                // The file becomes shorter when the log is folded into it.
                return self
                    .call(|connection| {
                        let fold = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).optional();
                        fold.map(drop).map_err(StoreError::sql("fold the log into the file"))
                    })
                    .await;
            }
        }
    }
}

/// Refuses objects of `bytes` where the file or the disk has no room for them.
pub(super) fn check_room(connection: &Connection, bounds: Bounds, bytes: u64) -> Result<(), StoreError> {
    let (page, pages, free) = pages(connection)?;
    let used = page * pages.saturating_sub(free);
    let most = bounds.most.saturating_sub(reserve(bounds.most));
    if used.saturating_add(bytes) > most {
        return Err(StoreError::NoRoom { used, most: bounds.most });
    }
    let Some(disk) = beside(connection).as_deref().and_then(Path::parent).and_then(Disk::of) else { return Ok(()) };
    // What is free within the file costs no more of the disk; the log takes the bytes once before the file does.
    let grows = bytes.saturating_mul(2).saturating_sub(page * free);
    if disk.available < grows.saturating_add(reserve(disk.total)) {
        return Err(StoreError::DiskFull { available: disk.available, reserve: reserve(disk.total) });
    }
    Ok(())
}

fn reserve(of: u64) -> u64 {
    (of / 8).min(RESERVE)
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that we may still take.
    pub available: u64,
    /// All that it holds.
    pub total: u64,
}

impl Disk {
    /// The one that `folder` is on. One that does not say is not bounded by us.
    pub fn of(folder: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(Self {
            available: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

impl Disk {
    /// What is kept free on it for what must be written in any case.
    pub fn reserve(&self) -> u64 {
        reserve(self.total)
    }
}

fn beside(connection: &Connection) -> Option<PathBuf> {
    connection.path().filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Bytes of a page, pages of the file, and those of them that are free.
fn pages(connection: &Connection) -> Result<(u64, u64, u64), StoreError> {
    let read = |pragma: &str| {
        connection
            .query_row(pragma, [], |row| row.get::<_, i64>(0))
            .map(|number| u64::try_from(number).unwrap_or_default())
            .map_err(StoreError::sql("measure the store"))
    };
    Ok((read("PRAGMA page_size")?, read("PRAGMA page_count")?, read("PRAGMA freelist_count")?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jiff::Timestamp;
    use serde_json::json;
    use wickie_model::{Digest, Oid, Resource, ResourceKind};
    use wickie_trust::Floor;

    use super::*;
    use crate::store::{Batch, DataDir, Evidence, NewSnapshot, ObjectKind, Origin, Record, StoredObject};

    fn objects(from: u32, number: u32, bytes: usize) -> Vec<StoredObject> {
        let object = |index: u32| {
            let mut oid = [0; 20];
            oid[..4].copy_from_slice(&index.to_be_bytes());
            StoredObject {
                oid: Oid::from_bytes(oid),
                kind: ObjectKind::Blob,
                size: bytes as u64,
                deflated: vec![7; bytes],
            }
        };
        (from..from + number).map(object).collect()
    }

    fn store(dir: &Path, most: u64) -> Store {
        Store::open_within(&DataDir::new(dir), Bounds { most }, Timestamp::UNIX_EPOCH).unwrap().0
    }

    #[tokio::test]
    async fn objects_are_refused_before_the_bound_and_everything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), SMALLEST_MOST);
        let mut put = 0;
        let error = loop {
            match store.put_objects(objects(put, 10, 10_000)).await {
                Ok(()) => put += 10,
                Err(error) => break error,
            }
        };
        assert!(error.is_full() && error.to_string().contains("--max-store"), "{error}");
        assert!(put > 300, "{put} objects");
        let record = Record {
            resource: Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop")),
            origin: Origin::File,
            spec: Digest::of(b""),
            generation: 1,
            suspended: false,
            released: false,
            status: json!({"large": "x".repeat(100_000)}).into(),
            seen: None,
        };
        store.commit(Batch { records: vec![record], ..Batch::default() }).await.unwrap();
        let size = store.size().await.unwrap();
        assert!(size.file <= SMALLEST_MOST, "{size:?}");
    }

    /// `execute_batch` reads one row of a pragma's answer: one page was given back, and no more.
    #[tokio::test]
    async fn what_is_collected_is_given_back_to_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), DEFAULT_MOST);
        for batch in 0..40 {
            store.put_objects(objects(batch * 100, 100, 4_000)).await.unwrap();
        }
        let before = store.size().await.unwrap();
        assert!(before.file > 15 << 20 && before.log <= 6 << 20, "{before:?}");
        let keep: HashSet<_> = objects(0, 100, 0).into_iter().map(|object| object.oid).collect();
        assert_eq!(store.collect_objects(keep).await.unwrap(), 3_900);
        let after = store.size().await.unwrap();
        assert!(after.file < 1 << 20 && after.free == 0 && after.log <= 5 << 20, "{after:?}");
        assert_eq!(std::fs::metadata(dir.path().join("wickie.db")).unwrap().len(), after.file);
    }

    #[tokio::test]
    async fn the_oldest_snapshot_that_nobody_uses_goes_first_and_the_last_of_a_source_never() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), DEFAULT_MOST);
        let name = |name: &str| ResourceName::new("flux-system", name);
        let commit = |byte: u8| Oid::from_bytes([byte; 20]);
        for (source, byte) in [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("a", 5)] {
            let revision = Revision::new(Some("main".to_owned()), commit(byte));
            let snapshot = NewSnapshot {
                revision,
                tag: None,
                signer: None,
                bytes: 0,
                accepted_at: Timestamp::UNIX_EPOCH,
                extent: Default::default(),
            };
            let floor = Floor { track: "u".to_owned(), commit: commit(byte), tag: None, version: None };
            store
                .accept_snapshot(&name(source), snapshot, floor, Evidence::default(), Default::default(), 5)
                .await
                .unwrap();
        }
        let applied = Record {
            resource: Resource::new(ResourceKind::Kustomization, name("shop")),
            origin: Origin::File,
            spec: Digest::of(b""),
            generation: 1,
            suspended: false,
            released: false,
            status: json!({"lastAppliedRevision": format!("main@sha1:{}", commit(1)), "lastAttemptedRevision": null})
                .into(),
            seen: None,
        };
        store.commit(Batch { records: vec![applied], ..Batch::default() }).await.unwrap();
        let mut gone = Vec::new();
        while let Some((source, revision)) = store.forget_oldest_snapshot(vec![commit(3)]).await.unwrap() {
            gone.push((source.name.clone(), revision.commit()));
        }
        assert_eq!(gone, [("a".to_owned(), commit(4))]);
        assert_eq!(store.forget_oldest_snapshot(vec![]).await.unwrap().unwrap().1.commit(), commit(3));
    }
}
