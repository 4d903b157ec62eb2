//! The Kubernetes API: connecting, asking, watching. It decides nothing.
//!
//! [`Cluster`] sends one request and classifies its failure; [`Kinds`] knows which path serves a kind; [`watch`] turns
//! list and watch into a stream of observations that survives everything a watch can meet.

mod access;
mod api;
mod connect;
mod counted;
mod error;
mod events;
mod fence;
mod kinds;
mod remote;
mod search;
mod throttle;
pub mod watch;

pub use access::{About, Access};
pub use api::{Cluster, Listed, MANAGER, REQUEST_TIMEOUT, Sent, resource_version};
pub use connect::{ConnectError, Connection};
pub use error::{ApiError, Class, FieldConflict};
pub use fence::{Fence, since_boot};
pub use kinds::{Kind, Kinds};
pub use remote::{KubeConfigError, Remote};
pub use search::Search;
