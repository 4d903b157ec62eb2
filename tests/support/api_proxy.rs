//! A reverse proxy in front of the API server: every request of the agent is counted, and can fail.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::control_plane::ControlPlane;
use crate::fault::Fault;
use crate::front::{Answer, Front, Served};
use crate::kubeconfig::{self, Proof};
use crate::scratch::Scratch;
use crate::tls::Authority;

/// How an [`ApiProxy`] is set up.
#[derive(Clone, Debug)]
pub struct ApiProxyOptions {
    /// HTTPS, by a CA of its own that the kubeconfig names. Without it, plain HTTP as with `kubectl proxy`.
    pub tls: bool,
    /// As whom it asks the API server.
    pub user: String,
    /// The groups of that user; two at most.
    pub groups: Vec<String>,
}

impl Default for ApiProxyOptions {
    fn default() -> Self {
        Self { tls: false, user: "admin".into(), groups: vec!["system:masters".into()] }
    }
}

/// The proxy. What it counts and how it fails: see [`Front`], to which it derefs.
pub struct ApiProxy {
    front: Front,
    folder: Scratch,
}

impl ApiProxy {
    /// Plain HTTP, as admin.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start(control_plane: &ControlPlane) -> Result<Self> {
        Self::start_with(control_plane, &ApiProxyOptions::default())
    }

    /// As the options say.
    ///
    /// # Errors
    /// With more than two groups, or when loopback has no port left.
    pub fn start_with(control_plane: &ControlPlane, options: &ApiProxyOptions) -> Result<Self> {
        let groups: Vec<&str> = options.groups.iter().map(String::as_str).collect();
        let identity = control_plane.authority().client(&options.user, &groups)?;
        let upstream = Upstream {
            addr: control_plane.addr(),
            tls: TlsConnector::from(control_plane.authority().client_config(&identity)?),
        };
        let upstream = Arc::new(upstream);
        let authority = options.tls.then(|| Authority::new("wickie test proxy")).transpose()?;
        let front = Front::start("api proxy", authority.as_ref(), move |request| {
            let upstream = upstream.clone();
            async move { upstream.forward(request).await }
        })?;
        let folder = Scratch::new("api-proxy");
        kubeconfig::write(&folder.join("kubeconfig"), &kubeconfig::text(&front.origin(), front.ca(), &Proof::None))?;
        Ok(Self { front, folder })
    }

    /// A kubeconfig that leads here. It holds no credentials: the proxy has them.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Answers the next `count` requests as an API server does that has too much to do.
    pub fn too_many_requests(&self, count: usize, retry_after: u64) {
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too many requests","reason":"TooManyRequests","code":429}"#;
        self.inject(
            Fault::Answer { status: 429, retry_after: Some(retry_after), body: status.to_owned() }.times(count),
        );
    }
}

impl Deref for ApiProxy {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

struct Upstream {
    addr: SocketAddr,
    tls: TlsConnector,
}

impl Upstream {
    /// One connection a request: no pool whose stale connections would add faults of their own.
    async fn forward(&self, mut request: Served) -> Answer {
        let stream = TcpStream::connect(self.addr).await.context("connect to the API server")?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::from(self.addr.ip()), stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer, or when the client has gone and the answer is dropped.
        tokio::spawn(connection);
        end_to_end(request.headers_mut());
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.addr.to_string())?);
        let mut response = sender.send_request(request).await?;
        end_to_end(response.headers_mut());
        Ok(response.map(|body| body.map_err(anyhow::Error::from).boxed_unsync()))
    }
}

/// Removes what is between two neighbours only (RFC 9110, 7.6.1).
fn end_to_end(headers: &mut HeaderMap) {
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive")] {
        headers.remove(name);
    }
}
