//! The agent's memory: one SQLite file, owned by one thread.
//!
//! Guarantees: what a call has returned from is on the disk (WAL with `synchronous=FULL`); calls take effect in the
//! order in which they were made; a call takes effect whole or not at all.
//!
//! Assumptions: one process has the file open for writing, which the lock on the data directory sees to
//! ([`DataDir::lock`]). Reading beside it is fine.
//!
//! Each file here is one concept: `objects` (Git's), `sources`, `snapshots`, `evidence`, `resources`, `inventory`, `runs`,
//! `trials`, `events`, `outbox`, `traffic`, `floors` (copies of the trust floor outside), `time_floor`; `size` bounds them;
//! `batch` writes what one step of the loop brought into them, together. They are `impl` blocks on [`Store`];
//! rusqlite appears nowhere else.

mod batch;
mod data_dir;
mod error;
mod evidence;
mod events;
mod floors;
mod inventory;
mod objects;
mod open;
mod outbox;
mod resources;
mod runs;
mod size;
mod snapshots;
mod sources;
mod thread;
mod time_floor;
mod time;
mod traffic;
mod trials;

pub use batch::Batch;
pub use data_dir::{DataDir, Lock};
pub use error::StoreError;
pub use events::EventFilter;
pub use evidence::{Evidence, TrustSpan};
pub use floors::{FloorFile, FloorsFound, KeptFloor, NoFloor, OwnFloor, merge_floors};
pub use inventory::InventoryChange;
pub use objects::{ObjectKind, StoredObject};
pub use outbox::{Delivery, Queued, Waiting};
pub use resources::{Origin, Record};
pub use runs::{Changes, Run};
pub use size::{Bounds, DEFAULT_MOST, Disk, SMALLEST_MOST, StoreSize};
pub use snapshots::{Extent, Moved, NewSnapshot, SnapshotRow};
pub use sources::SourceRow;
pub use thread::Store;
pub use traffic::TrafficDay;
