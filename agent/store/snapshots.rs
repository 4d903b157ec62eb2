//! Verified snapshots, and the step by which one becomes the floor.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use wickie_model::{Oid, ResourceName, Revision};
use wickie_trust::Floor;

use super::evidence::{self, Evidence};
use super::objects::{oid, optional_oid};
use super::sources::source_id;
use super::{Store, StoreError, time_floor};

/// How much of a commit a snapshot has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The folders and files that were fetched; all where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// `spec.sparseCheckout`: what the paths of its files begin with; anything where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<String>,
    /// Whether submodules are part of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub submodules: bool,
}

/// A snapshot that was verified and is now to be kept.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// Its revision.
    pub revision: Revision,
    /// The annotated tag it was reached by, if it was.
    pub tag: Option<Oid>,
    /// Who signed it, for people.
    pub signer: Option<String>,
    /// Bytes received from the network for it.
    pub bytes: u64,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// How much of the commit it has.
    pub extent: Extent,
}

/// What an acceptance leaves behind.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// Floors from elsewhere that the accepted commit satisfies, beside the source's own: they lie behind now.
    pub passed: Vec<Oid>,
    /// What time it is at least.
    pub time_floor: Timestamp,
}

/// How many commits that a source moved on from are remembered: a copy of the floor that was not written for so many
/// acceptances binds like a new one.
pub(super) const PASSED: u32 = 1_000;

/// A snapshot that was accepted.
#[derive(Clone, Debug)]
pub struct SnapshotRow {
    /// What was accepted.
    pub snapshot: NewSnapshot,
    /// Higher ids were accepted later.
    pub id: i64,
}

impl Store {
    /// Keeps a snapshot whose objects are all in the store, with what it was judged by, makes it the source's floor, and
    /// forgets all but the last `keep` snapshots of that source and those that a Kustomization needs: in one transaction, so
    /// that none is ever without the others.
    pub async fn accept_snapshot(
        &self,
        name: &ResourceName,
        snapshot: NewSnapshot,
        floor: Floor,
        evidence: Evidence,
        moved: Moved,
        keep: u32,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.transact(move |transaction| {
            let source = source_id(transaction, &name)?;
            pass(transaction, source, &floor, &moved.passed)?;
            time_floor::raise(transaction, moved.time_floor)?;
            let failed = || StoreError::sql("accept a snapshot");
            // A revision that was accepted before and is again is the newest once more.
            transaction
                .execute(
                    "INSERT OR REPLACE INTO snapshot (source, revision, oid, tag, signer, bytes, accepted_at, extent)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        source,
                        snapshot.revision.to_string(),
                        snapshot.revision.commit().as_bytes(),
                        snapshot.tag.map(|tag| *tag.as_bytes()),
                        snapshot.signer,
                        snapshot.bytes as i64,
                        snapshot.accepted_at.as_millisecond(),
                        written(&snapshot.extent),
                    ],
                )
                .map_err(failed())?;
            evidence::write(transaction, transaction.last_insert_rowid(), &evidence)?;
            transaction
                .execute(
                    "UPDATE source SET track = ?2, floor = ?3, floor_tag = ?4, floor_version = ?5, floor_at = ?6,
                     pending = NULL WHERE id = ?1",
                    params![
                        source,
                        floor.track,
                        floor.commit.as_bytes(),
                        floor.tag.map(|tag| *tag.as_bytes()),
                        floor.version.map(|version| version.to_string()),
                        snapshot.accepted_at.as_millisecond(),
                    ],
                )
                .map_err(failed())?;
            transaction
                .execute(
                    "DELETE FROM snapshot WHERE source = ?1 AND id NOT IN
                     (SELECT id FROM snapshot WHERE source = ?1 ORDER BY id DESC LIMIT ?2)
                     AND revision NOT IN
                     (SELECT revision FROM needed WHERE source_namespace = ?3 AND source_name = ?4)",
                    params![source, keep.max(1), name.namespace, name.name],
                )
                .map(drop)
                .map_err(failed())
        })
        .await
    }

    /// The snapshots of a source, newest first, at most `limit`.
    pub async fn snapshots(&self, name: &ResourceName, limit: u32) -> Result<Vec<SnapshotRow>, StoreError> {
        let name = name.clone();
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT snapshot.id, revision, oid, tag, signer, bytes, accepted_at, extent
                     FROM snapshot JOIN source ON source.id = snapshot.source
                     WHERE namespace = ?1 AND name = ?2 ORDER BY snapshot.id DESC LIMIT ?3",
                )
                .and_then(|mut select| {
                    select.query_map(params![name.namespace, name.name, limit], read).and_then(Iterator::collect)
                })
                .map_err(StoreError::sql("read snapshots"))
        })
        .await
    }

    /// The snapshot of a source at a revision, if it is kept.
    pub async fn snapshot_at(
        &self,
        name: &ResourceName,
        revision: &Revision,
    ) -> Result<Option<SnapshotRow>, StoreError> {
        let (name, revision) = (name.clone(), revision.to_string());
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "SELECT snapshot.id, revision, oid, tag, signer, bytes, accepted_at, extent
                     FROM snapshot JOIN source ON source.id = snapshot.source
                     WHERE namespace = ?1 AND name = ?2 AND revision = ?3",
                )
                .and_then(|mut select| select.query_row(params![name.namespace, name.name, revision], read).optional())
                .map_err(StoreError::sql("read a snapshot"))
        })
        .await
    }

    /// Notes that more of an accepted commit is here: these paths, beside those that were.
    pub async fn widen_snapshot(&self, name: &ResourceName, commit: Oid, paths: Vec<String>) -> Result<(), StoreError> {
        let name = name.clone();
        self.transact(move |transaction| {
            let source = source_id(transaction, &name)?;
            let failed = || StoreError::sql("note what was fetched of a snapshot");
            let rows: Vec<(i64, Option<String>)> = transaction
                .prepare_cached("SELECT id, extent FROM snapshot WHERE source = ?1 AND oid = ?2")
                .and_then(|mut select| {
                    let rows =
                        select.query_map(params![source, commit.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
                    rows.and_then(Iterator::collect)
                })
                .map_err(failed())?;
            for (id, text) in rows {
                let mut extent = extent(text)?;
                let Some(held) = &mut extent.paths else { continue };
                held.extend(paths.iter().filter(|path| !held.contains(path)).cloned().collect::<Vec<_>>());
                transaction
                    .execute("UPDATE snapshot SET extent = ?2 WHERE id = ?1", params![id, written(&extent)])
                    .map_err(failed())?;
            }
            Ok(())
        })
        .await
    }

    /// Every commit and tag that the objects of the store are kept for: the snapshots of all sources, their floors, and
    /// what is being fetched.
    pub async fn roots(&self) -> Result<Vec<Oid>, StoreError> {
        self.call(|connection| {
            connection
                .prepare_cached(
                    "SELECT oid FROM snapshot UNION SELECT tag FROM snapshot WHERE tag IS NOT NULL
                     UNION SELECT floor FROM source WHERE floor IS NOT NULL
                     UNION SELECT pending FROM source WHERE pending IS NOT NULL",
                )
                .and_then(|mut select| select.query_map([], |row| oid(row, 0)).and_then(Iterator::collect))
                .map_err(StoreError::sql("list the snapshots' commits"))
        })
        .await
    }
}

/// Nothing for the whole of a commit, as it was before there was anything else.
fn written(extent: &Extent) -> Option<String> {
    (*extent != Extent::default()).then(|| serde_json::to_string(extent).ok()).flatten()
}

fn extent(text: Option<String>) -> Result<Extent, StoreError> {
    let Some(text) = text else { return Ok(Extent::default()) };
    serde_json::from_str(&text)
        .map_err(|error| StoreError::Corrupt { what: "snapshot", detail: format!("its extent {text:?}: {error}") })
}

/// Remembers what a source moves on from to `floor`; another track begins anew.
fn pass(transaction: &Transaction<'_>, source: i64, floor: &Floor, elsewhere: &[Oid]) -> Result<(), StoreError> {
    let failed = || StoreError::sql("remember what a source has passed");
    transaction
        .execute(
            "DELETE FROM passed WHERE source = ?1 AND (SELECT track FROM source WHERE id = ?1) IS NOT ?2",
            params![source, floor.track],
        )
        .map_err(failed())?;
    transaction
        .execute(
            "INSERT OR REPLACE INTO passed (source, oid)
             SELECT id, floor FROM source WHERE id = ?1 AND track = ?2 AND floor IS NOT ?3",
            params![source, floor.track, floor.commit.as_bytes()],
        )
        .map_err(failed())?;
    for oid in elsewhere.iter().filter(|oid| **oid != floor.commit) {
        transaction
            .execute("INSERT OR REPLACE INTO passed (source, oid) VALUES (?1, ?2)", params![source, oid.as_bytes()])
            .map_err(failed())?;
    }
    transaction
        .execute(
            "DELETE FROM passed WHERE source = ?1 AND (oid = ?2 OR id NOT IN
             (SELECT id FROM passed WHERE source = ?1 ORDER BY id DESC LIMIT ?3))",
            params![source, floor.commit.as_bytes(), PASSED],
        )
        .map(drop)
        .map_err(failed())
}

fn read(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    let unreadable = |column, error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
    };
    let revision: Revision = row.get::<_, String>(1)?.parse().map_err(|error| unreadable(1, Box::new(error)))?;
    if oid(row, 2)? != revision.commit() {
        return Err(unreadable(2, "the commit is not the one that the revision names".into()));
    }
    let accepted_at = Timestamp::from_millisecond(row.get(6)?).map_err(|error| unreadable(6, Box::new(error)))?;
    let snapshot = NewSnapshot {
        revision,
        tag: optional_oid(row, 3)?,
        signer: row.get(4)?,
        bytes: u64::try_from(row.get::<_, i64>(5)?).unwrap_or_default(),
        accepted_at,
        extent: extent(row.get(7)?).map_err(|error| unreadable(7, Box::new(error)))?,
    };
    Ok(SnapshotRow { id: row.get(0)?, snapshot })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DataDir, TrustSpan};

    #[tokio::test]
    async fn a_snapshot_and_its_floor_are_kept_together_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        let name = ResourceName::new("flux-system", "fleet");
        assert_eq!(store.source(&name).await.unwrap(), Default::default());
        for byte in 1..=4 {
            let commit = Oid::from_bytes([byte; 20]);
            store.note_pending(&name, commit).await.unwrap();
            let snapshot = NewSnapshot {
                revision: Revision::new(Some("v1".to_owned()), commit),
                tag: Some(Oid::from_bytes([byte + 100; 20])),
                signer: Some("ana".to_owned()),
                bytes: 7,
                accepted_at: Timestamp::from_millisecond(1_234).unwrap(),
                extent: Extent { paths: Some(vec!["a".to_owned()]), sparse: vec!["a".to_owned()], submodules: true },
            };
            let version = Some(semver::Version::new(1, 0, byte.into()));
            let [read, about, note] = [10, 20, 30].map(|more| Oid::from_bytes([byte + more; 20]));
            let trust = Some(TrustSpan { domain: "fleet".to_owned(), from: 0, upto: byte.into() });
            let evidence = Evidence {
                since: Some(read),
                rules: Some("r".to_owned()),
                trust,
                objects: [read].into(),
                notes: [(about, note)].into(),
            };
            let floor = Floor { track: "u".to_owned(), commit, tag: snapshot.tag, version };
            let moved = Moved::default();
            store.accept_snapshot(&name, snapshot, floor.clone(), evidence.clone(), moved, 2).await.unwrap();
            let row = store.source(&name).await.unwrap();
            assert_eq!((row.floor, row.pending), (Some(floor), None));
            let newest = store.snapshots(&name, 1).await.unwrap();
            assert_eq!(store.evidence(newest[0].id).await.unwrap(), evidence);
        }
        let kept = store.snapshots(&name, 10).await.unwrap();
        let commits: Vec<_> = kept.iter().map(|row| row.snapshot.revision.commit()).collect();
        assert_eq!(commits, [4, 3].map(|byte| Oid::from_bytes([byte; 20])));
        assert_eq!(kept[0].snapshot.accepted_at.as_millisecond(), 1_234);
        store.widen_snapshot(&name, commits[0], vec!["b".to_owned(), "a".to_owned()]).await.unwrap();
        let kept = store.snapshots(&name, 10).await.unwrap();
        assert_eq!(kept[0].snapshot.extent.paths.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(kept[1].snapshot.extent.paths.as_deref(), Some(&["a".to_owned()][..]));
        assert_eq!(store.source(&name).await.unwrap().passed, [1, 2, 3].map(|byte| Oid::from_bytes([byte; 20])));
        assert_eq!(store.floors().await.unwrap()[0].kept.floor.version, Some(semver::Version::new(1, 0, 4)));
        // Two commits and their two tags; the floor is one of them.
        assert_eq!(store.roots().await.unwrap().len(), 4);
        // What the forgotten ones were judged by is forgotten with them.
        assert_eq!(store.evidence_objects().await.unwrap().len(), 4);
        store.trust("fleet", vec![(1, b"one".to_vec()), (2, b"two".to_vec())]).await.unwrap();
        store.trust("fleet", vec![(2, b"another".to_vec())]).await.unwrap();
        // Back to the first, by a permit, then to another track.
        for (byte, track, passed) in [(1, "u", vec![2, 3, 9, 4]), (7, "other", vec![9])] {
            let commit = Oid::from_bytes([byte; 20]);
            let floor = Floor { track: track.to_owned(), commit, tag: None, version: None };
            let moved = Moved { passed: vec![Oid::from_bytes([9; 20])], time_floor: Timestamp::UNIX_EPOCH };
            let snapshot = NewSnapshot { revision: Revision::new(None, commit), ..kept[0].snapshot.clone() };
            store.accept_snapshot(&name, snapshot, floor, Evidence::default(), moved, 2).await.unwrap();
            let mut found = store.source(&name).await.unwrap().passed;
            let mut passed: Vec<_> = passed.into_iter().map(|byte| Oid::from_bytes([byte; 20])).collect();
            found.sort_unstable();
            passed.sort_unstable();
            assert_eq!(found, passed);
        }
        store.forget_source(&name).await.unwrap();
        let trusted = store.trusted("fleet").await.unwrap();
        assert_eq!(trusted, [(1, b"one".to_vec()), (2, b"two".to_vec())].into());
        assert!(store.evidence_objects().await.unwrap().is_empty());
        assert!(store.snapshots(&name, 10).await.unwrap().is_empty());
    }
}
