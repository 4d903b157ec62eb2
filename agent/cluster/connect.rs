//! Where the API server is, and who we are to it.
//!
//! Where the server speaks HTTP/2, everything goes over one connection: watches, applies and status writes are streams of
//! it. The small node pays for one TLS session and not for one a kind, and a server that died without a word is noticed
//! by a ping and not by the next write.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::fence::{Fence, Fenced};
use super::{Cluster, REQUEST_TIMEOUT};

/// How the user says which cluster.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// A kubeconfig; `KUBECONFIG`, the service's credential `kubeconfig`, in-cluster credentials and the distributions' own
    /// files are tried where it is not given.
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

/// How often a connection that carries requests is asked whether the other end is still there, and how long the answer
/// may take. Source: client-go, `http2.ConfigureTransports` with its `ReadIdleTimeout` and `PingTimeout`.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(15);

/// What a server may send ahead of us, on one stream and on all: the memory that a flood of events can cost.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

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
        let config = self.config().await?;
        let server = config.cluster_url.to_string();
        Ok((client(config, None, None).map_err(ConnectError::Client)?, server))
    }

    /// The cluster for the agent on `node`, which its requests name, and the server's address. Where there is a fence,
    /// writes go over a connection of their own that breaks when it is shut.
    pub async fn cluster(&self, node: &str, fence: Option<Fence>) -> Result<(Cluster, String), ConnectError> {
        let config = self.config().await?;
        let server = config.cluster_url.to_string();
        let reader = client(config.clone(), Some(node), None).map_err(ConnectError::Client)?;
        let cluster = match fence {
            Some(fence) => {
                let writer = client(config, Some(node), Some(fence.clone())).map_err(ConnectError::Client)?;
                Cluster::fenced(reader, writer, fence)
            }
            None => Cluster::new(reader),
        };
        Ok((cluster, server))
    }

    async fn config(&self) -> Result<Config, ConnectError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut tried = vec!["KUBECONFIG".to_owned(), "a credential".to_owned(), "a service account".to_owned()];
        if let Some(path) = &self.kubeconfig {
            return from_file(path.clone(), &options).await;
        }
        if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            let path = std::env::split_paths(&path).next().unwrap_or_default();
            return from_file(path, &options).await;
        }
        if let Some(path) = credential().filter(|path| path.is_file()) {
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

/// The kubeconfig that the service manager hands out (`LoadCredential=kubeconfig:FILE`). Source: systemd.exec(5).
fn credential() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| PathBuf::from(folder).join("kubeconfig"))
}

/// A client that speaks HTTP/2 where the server does, of the agent on `node`; with a fence, nothing leaves it once that is
/// shut.
///
/// kube's own stack speaks HTTP/1.1 alone. It is taken where it does more than this one: proxies, and credentials that a
/// program hands out. There, the fence is looked at before a request alone.
pub(super) fn client(mut config: Config, node: Option<&str>, fence: Option<Fence>) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(Duration::from_secs(10));
    // How long an answer or a watch may take is known where it is asked for. A limit for each read and write of the
    // connection beside that wakes the process twice for everything that arrives.
    (config.read_timeout, config.write_timeout) = (None, None);
    // Whoever sends decides whether to send again: a retry below would not know of leases and limits.
    config.default_retry = false;
    config.headers.push((HeaderName::from_static("user-agent"), user_agent(node)));
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return Client::try_from(config);
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    if fence.is_some() {
        // What the other end has not taken by then is not delivered when a broken link heals.
        http.set_tcp_user_timeout(Some(REQUEST_TIMEOUT));
    }
    let http = ServiceExt::<Uri>::map_response(http, move |stream| Fenced::new(stream, fence.clone()));
    let mut tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = config.tls_server_name.clone().and_then(|name| name.try_into().ok()) {
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector = TimeoutConnector::new(tls.enable_all_versions().wrap_connector(http));
    connector.set_connect_timeout(config.connect_timeout);
    let stack: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(stack);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// `wickie/VERSION`, and which node's.
fn user_agent(node: Option<&str>) -> HeaderValue {
    const NAME: &str = concat!("wickie/", env!("CARGO_PKG_VERSION"));
    let named = node.and_then(|node| HeaderValue::from_str(&format!("{NAME} ({node})")).ok());
    named.unwrap_or(HeaderValue::from_static(NAME))
}

async fn from_file(path: PathBuf, options: &KubeConfigOptions) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.clone(), source };
    let kubeconfig = Kubeconfig::read_from(&path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(failed)
}
