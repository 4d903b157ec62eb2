//! Table `run`: how each run of a Kustomization ended, the newest of each kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};
use wickie_model::{Cause, ResourceKind, ResourceName};

use super::{Store, StoreError, time};

/// How many runs are kept of each Kustomization.
const KEPT: i64 = 100;

/// What a run did to how many objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Were not there before.
    pub created: u32,
    /// Were to be different, by Git.
    pub changed: u32,
    /// Had drifted, and are as Git wants them again.
    pub repaired: u32,
    /// Left Git and are gone.
    pub deleted: u32,
    /// Needed nothing.
    pub unchanged: u32,
    /// Could not be made so.
    pub failed: u32,
}

/// One run of a Kustomization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Which Kustomization.
    #[serde(flatten)]
    pub name: ResourceName,
    /// The revision it applied, as Flux writes it; empty where it did not get that far.
    pub revision: String,
    /// What set it off.
    pub cause: Cause,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// One of [`wickie_model::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// What it did.
    pub changes: Changes,
}

const COLUMNS: &str = "namespace, name, revision, cause, started_at, ended_at, reason, message, changes";

impl Store {
    /// The newest run of each Kustomization that there is a record of.
    pub async fn last_runs(&self) -> Result<BTreeMap<ResourceName, Run>, StoreError> {
        self.call(|connection| {
            let failed = || StoreError::sql("read the last runs");
            // A number may be given again once its run is gone, but a newer run's is always the greatest of all.
            let mut statement = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM run WHERE id IN (
                       SELECT (SELECT max(id) FROM run WHERE (namespace, name) = (resource.namespace, resource.name))
                       FROM resource WHERE kind = ?1)"
                ))
                .map_err(failed())?;
            let mut rows = statement.query([ResourceKind::Kustomization.as_str()]).map_err(failed())?;
            let mut runs = BTreeMap::new();
            while let Some(row) = rows.next().map_err(failed())? {
                let run = read(row)?;
                runs.insert(run.name.clone(), run);
            }
            Ok(runs)
        })
        .await
    }

    /// The newest runs of a Kustomization, newest first.
    pub async fn runs(&self, name: ResourceName, limit: usize) -> Result<Vec<Run>, StoreError> {
        self.call(move |connection| {
            let failed = || StoreError::sql("read the runs");
            let mut statement = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM run WHERE namespace = ?1 AND name = ?2 ORDER BY id DESC LIMIT ?3"
                ))
                .map_err(failed())?;
            let mut rows = statement.query(params![name.namespace, name.name, limit as i64]).map_err(failed())?;
            let mut runs = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                runs.push(read(row)?);
            }
            Ok(runs)
        })
        .await
    }
}

/// Writes a run down and lets the oldest of its Kustomization go.
pub(super) fn add(transaction: &Transaction<'_>, run: &Run) -> Result<(), StoreError> {
    let changes = serde_json::to_string(&run.changes)
        .map_err(|error| StoreError::Corrupt { what: "count of changes", detail: error.to_string() })?;
    transaction
        .prepare_cached(
            "INSERT INTO run (namespace, name, revision, cause, started_at, ended_at, reason, message, changes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                run.name.namespace,
                run.name.name,
                run.revision,
                run.cause.as_str(),
                time::to_column(run.started_at),
                time::to_column(run.ended_at),
                run.reason,
                run.message,
                changes,
            ])
        })
        .map_err(StoreError::sql("write a run"))?;
    transaction
        .prepare_cached(
            "DELETE FROM run WHERE namespace = ?1 AND name = ?2 AND id <= (
               SELECT id FROM run WHERE namespace = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
        )
        .and_then(|mut statement| statement.execute(params![run.name.namespace, run.name.name, KEPT]))
        .map(drop)
        .map_err(StoreError::sql("let old runs go"))
}

/// Forgets the runs of a Kustomization that is gone.
pub(super) fn remove(transaction: &Transaction<'_>, name: &ResourceName) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM run WHERE namespace = ?1 AND name = ?2")
        .and_then(|mut statement| statement.execute([&name.namespace, &name.name]))
        .map(drop)
        .map_err(StoreError::sql("remove runs"))
}

fn read(row: &Row<'_>) -> Result<Run, StoreError> {
    let failed = || StoreError::sql("read a run");
    let text = |column: usize| row.get::<_, String>(column).map_err(failed());
    let at = |column: usize| row.get(column).map_err(failed()).and_then(time::from_column);
    let cause = text(3)?;
    Ok(Run {
        name: ResourceName::new(text(0)?, text(1)?),
        revision: text(2)?,
        cause: cause.parse().map_err(|()| StoreError::Corrupt { what: "cause", detail: cause })?,
        started_at: at(4)?,
        ended_at: at(5)?,
        reason: text(6)?,
        message: text(7)?,
        changes: serde_json::from_str(&text(8)?)
            .map_err(|error| StoreError::Corrupt { what: "count of changes", detail: error.to_string() })?,
    })
}
