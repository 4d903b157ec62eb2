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
//! - [`ignore`]: fields that others may change.
//! - [`ownership`]: whose fields come over with an adopted object.
//! - [`health`]: whether a live object is what its spec asks for; [`HealthRules`]: by expressions instead.

pub mod course;
pub mod cycle;
mod decide;
pub mod drift;
pub mod guard;
pub mod health;
mod health_rules;
pub mod ignore;
pub mod lease;
pub mod order;
pub mod ownership;
mod policy;

pub use decide::{Action, Desired, Keep, Observed, Plan, Request, Step, Wave, Withheld, plan};
pub use guard::{Checked, Refusal};
pub use health_rules::{HealthRule, HealthRules};
pub use policy::{DeletionPolicy, Extent, Limit, Mode, Policy, Ssa};
