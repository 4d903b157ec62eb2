//! wickie keeps a Kubernetes cluster at the state that signed Git commits describe, also when it is cut off.
//!
//! ```text
//! source --> store --> render --> plan --> apply --> report
//! (Git,      (SQLite)  (kustomize, (pure:  (server-  (outbox:
//!  stick,              substitute, what    side      statuses,
//!  peer)               decrypt)    to do)  apply)    events)
//! ```
//!
//! One direction: a stage imports only stages before it. `wickie-model` (words) and [`store`] (memory) lie beneath
//! every stage; `drive` is the only loop.

pub mod store;

mod chain;
mod retry_after;
mod zlib;
pub mod cluster;
pub mod config;

pub mod source;

pub mod render;

pub mod apply;

pub mod report;

pub mod serve;

pub mod install;

pub mod cli;

pub mod drive;
