//! Tells those upstream what happened: events, chosen by Alerts, kept in the outbox, sent to Providers.
//!
//! ```text
//! Event --route--> Delivery --(one transaction with the work it describes)--> outbox --drain--> receiver
//! ```
//!
//! Guarantees: a report that was written is sent until its receiver says yes (2xx), across restarts and for as long as it
//! takes; each Provider gets its own in the order in which they happened; every report carries an id that never changes,
//! so that one that arrives twice (the answer was lost, the agent was killed in between) can be told by it. One
//! receiver that is down delays no other.
//!
//! Caveats: a report that its receiver calls unreadable is set aside after a few tries and said so; a full outbox drops the
//! oldest information first and tells the receiver how much (see the store's `outbox`).

mod drain;
mod endpoint;
mod kube_events;
mod route;
mod send;
mod wire;

pub use drain::{Reporter, Sending};
pub use endpoint::{Endpoint, EndpointError};
pub use kube_events::{kube_event, send_kube_event};
pub use route::{Subject, route};
pub use wire::{EVENT_ID_HEADER, EVENT_ID_KEY};

/// How wickie names itself to receivers and in Kubernetes Events.
pub const CONTROLLER: &str = "wickie";
