//! Where the API server is, and who we are to it.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How the user says which cluster.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// A kubeconfig; `KUBECONFIG`, in-cluster credentials and the distributions' own files are tried where it is not given.
    pub kubeconfig: Option<PathBuf>,
    /// A context in it; the current one where it is not given.
    pub context: Option<String>,
}

/// The cluster's address or credentials could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A kubeconfig cannot be used.
    #[error("the kubeconfig {path} cannot be used")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// None was found.
    #[error(
        "no cluster is configured: give --kubeconfig FILE, set KUBECONFIG, or run in a pod with a service account (looked for {tried})"
    )]
    NotFound {
        /// Where it was looked for.
        tried: String,
    },
    /// A client could not be made of it.
    #[error("no client can be made for the cluster")]
    Client(#[source] kube::Error),
}

/// The distributions' own kubeconfigs, readable by root on the node.
const ON_THE_NODE: [&str; 4] = [
    "/etc/rancher/k3s/k3s.yaml",
    "/var/lib/microshift/resources/kubeadmin/kubeconfig",
    "/etc/kubernetes/admin.conf",
    "/var/lib/k0s/pki/admin.conf",
];

impl Connection {
    /// A client, and the server's address. Nothing is sent yet: the API server may be away.
    pub async fn client(&self) -> Result<(Client, String), ConnectError> {
        let mut config = self.config().await?;
        let server = config.cluster_url.to_string();
        config.connect_timeout = Some(Duration::from_secs(10));
        // A watch that says nothing for longer is dead: the server ends each of ours within five minutes.
        config.read_timeout = Some(Duration::from_secs(330));
        config.write_timeout = Some(Duration::from_secs(30));
        // Whoever sends decides whether to send again: a retry below would not know of leases and limits.
        config.default_retry = false;
        let agent = HeaderValue::from_static(concat!("wickie/", env!("CARGO_PKG_VERSION")));
        config.headers.push((HeaderName::from_static("user-agent"), agent));
        Ok((Client::try_from(config).map_err(ConnectError::Client)?, server))
    }

    async fn config(&self) -> Result<Config, ConnectError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut tried = vec!["KUBECONFIG".to_owned(), "a service account".to_owned()];
        if let Some(path) = &self.kubeconfig {
            return from_file(path.clone(), &options).await;
        }
        if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            let path = std::env::split_paths(&path).next().unwrap_or_default();
            return from_file(path, &options).await;
        }
        if let Ok(config) = Config::incluster() {
            return Ok(config);
        }
        let home = std::env::home_dir().map(|home| home.join(".kube/config"));
        for path in ON_THE_NODE.map(PathBuf::from).into_iter().chain(home) {
            if path.is_file() {
                return from_file(path, &options).await;
            }
            tried.push(path.display().to_string());
        }
        Err(ConnectError::NotFound { tried: tried.join(", ") })
    }
}

async fn from_file(path: PathBuf, options: &KubeConfigOptions) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.clone(), source };
    let kubeconfig = Kubeconfig::read_from(&path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(failed)
}
