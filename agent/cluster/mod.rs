//! The Kubernetes API: connecting, asking, watching. It decides nothing.
//!
//! [`Cluster`] sends one request and classifies its failure; [`Kinds`] knows which path serves a kind; [`watch`] turns
//! list and watch into a stream of observations that survives everything a watch can meet.

mod api;
mod connect;
mod counted;
mod error;
mod events;
mod kinds;
mod throttle;
pub mod watch;

pub use api::{Cluster, Listed, MANAGER, REQUEST_TIMEOUT, Sent};
pub use connect::{ConnectError, Connection};
pub use error::{ApiError, Class, FieldConflict};
pub use kinds::{Kind, Kinds};
