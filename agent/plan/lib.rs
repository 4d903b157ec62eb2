//! What to do. Everything here is a function of values: no async, no clock, no I/O.
//!
//! ```text
//!             desired ──┐
//!  inventory ── drift ──┼─► plan ─► guard ─► Checked<Plan> ─► (apply)
//!             policy ───┘    │
//!                          order
//!
//!  events ─► cycle::step ─► effects          live object ─► health ─► verdict
//! ```
//!
//! - [`cycle`]: the life of one Kustomization: when to build, apply, wait, and when to try again.
//! - [`course`]: which revision it follows: the newest, or the one that was put back.
//! - [`drift`]: what an object looked like after our last apply, and whether it still does.
//! - [`order`]: which objects come before which.
//! - [`plan`]: what to do with each object.
//! - [`guard`]: the audit that every plan passes before anything is done.
//! - [`health`]: whether a live object is what its spec asks for.

pub mod course;
pub mod cycle;
mod decide;
pub mod drift;
pub mod guard;
pub mod health;
pub mod order;
mod policy;

pub use decide::{Action, Desired, Observed, Plan, Request, Step, Wave, plan};
pub use guard::{Checked, Refusal};
pub use policy::{DeletionPolicy, Limit, Mode, Policy, Ssa};
