//! How the agent is run, and why it cannot be.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{ConnectError, Connection};
use crate::serve::{ServeError, SupervisorError};
use crate::store::{Bounds, DataDir, StoreError};

/// How the agent is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its state is.
    pub data_dir: DataDir,
    /// Configuration files and folders.
    pub config: Vec<PathBuf>,
    /// Which cluster.
    pub connection: Connection,
    /// Where metrics, probes and webhooks are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// How large the store may grow.
    pub bounds: Bounds,
    /// Whether to end when everything declared has been through one run.
    pub once: bool,
    /// Whether objects in the cluster are taken without the label that opts them in, where the CRDs are not ours.
    pub all: bool,
    /// Whether to take over from a Flux that is active.
    pub takeover: bool,
    /// The node's name, for reports.
    pub node: String,
    /// The namespace that wickie lives in.
    pub namespace: String,
    /// How long the Lease lasts by which the agents of several nodes agree who writes; without it this one does.
    pub lease: Option<Duration>,
    /// Whether our account may list and watch within namespaces alone.
    pub by_namespace: bool,
}

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The cluster's address or credentials.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control socket.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Whoever started it.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// With `--once`: something did not become ready.
    #[error("not everything is ready; see wickie status")]
    NotReady,
    /// With `--once`: nothing was declared.
    #[error("nothing is declared: --config names no GitRepository or Kustomization, and the cluster has none")]
    Nothing,
}
