//! Opening the file: pragmas, migrations, and what to do with one that is broken.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// Each step takes the schema one version up. A released step never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("migration-extent.sql"),
    include_str!("migration-evidence.sql"),
    include_str!("migration-trials.sql"),
    include_str!("migration-traffic.sql"),
    include_str!("migration-floor.sql"),
    include_str!("migration-seen-at.sql"),
];

/// How the file was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was there and whole, or newly made.
    Whole,
    /// It was damaged; it lies aside under this name and a new one was begun.
    SetAside(PathBuf),
}

/// Opens the store for writing; makes it where it is missing, sets it aside where it is damaged.
pub(super) fn for_writing(path: &Path, now: Timestamp) -> Result<(Connection, Found), StoreError> {
    match try_open(path) {
        Err(error) if is_damage(&error) => {
            let aside = set_aside(path, now)?;
            Ok((try_open(path)?, Found::SetAside(aside)))
        }
        other => Ok((other?, Found::Whole)),
    }
}

/// Opens an existing store for reading, beside the agent that writes it or without one.
pub(super) fn for_reading(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.execute_batch("PRAGMA query_only=ON; PRAGMA busy_timeout=5000").map_err(failed)?;
    known_version(path, &connection)?;
    Ok(connection)
}

/// A store that ends with the process.
pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let path = Path::new(":memory:");
    let mut connection =
        Connection::open_in_memory().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    migrate(path, &mut connection)?;
    Ok(connection)
}

fn try_open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    own_alone(path);
    let mut connection = Connection::open(path).map_err(failed)?;
    // FULL: a commit that was acknowledged survives a power cut, which WAL alone does not promise.
    // Incremental vacuum must be chosen before the first table: it lets the file shrink without being written anew.
    // The page cache is bounded at 1 MiB: a first fetch, whose batches are larger, writes a twentieth more for it, and nothing
    // else is as large. Temporary results stay off the flash.
    connection
        .execute_batch(
            "PRAGMA auto_vacuum=INCREMENTAL;
             PRAGMA journal_mode=WAL;
             PRAGMA synchronous=FULL;
             PRAGMA foreign_keys=ON;
             PRAGMA temp_store=MEMORY;
             PRAGMA cache_size=-1024;
             PRAGMA busy_timeout=5000;
             PRAGMA journal_size_limit=4194304;",
        )
        .map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if check != "ok" {
        return Err(StoreError::Corrupt { what: "file", detail: check });
    }
    migrate(path, &mut connection)?;
    Ok(connection)
}

/// Makes a file that is not there yet, readable by its owner alone: it will hold what Git holds, and the directory may be
/// the kubelet's, open to everybody on the node. SQLite gives its other files the same mode.
fn own_alone(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Where it cannot be made, SQLite says why.
    let _ = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    let version = known_version(path, connection)?;
    for (index, step) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction().map_err(StoreError::sql("begin a migration"))?;
        transaction.execute_batch(step).map_err(StoreError::sql("migrate"))?;
        transaction
            .pragma_update(None, "user_version", (index + 1) as i64)
            .map_err(StoreError::sql("record a migration"))?;
        transaction.commit().map_err(StoreError::sql("commit a migration"))?;
    }
    Ok(())
}

/// The file's schema version, as an index into [`MIGRATIONS`]; refuses one from the future.
fn known_version(path: &Path, connection: &Connection) -> Result<usize, StoreError> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let known = MIGRATIONS.len() as i64;
    match usize::try_from(found) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(StoreError::Newer { path: path.to_owned(), found, known }),
    }
}

/// Whether the file itself is at fault, and not the disk, the rights or a newer schema.
fn is_damage(error: &StoreError) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Open { source, .. } | StoreError::Sql { source, .. } => {
            matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        }
        _ => false,
    }
}

/// Moves a damaged file and its log away, for somebody to look at; nothing is deleted.
fn set_aside(path: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let suffix = format!(".damaged-{}", now.as_second());
    let with = |tail: &str, path: &Path| PathBuf::from(format!("{}{tail}", path.display()));
    let aside = with(&suffix, path);
    std::fs::rename(path, &aside).map_err(|source| StoreError::DataDir { path: path.to_owned(), source })?;
    for tail in ["-wal", "-shm"] {
        let beside = with(tail, path);
        if beside.exists() {
            std::fs::rename(&beside, with(&suffix, &beside))
                .map_err(|source| StoreError::DataDir { path: beside, source })?;
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wickie.db");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        let (_, found) = for_writing(&path, Timestamp::UNIX_EPOCH).unwrap();
        let Found::SetAside(aside) = found else { panic!("{found:?}") };
        assert_eq!(std::fs::read(aside).unwrap(), vec![7; 8192]);
        assert_eq!(for_writing(&path, Timestamp::UNIX_EPOCH).unwrap().1, Found::Whole);
    }

    #[test]
    fn a_newer_schema_is_refused_in_words_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wickie.db");
        let (connection, _) = for_writing(&path, Timestamp::UNIX_EPOCH).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = for_writing(&path, Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn sqlite_is_new_enough_not_to_lose_its_log() {
        // 3.51.3 mends the WAL-reset bug.
        assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    }
}
