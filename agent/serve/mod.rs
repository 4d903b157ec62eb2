//! What the agent shows and takes orders by: the control socket in its data directory and, where it is asked for, an address.
//!
//! ```text
//! wickie CLI --HTTP over a unix socket--> control --Command--> drive
//!                                            |
//!                                            +--view (one function over the store)
//! Prometheus, kubelet, Git host --HTTP--> listen: metrics, probes, hooks --Command--> drive
//!
//! systemd <--datagrams-- notify: ready, status, signs of life <-- drive
//! ```
//!
//! Reading works without an agent, too: the same [`view`] is then made from the data directory itself.

mod answer;
mod advice;
mod client;
mod command;
mod control;
mod hook;
mod listen;
mod live;
mod metrics;
mod notify;
mod standing;
mod tree;
pub mod view;

pub(crate) use advice::named;
pub use client::{Agent, AgentError, Control};
pub use command::{Against, Asked, Command, Outcome, Refused, Released};
pub(crate) use control::RollbackOrder;
pub use control::{ServeError, Server, serve};
pub use hook::{Hook, Hooks};
pub use listen::{Listener, Served, listen};
pub use live::{
    BudgetLive, ClusterLive, Counts, DayLive, HeldLive, KustomizationLive, Live, Phase, Problem, SourceLive,
    TrafficLive,
};
pub use metrics::Metrics;
pub use notify::{Supervisor, SupervisorError};
pub use standing::Standing;
pub use tree::{Branch, Tree};
pub use view::History;
