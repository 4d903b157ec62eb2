//! The bench that wickie is tested on. Every part is the real one; what a test adds is trouble.
//!
//! ```text
//!  Repo ──> GitServer ──> wickie (Agent) ──> ApiProxy ──> ControlPlane (etcd, kube-apiserver, ...)
//!           git http-backend      │           counts, fails
//!           counts, fails         └────────> Receiver
//! ```
//!
//! - [`ControlPlane`]: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok; found or built by [`parts`].
//! - [`Repo`], [`Signer`], [`manifests`], [`histories`]: what is to be fetched, made by the real git; signatures, also broken ones.
//! - [`GitServer`], [`ApiProxy`], [`Receiver`]: HTTP servers over one [`Front`], so each counts and fails in the same way: see [`Fault`].
//! - [`Gitea`]: a Git host with users and keys. [`GitHubApi`]: what gives GitHub Apps their tokens.
//! - [`KustomizeController`]: Flux's own, for taking over from it and for comparison.
//! - [`ForwardProxy`]: what stands between a company's network and the rest.
//! - [`Relay`]: a TCP link with seeded delay, cuts and flipped bits.
//! - [`Agent`]: the program under test as a process: started, killed, measured.
//! - [`eventually`]: the only way to wait. [`Scratch`]: the only place to write. [`need`]: the only way to skip.
//!
//! Servers and children run on threads and processes of their own: a test may block, and its runtime may be a `current_thread` one.
//! Every child dies with the test process, also when that is killed with SIGKILL: see [`child`].

pub mod audit;
pub mod control_plane;
pub mod kubeconfig;
pub mod metrics;
pub mod parts;

pub mod histories;
pub mod manifests;
pub mod repo;
pub mod signer;

pub mod api_proxy;
mod cgi;
mod door;
pub mod fault;
pub mod forward_proxy;
pub mod front;
pub mod git_server;
pub mod gitea;
pub mod github_api;
pub mod receiver;
pub mod relay;
mod shape;

pub mod agent;
pub mod fleet;
pub mod flux;

pub mod child;
pub mod need;
pub mod port;
pub mod scratch;
pub mod tls;
pub mod wait;

pub use agent::{Agent, AgentOptions};
pub use api_proxy::{ApiProxy, ApiProxyOptions};
pub use control_plane::{Backup, ControlPlane, Options};
pub use fault::{Fault, Rule, When};
pub use fleet::Fleet;
pub use flux::KustomizeController;
pub use forward_proxy::{ForwardProxy, ForwardProxyOptions, Speaks};
pub use front::{Front, Request};
pub use git_server::{Auth, GitServer, GitServerOptions};
pub use gitea::Gitea;
pub use github_api::GitHubApi;
pub use receiver::{Delivery, Receiver};
pub use relay::{Relay, RelayOptions};
pub use repo::Repo;
pub use scratch::Scratch;
pub use signer::{PgpKey, Signer, SshKey};
pub use wait::{eventually, within};
