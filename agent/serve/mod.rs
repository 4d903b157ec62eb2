//! What the agent shows and takes orders by: the control socket in its data directory.
//!
//! ```text
//! wickie CLI --HTTP over a unix socket--> control --Command--> drive
//!                                            |
//!                                            +--view (one function over the store)
//! ```
//!
//! Reading works without an agent, too: the same [`view`] is then made from the data directory itself.

mod advice;
mod client;
mod command;
mod control;
mod live;
pub mod view;

pub(crate) use advice::named;
pub use client::{Agent, AgentError, Control};
pub use command::{Asked, Command, Outcome, Refused};
pub(crate) use control::RollbackOrder;
pub use control::{ServeError, Server, serve};
pub use live::{ClusterLive, Counts, KustomizationLive, Live, Phase, Problem, SourceLive};
pub use view::History;
