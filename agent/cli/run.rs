//! `wickie run`: the agent itself.

use std::path::{Path, PathBuf};

use super::{CliError, Cluster, Exit, Settings};
use crate::cluster::Connection;
use crate::drive::{self, DriveError};

/// As written.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Objects to keep to: YAML files, or folders of them [default: /etc/wickie/conf.d if it is there]
    #[arg(long, value_name = "DIR|FILE")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Do everything once, send the reports, and end
    #[arg(long)]
    once: bool,
    /// Take every object of Flux's kinds in the cluster, not only those labelled wickie.dev/managed=true
    #[arg(long)]
    all: bool,
    /// Take over objects that a Flux controller may be active on
    #[arg(long)]
    takeover: bool,
}

/// Where objects are looked for if nothing is said.
const CONFIG: &str = "/etc/wickie/conf.d";

pub(super) async fn execute(args: Args, settings: &Settings) -> Result<Exit, CliError> {
    // One TLS provider for the process: reqwest and kube take the installed one. A second installation is refused, and
    // harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match drive::run(args.settings(settings)).await {
        Ok(()) => Ok(Exit::Done),
        Err(DriveError::NotReady) => Ok(Exit::Differs),
        Err(error) => Err(CliError::Run(error)),
    }
}

impl Args {
    /// As used.
    fn settings(self, settings: &Settings) -> drive::Settings {
        let Self { mut config, cluster, once, all, takeover } = self;
        if config.is_empty() && Path::new(CONFIG).exists() {
            config.push(CONFIG.into());
        }
        drive::Settings {
            data_dir: settings.data_dir.clone(),
            config,
            connection: Connection { kubeconfig: cluster.kubeconfig, context: cluster.context },
            once,
            all,
            takeover,
            node: node_name(),
        }
    }
}

/// The node's name: what the pod is told, or what the system calls itself.
fn node_name() -> String {
    let told = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    told.or_else(host).map(|name| name.trim().to_owned()).unwrap_or_else(|| "unknown".to_owned())
}
