//! `wickie run`: the agent itself.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use wickie_model::parse_size;

use super::{CliError, Cluster, Exit, Settings};
use crate::cluster::Connection;
use crate::drive::{self, DriveError};
use crate::store::{Bounds, SMALLEST_MOST};

/// As written.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Objects to keep to: YAML files, or folders of them [default: /etc/wickie/conf.d if it is there]
    #[arg(long, value_name = "DIR|FILE")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Serve metrics, probes and webhooks at this address, such as 127.0.0.1:9797 or :9797; not at all without
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// How large the store may grow, such as 512Mi
    #[arg(long, value_name = "SIZE", default_value = "1Gi", value_parser = size)]
    max_store: u64,
    /// Agree with the agents of other nodes, by a Lease of the cluster that lasts so long, on one that writes
    #[arg(
        long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "15s",
        value_parser = drive::parse_lease, conflicts_with = "once"
    )]
    lease: Option<Duration>,
    /// Do everything once, send the reports, and end
    #[arg(long)]
    once: bool,
    /// Take every object of Flux's kinds in the cluster, not only those labelled wickie.dev/managed=true
    #[arg(long)]
    all: bool,
    /// Take over objects that a Flux controller may be active on
    #[arg(long)]
    takeover: bool,
    /// List and watch each namespace by itself, for an account that may not see the whole cluster's objects of a kind
    #[arg(long)]
    by_namespace: bool,
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
        let Self { config, cluster, listen, max_store, lease, once, all, takeover, by_namespace } = self;
        let config = self::config(&config);
        drive::Settings {
            data_dir: settings.data_dir.clone(),
            config,
            connection: Connection { kubeconfig: cluster.kubeconfig, context: cluster.context },
            listen,
            bounds: Bounds { most: max_store },
            once,
            all,
            takeover,
            node: node_name(),
            namespace: namespace(),
            lease,
            by_namespace,
        }
    }
}

/// `HOST:PORT` with the host as numbers; `:PORT` is every address of the node.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let everywhere = text.strip_prefix(':').and_then(|port| port.parse().ok());
    let everywhere = everywhere.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    everywhere.map_or_else(
        || text.parse().map_err(|_| "it is written like 127.0.0.1:9797, [::1]:9797 or :9797".to_owned()),
        Ok,
    )
}

/// A size that leaves room for anything.
fn size(text: &str) -> Result<u64, String> {
    match parse_size(text).map_err(|error| error.to_string())? {
        size if size < SMALLEST_MOST => Err(format!("less than {} leaves no room for anything", SMALLEST_MOST)),
        size => Ok(size),
    }
}

/// Where objects are declared: what was said, or the usual folder.
pub(super) fn config(said: &[PathBuf]) -> Vec<PathBuf> {
    match said {
        [] if Path::new(CONFIG).exists() => vec![CONFIG.into()],
        said => said.to_vec(),
    }
}

/// Where a pod finds its namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace that wickie lives in: what the pod is told, or runs in; for a service on a node, which is in none, the
/// system's own, where no tenant writes.
pub(super) fn namespace() -> String {
    let told = std::env::var("POD_NAMESPACE").ok();
    let pod = || std::fs::read_to_string(POD_NAMESPACE).ok();
    let named = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    named(told).or_else(|| named(pod())).unwrap_or_else(|| "kube-system".to_owned())
}

/// The node's name: what the pod is told, or what the system calls itself.
fn node_name() -> String {
    let told = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    told.or_else(host).map(|name| name.trim().to_owned()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sizes() {
        assert_eq!(address(":9797").unwrap().to_string(), "[::]:9797");
        assert_eq!(address("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert!(address("localhost").is_err() && address(":x").is_err());
        assert_eq!(size("512Mi"), Ok(512 << 20));
        assert!(size("1Mi").is_err() && size("lots").is_err());
    }
}
