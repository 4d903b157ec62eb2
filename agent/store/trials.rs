//! Table `trial`: what became of each revision with each Kustomization that took it.

use jiff::Timestamp;
use rusqlite::{Row, Transaction, params};
use wickie_model::{ResourceName, Revision, Trial};

use super::{Store, StoreError, time};

/// How many are kept of each Kustomization, beside the newest healthy one.
const KEPT: i64 = 50;

const COLUMNS: &str =
    "namespace, name, source_namespace, source_name, revision, ending, instead, began_at, ended_at, message";

impl Store {
    /// All of all Kustomizations, those that were begun last at the end.
    pub async fn all_trials(&self) -> Result<Vec<Trial>, StoreError> {
        self.call(|connection| {
            let failed = || StoreError::sql("read the trials");
            let mut statement =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM trial ORDER BY id")).map_err(failed())?;
            let mut rows = statement.query([]).map_err(failed())?;
            let mut trials = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                trials.push(read(row)?);
            }
            Ok(trials)
        })
        .await
    }

    /// The newest of a Kustomization, newest first.
    pub async fn trials(&self, name: ResourceName, limit: usize) -> Result<Vec<Trial>, StoreError> {
        self.call(move |connection| {
            let failed = || StoreError::sql("read the trials");
            let sql =
                format!("SELECT {COLUMNS} FROM trial WHERE namespace = ?1 AND name = ?2 ORDER BY id DESC LIMIT ?3");
            let mut statement = connection.prepare_cached(&sql).map_err(failed())?;
            let mut rows = statement.query(params![name.namespace, name.name, limit as i64]).map_err(failed())?;
            let mut trials = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                trials.push(read(row)?);
            }
            Ok(trials)
        })
        .await
    }
}

/// Writes a trial down. One that begins, also one that begins anew, becomes the newest; the oldest go.
pub(super) fn put(transaction: &Transaction<'_>, trial: &Trial) -> Result<(), StoreError> {
    let Trial { name, source, revision, ending, instead, began_at, ended_at, message } = trial;
    let (revision, instead) = (revision.to_string(), instead.as_ref().map(ToString::to_string));
    let (began_at, ended_at) = (time::to_column(*began_at), ended_at.map(time::to_column));
    let ending = ending.as_str();
    let values = params![
        name.namespace,
        name.name,
        source.namespace,
        source.name,
        revision,
        ending,
        instead,
        began_at,
        ended_at,
        message
    ];
    let known = transaction
        .prepare_cached(
            "UPDATE trial SET ending = ?6, instead = ?7, ended_at = ?9, message = ?10
             WHERE namespace = ?1 AND name = ?2 AND source_namespace = ?3 AND source_name = ?4 AND revision = ?5
               AND began_at = ?8",
        )
        .and_then(|mut statement| statement.execute(values))
        .map_err(StoreError::sql("write a trial"))?;
    if known > 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO trial ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))
        .and_then(|mut statement| statement.execute(values))
        .map_err(StoreError::sql("write a trial"))?;
    transaction
        .prepare_cached(
            "DELETE FROM trial WHERE namespace = ?1 AND name = ?2
               AND id <= (SELECT id FROM trial WHERE namespace = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)
               AND id NOT IN (SELECT max(id) FROM trial WHERE namespace = ?1 AND name = ?2 AND ending = 'healthy'
                              GROUP BY source_namespace, source_name)",
        )
        .and_then(|mut statement| statement.execute(params![name.namespace, name.name, KEPT]))
        .map(drop)
        .map_err(StoreError::sql("let old trials go"))
}

/// Forgets the trials of a Kustomization that is gone.
pub(super) fn remove(transaction: &Transaction<'_>, name: &ResourceName) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM trial WHERE namespace = ?1 AND name = ?2")
        .and_then(|mut statement| statement.execute([&name.namespace, &name.name]))
        .map(drop)
        .map_err(StoreError::sql("remove trials"))
}

fn read(row: &Row<'_>) -> Result<Trial, StoreError> {
    let failed = || StoreError::sql("read a trial");
    let text = |column: usize| row.get::<_, String>(column).map_err(failed());
    let revision = |text: String| -> Result<Revision, StoreError> {
        text.parse().map_err(|_| StoreError::Corrupt { what: "revision", detail: text })
    };
    let ending = text(5)?;
    let ended: Option<i64> = row.get(8).map_err(failed())?;
    let instead: Option<String> = row.get(6).map_err(failed())?;
    let began_at: Timestamp = row.get(7).map_err(failed()).and_then(time::from_column)?;
    Ok(Trial {
        name: ResourceName::new(text(0)?, text(1)?),
        source: ResourceName::new(text(2)?, text(3)?),
        revision: revision(text(4)?)?,
        ending: ending.parse().map_err(|()| StoreError::Corrupt { what: "ending", detail: ending })?,
        instead: instead.map(revision).transpose()?,
        began_at,
        ended_at: ended.map(time::from_column).transpose()?,
        message: text(9)?,
    })
}

#[cfg(test)]
mod tests {
    use wickie_model::{Ending, Oid};
    use wickie_trust::Floor;

    use super::*;
    use crate::store::{Batch, DataDir, Evidence, Extent, NewSnapshot};

    fn revision(byte: u8) -> Revision {
        Revision::new(Some("main".to_owned()), Oid::from_bytes([byte; 20]))
    }

    fn fleet() -> ResourceName {
        ResourceName::new("flux-system", "fleet")
    }

    fn trial(byte: u8, ending: Ending) -> Trial {
        Trial {
            name: ResourceName::new("flux-system", "shop"),
            source: fleet(),
            revision: revision(byte),
            ending,
            instead: None,
            began_at: Timestamp::from_millisecond(byte.into()).unwrap(),
            ended_at: None,
            message: String::new(),
        }
    }

    async fn put(store: &Store, trials: Vec<Trial>) {
        store.commit(Batch { trials, ..Batch::default() }).await.unwrap();
    }

    async fn accept(store: &Store, byte: u8) {
        let snapshot = NewSnapshot {
            revision: revision(byte),
            tag: None,
            signer: None,
            bytes: 1,
            accepted_at: Timestamp::UNIX_EPOCH,
            extent: Extent::default(),
        };
        let floor = Floor { track: "u".to_owned(), commit: revision(byte).commit(), tag: None, version: None };
        let (evidence, moved) = (Evidence::default(), Default::default());
        store.accept_snapshot(&fleet(), snapshot, floor, evidence, moved, 1).await.unwrap();
    }

    async fn kept(store: &Store) -> Vec<u8> {
        let rows = store.snapshots(&fleet(), 100).await.unwrap();
        rows.iter().map(|row| row.snapshot.revision.commit().as_bytes()[0]).collect()
    }

    #[tokio::test]
    async fn what_a_kustomization_needs_is_kept_however_many_come_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        accept(&store, 1).await;
        put(&store, vec![trial(1, Ending::Healthy)]).await;
        accept(&store, 2).await;
        put(&store, vec![trial(2, Ending::Trying)]).await;
        accept(&store, 3).await;
        // The last healthy one, what is being tried, the newest.
        assert_eq!(kept(&store).await, [3, 2, 1]);
        put(&store, vec![Trial { instead: Some(revision(1)), ..trial(2, Ending::RolledBack) }]).await;
        accept(&store, 4).await;
        assert_eq!(kept(&store).await, [4, 1]);
        put(&store, vec![trial(4, Ending::Healthy)]).await;
        accept(&store, 5).await;
        assert_eq!(kept(&store).await, [5, 4]);
    }

    #[tokio::test]
    async fn one_that_begins_anew_is_the_newest_and_the_last_healthy_one_outlives_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        put(&store, (1..=2).map(|byte| trial(byte, Ending::Healthy)).collect()).await;
        let again = Trial { began_at: Timestamp::from_millisecond(9).unwrap(), ..trial(1, Ending::Healthy) };
        put(&store, vec![again.clone()]).await;
        assert_eq!(store.trials(again.name.clone(), 10).await.unwrap(), [again.clone(), trial(2, Ending::Healthy)]);
        put(&store, (10..=110).map(|byte| trial(byte, Ending::Superseded)).collect()).await;
        let left = store.all_trials().await.unwrap();
        assert_eq!((left.len(), &left[0]), (51, &again));
    }
}
