//! `wickie run`: the agent itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Cluster, Settings};
use crate::store::DataDir;

/// As written.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Objects to keep to: YAML files, or folders of them [default: /etc/wickie/conf.d if it is there]
    #[arg(long, value_name = "DIR|FILE")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Serve metrics and health here
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
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

/// As used.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the state is.
    pub data_dir: DataDir,
    /// Files and folders with objects.
    pub config: Vec<PathBuf>,
    /// Which Kubernetes API.
    pub cluster: Cluster,
    /// Where metrics and health are served.
    pub listen: Option<SocketAddr>,
    /// Whether to end after one round.
    pub once: bool,
    /// Whether objects need no label.
    pub all: bool,
    /// Whether to work beside a Flux controller.
    pub takeover: bool,
}

/// Where objects are looked for if nothing is said.
const CONFIG: &str = "/etc/wickie/conf.d";

impl RunArgs {
    /// What they mean.
    pub fn options(self, settings: &Settings) -> RunOptions {
        let Self { mut config, cluster, listen, once, all, takeover } = self;
        if config.is_empty() && Path::new(CONFIG).exists() {
            config.push(CONFIG.into());
        }
        RunOptions { data_dir: settings.data_dir.clone(), config, cluster, listen, once, all, takeover }
    }
}
