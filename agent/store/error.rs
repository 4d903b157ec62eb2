//! What can go wrong with the store.

use std::path::PathBuf;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory could not be made or used.
    #[error("the data directory {path} cannot be used; check that it exists, is writable and has room")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent has the data directory.
    #[error(
        "the data directory {path} is in use by another agent (process {holder}); stop it, or give this one a --data-dir of its own"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process id that the lock file names.
        holder: String,
    },
    /// The file was written by a newer wickie.
    #[error(
        "{path} was written by a newer wickie (schema {found}, this one knows up to {known}); install that version again, or move the file away to rebuild from Git and the cluster"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema this binary knows.
        known: i64,
    },
    /// The file could not be opened.
    #[error("the store {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A statement failed.
    #[error("the store could not {action}")]
    Sql {
        /// What was tried.
        action: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Git objects are too many for the bound of the store's size.
    #[error(
        "the store has no room for what is fetched: {used} bytes of at most {most} are in use, all of them needed; raise --max-store, or let sources fetch less"
    )]
    NoRoom {
        /// Bytes in use.
        used: u64,
        /// The bound.
        most: u64,
    },
    /// The disk has too little room to take Git objects.
    #[error(
        "the disk has no room for what is fetched: {available} bytes are free, and {reserve} of them are kept for reports and inventories; make room on it"
    )]
    DiskFull {
        /// Bytes that are free.
        available: u64,
        /// Bytes that are to stay free.
        reserve: u64,
    },
    /// A row holds what this version cannot read.
    #[error("the store holds an unreadable {what}: {detail}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The store's thread has ended; the agent is stopping.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Names the operation that a SQLite error belongs to.
    pub(crate) fn sql(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sql { action, source }
    }

    /// Whether the disk is full: what was to be written is not, all before it stands.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::DiskFull { .. } => true,
            Self::Sql { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}
