//! Git objects: content-addressed, compressed.
//!
//! The store takes the ids it is given on trust; whoever writes has hashed the bytes, and whoever reads hashes them again.

use std::collections::HashSet;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{OptionalExtension as _, params};
use wickie_model::Oid;

use super::{Store, StoreError, size};

/// The four kinds of Git objects, under Git's own numbers (gitformat-pack(5), "object types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Git's own names")]
pub enum ObjectKind {
    Commit = 1,
    Tree = 2,
    Blob = 3,
    Tag = 4,
}

impl ObjectKind {
    /// The kind under a number of Git's.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Commit, Self::Tree, Self::Blob, Self::Tag].into_iter().find(|kind| *kind as u8 == number)
    }

    /// The word that stands in an object's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// An object as it lies in the store.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// Its id.
    pub oid: Oid,
    /// Its kind.
    pub kind: ObjectKind,
    /// Its size in bytes, inflated and without header.
    pub size: u64,
    /// A zlib stream of its bytes.
    pub deflated: Vec<u8>,
}

/// Ids a call speaks of at once: small enough that no other caller of the store waits long.
const CHUNK: usize = 1_000;

/// What an object costs beside its bytes: two ids, two index cells, its share of a page.
const ROW: u64 = 100;

impl Store {
    /// Writes objects, all or none; refuses them where there is no room. Objects that are there already are left as they are.
    pub async fn put_objects(&self, objects: Vec<StoredObject>) -> Result<(), StoreError> {
        let bounds = self.bounds();
        self.transact(move |transaction| {
            let bytes = objects.iter().map(|object| object.deflated.len() as u64 + ROW).sum();
            size::check_room(transaction, bounds, bytes)?;
            let failed = StoreError::sql;
            let mut insert = transaction
                .prepare_cached("INSERT OR IGNORE INTO object (oid, kind, size, data) VALUES (?1, ?2, ?3, ?4)")
                .map_err(failed("write objects"))?;
            for object in &objects {
                insert
                    .execute(params![object.oid.as_bytes(), object.kind as u8, object.size as i64, object.deflated])
                    .map_err(failed("write objects"))?;
            }
            Ok(())
        })
        .await
    }

    /// Reads an object.
    pub async fn object(&self, oid: Oid) -> Result<Option<StoredObject>, StoreError> {
        Ok(self.objects(vec![oid]).await?.pop().flatten())
    }

    /// Reads objects, in the order in which they are named; nothing stands for one that is not there. How many at once, and
    /// how large, is for the caller to bound.
    pub async fn objects(&self, oids: Vec<Oid>) -> Result<Vec<Option<StoredObject>>, StoreError> {
        self.call(move |connection| {
            let failed = StoreError::sql;
            let mut select = connection
                .prepare_cached("SELECT kind, size, data FROM object WHERE oid = ?1")
                .map_err(failed("read objects"))?;
            let read = |oid: Oid| {
                let object = |row: &rusqlite::Row<'_>| {
                    let size: i64 = row.get(1)?;
                    let size = u64::try_from(size).unwrap_or_default();
                    Ok(StoredObject { oid, kind: row.get(0)?, size, deflated: row.get(2)? })
                };
                select.query_row([oid.as_bytes()], object).optional().map_err(failed("read objects"))
            };
            oids.into_iter().map(read).collect()
        })
        .await
    }

    /// The inflated sizes of those objects that are there.
    pub async fn object_sizes(&self, oids: Vec<Oid>) -> Result<Vec<(Oid, u64)>, StoreError> {
        let mut sizes = Vec::with_capacity(oids.len());
        for chunk in oids.chunks(CHUNK) {
            let chunk = chunk.to_vec();
            let found = self
                .call(move |connection| {
                    let failed = StoreError::sql;
                    let mut select = connection
                        .prepare_cached("SELECT size FROM object WHERE oid = ?1")
                        .map_err(failed("look for objects"))?;
                    let mut found = Vec::with_capacity(chunk.len());
                    for oid in chunk {
                        let size: Option<i64> = select
                            .query_row([oid.as_bytes()], |row| row.get(0))
                            .optional()
                            .map_err(failed("look for objects"))?;
                        found.extend(size.map(|size| (oid, u64::try_from(size).unwrap_or_default())));
                    }
                    Ok(found)
                })
                .await?;
            sizes.extend(found);
        }
        Ok(sizes)
    }

    /// Deletes the objects that are not in `keep`, and gives their number. What is not deleted within one step is
    /// deleted in the next, so that a large collection keeps nobody waiting.
    pub async fn collect_objects(&self, keep: HashSet<Oid>) -> Result<usize, StoreError> {
        let keep = std::sync::Arc::new(keep);
        let mut after = Some(0);
        let mut collected = 0;
        while let Some(start) = after {
            let keep = keep.clone();
            let (next, deleted) = self.transact(move |transaction| collect_step(transaction, start, &keep)).await?;
            (after, collected) = (next, collected + deleted);
        }
        if collected > 0 {
            self.give_back().await?;
        }
        Ok(collected)
    }

    /// The bytes that all objects take, compressed.
    pub async fn object_bytes(&self) -> Result<u64, StoreError> {
        self.call(|connection| {
            connection
                .query_row("SELECT coalesce(sum(length(data)), 0) FROM object", [], |row| row.get::<_, i64>(0))
                .map(|bytes| u64::try_from(bytes).unwrap_or_default())
                .map_err(StoreError::sql("measure the objects"))
        })
        .await
    }
}

/// Looks at one chunk of rows from `start` on: where to go on, and how many were deleted.
fn collect_step(
    transaction: &rusqlite::Transaction<'_>,
    start: i64,
    keep: &HashSet<Oid>,
) -> Result<(Option<i64>, usize), StoreError> {
    let failed = StoreError::sql;
    let mut select = transaction
        .prepare_cached("SELECT rowid, oid FROM object WHERE rowid > ?1 ORDER BY rowid LIMIT ?2")
        .map_err(failed("list objects"))?;
    let rows: Vec<(i64, Oid)> = select
        .query_map(params![start, CHUNK as i64], |row| Ok((row.get(0)?, oid(row, 1)?)))
        .and_then(Iterator::collect)
        .map_err(failed("list objects"))?;
    let next = rows.last().map(|(row, _)| *row);
    let mut delete =
        transaction.prepare_cached("DELETE FROM object WHERE rowid = ?1").map_err(failed("delete an object"))?;
    let mut deleted = 0;
    for (row, _) in rows.iter().filter(|(_, oid)| !keep.contains(oid)) {
        deleted += delete.execute([row]).map_err(failed("delete an object"))?;
    }
    Ok((next, deleted))
}

/// A Git id out of a column.
pub(super) fn oid(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Oid> {
    row.get(column).map(Oid::from_bytes)
}

/// Like [`oid`], where the column may be empty.
pub(super) fn optional_oid(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Oid>> {
    Ok(row.get::<_, Option<[u8; 20]>>(column)?.map(Oid::from_bytes))
}

impl FromSql for ObjectKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = u8::column_result(value)?;
        Self::from_number(number).ok_or(FromSqlError::OutOfRange(number.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DataDir;

    fn object(byte: u8) -> StoredObject {
        StoredObject { oid: Oid::from_bytes([byte; 20]), kind: ObjectKind::Blob, size: 3, deflated: vec![byte] }
    }

    #[tokio::test]
    async fn what_is_not_kept_is_collected_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), jiff::Timestamp::UNIX_EPOCH).unwrap();
        store.put_objects((0..5).map(object).collect()).await.unwrap();
        store.put_objects(vec![object(4)]).await.unwrap();
        let keep = [1, 3].map(|byte| Oid::from_bytes([byte; 20]));
        assert_eq!(store.collect_objects(keep.into_iter().collect()).await.unwrap(), 3);
        let all = (0..5).map(|byte| Oid::from_bytes([byte; 20])).collect();
        assert_eq!(store.object_sizes(all).await.unwrap(), keep.map(|oid| (oid, 3)));
        let read = store.objects(vec![keep[1], Oid::from_bytes([0; 20]), keep[0]]).await.unwrap();
        assert_eq!(
            read.iter().map(|read| read.as_ref().map(|read| read.oid)).collect::<Vec<_>>(),
            [Some(keep[1]), None, Some(keep[0])]
        );
        let read = store.object(keep[0]).await.unwrap().unwrap();
        assert_eq!((read.kind, read.size, read.deflated), (ObjectKind::Blob, 3, vec![1]));
    }
}
