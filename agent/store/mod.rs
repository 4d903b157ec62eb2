//! The agent's memory: one SQLite file, owned by one thread.
//!
//! Guarantees: what a call has returned from is on the disk (WAL with `synchronous=FULL`); calls take effect in the
//! order in which they were made; a call takes effect whole or not at all.
//!
//! Assumptions: one process has the file open for writing, which the lock on the data directory sees to
//! ([`DataDir::lock`]). Reading beside it is fine.
//!
//! Each file here is one concept: `objects` (Git's), `sources`, `snapshots`, `resources`, `inventory`, `runs`,
//! `outbox`. They are `impl` blocks on [`Store`]; rusqlite appears nowhere else.

mod data_dir;
mod error;
mod objects;
mod open;
mod snapshots;
mod sources;
mod thread;

pub use data_dir::{DataDir, Lock};
pub use error::StoreError;
pub use objects::{ObjectKind, StoredObject};
pub use snapshots::{NewSnapshot, SnapshotRow};
pub use sources::SourceRow;
pub use thread::Store;
