//! What a snapshot's verification stands on beside the snapshot: the commits since the last accepted one, the trees in
//! which they were compared, notes with signatures; and the versions of trust files that were trusted.
//!
//! It is written with the snapshot in one transaction and kept as long, so that all is judged again at every load.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension as _, Transaction, params};
use wickie_model::Oid;

use super::objects::{oid, optional_oid};
use super::{Store, StoreError};

/// What was judged beside the newest commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The commit accepted before, since which history was judged.
    pub since: Option<Oid>,
    /// What history was judged by.
    pub rules: Option<String>,
    /// The trust files it was judged by.
    pub trust: Option<TrustSpan>,
    /// Objects that were read.
    pub objects: BTreeSet<Oid>,
    /// Blobs with signatures, by the commit they are about.
    pub notes: BTreeMap<Oid, Oid>,
}

/// A row of versions of one trust file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSpan {
    /// The policy that trusts it.
    pub domain: String,
    /// The version that was trusted before; 0 where none was.
    pub from: u64,
    /// The version that was trusted then.
    pub upto: u64,
}

/// Versions of a trust file that are kept; older ones could only speak of what was accepted long ago.
const VERSIONS: i64 = 512;

impl Store {
    /// What a snapshot was judged by.
    pub async fn evidence(&self, snapshot: i64) -> Result<Evidence, StoreError> {
        self.call(move |connection| {
            let failed = || StoreError::sql("read a snapshot's evidence");
            let mut evidence = connection
                .prepare_cached("SELECT since, rules, trust_domain, trust_from, trust_upto FROM snapshot WHERE id = ?1")
                .and_then(|mut select| {
                    select
                        .query_row([snapshot], |row| {
                            let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
                            let trust = match (row.get(2)?, number(row.get(3)?), number(row.get(4)?)) {
                                (Some(domain), Some(from), Some(upto)) => Some(TrustSpan { domain, from, upto }),
                                _ => None,
                            };
                            let (since, rules) = (optional_oid(row, 0)?, row.get(1)?);
                            Ok(Evidence { since, rules, trust, ..Evidence::default() })
                        })
                        .optional()
                })
                .map_err(failed())?
                .unwrap_or_default();
            let mut select =
                connection.prepare_cached("SELECT oid, about FROM evidence WHERE snapshot = ?1").map_err(failed())?;
            let rows = select
                .query_map([snapshot], |row| Ok((oid(row, 0)?, optional_oid(row, 1)?)))
                .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
                .map_err(failed())?;
            for (object, about) in rows {
                match about {
                    Some(commit) => _ = evidence.notes.insert(commit, object),
                    None => _ = evidence.objects.insert(object),
                }
            }
            Ok(evidence)
        })
        .await
    }

    /// Every object that the evidence of any snapshot consists of.
    pub async fn evidence_objects(&self) -> Result<Vec<Oid>, StoreError> {
        self.call(|connection| {
            connection
                .prepare_cached("SELECT DISTINCT oid FROM evidence")
                .and_then(|mut select| select.query_map([], |row| oid(row, 0)).and_then(Iterator::collect))
                .map_err(StoreError::sql("list the snapshots' evidence"))
        })
        .await
    }

    /// The versions of a trust file that are trusted, by number.
    pub async fn trusted(&self, domain: &str) -> Result<BTreeMap<u64, Vec<u8>>, StoreError> {
        let domain = domain.to_owned();
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT version, document FROM trust WHERE domain = ?1")
                .and_then(|mut select| {
                    let row = |row: &rusqlite::Row<'_>| {
                        Ok((u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(), row.get(1)?))
                    };
                    select.query_map([domain], row).and_then(Iterator::collect)
                })
                .map_err(StoreError::sql("read the trust file"))
        })
        .await
    }

    /// Trusts further versions of a trust file. One that is trusted already is left as it is.
    pub async fn trust(&self, domain: &str, versions: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        let domain = domain.to_owned();
        self.transact(move |transaction| {
            let failed = || StoreError::sql("trust a version of the trust file");
            for (version, document) in &versions {
                let version = i64::try_from(*version).unwrap_or(i64::MAX);
                transaction
                    .execute(
                        "INSERT OR IGNORE INTO trust (domain, version, document) VALUES (?1, ?2, ?3)",
                        params![domain, version, document],
                    )
                    .map_err(failed())?;
            }
            transaction
                .execute(
                    "DELETE FROM trust WHERE domain = ?1
                     AND version <= (SELECT max(version) FROM trust WHERE domain = ?1) - ?2",
                    params![domain, VERSIONS],
                )
                .map(drop)
                .map_err(failed())
        })
        .await
    }
}

/// Writes what the snapshot of this row was judged by.
pub(super) fn write(transaction: &Transaction<'_>, snapshot: i64, evidence: &Evidence) -> Result<(), StoreError> {
    let failed = || StoreError::sql("keep a snapshot's evidence");
    let number = |version: u64| i64::try_from(version).unwrap_or(i64::MAX);
    let trust = evidence.trust.as_ref();
    transaction
        .execute(
            "UPDATE snapshot SET since = ?2, rules = ?3, trust_domain = ?4, trust_from = ?5, trust_upto = ?6
             WHERE id = ?1",
            params![
                snapshot,
                evidence.since.map(|since| *since.as_bytes()),
                evidence.rules,
                trust.map(|trust| trust.domain.as_str()),
                trust.map(|trust| number(trust.from)),
                trust.map(|trust| number(trust.upto)),
            ],
        )
        .map_err(failed())?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO evidence (snapshot, oid, about) VALUES (?1, ?2, ?3)")
        .map_err(failed())?;
    let objects = evidence.objects.iter().map(|object| (object, None));
    let notes = evidence.notes.iter().map(|(commit, blob)| (blob, Some(*commit.as_bytes())));
    for (object, about) in objects.chain(notes) {
        insert.execute(params![snapshot, object.as_bytes(), about]).map_err(failed())?;
    }
    Ok(())
}
