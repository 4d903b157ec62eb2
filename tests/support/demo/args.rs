//! What may be asked for.

use std::path::PathBuf;

/// Shows on real parts what wickie promises: etcd, kube-apiserver, a Git server over HTTP, a receiver of reports, and the agent.
#[derive(Debug, clap::Parser)]
#[command(
    name = "cargo demo",
    bin_name = "cargo demo",
    after_help = "Exit code: 0 if every step held, 1 if one did not, 2 for wrong usage."
)]
pub(crate) struct Args {
    /// Use this cluster, in a namespace of its own that is removed at the end, and not one that is started for the demo
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub(crate) context: Option<String>,

    /// Leave everything running at the end, say what to try, and wait for Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,

    /// Give the demo's cluster controllers, a scheduler and a node too, for Deployments that become ready (built once, 7 minutes more)
    #[arg(long, conflicts_with = "kubeconfig")]
    pub(crate) full: bool,

    /// Build the agent as it ships: smaller and leaner, and some minutes longer
    #[arg(long)]
    pub(crate) release: bool,
}
