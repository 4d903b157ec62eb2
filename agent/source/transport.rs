//! How bytes get to a server and back: a closed set of ways, each a conversation of requests and answers.

use bytes::Bytes;
use url::Url;

use super::body::Meter;
use super::client::Clients;
use super::http::HttpTransport;
use super::local::LocalTransport;
use super::pktline::PacketReader;
use super::protocol::{FetchRequest, Hello, PackStream, Ref};
use super::ssh::SshTransport;
use super::wire::WireError;
use crate::config::git::GitSource;

/// A source whose transport cannot be set up: its spec or its Secret must be mended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum TransportError {
    #[error("ca.crt holds no PEM certificate")]
    NoCertificate,
    #[error("ca.crt holds a certificate that cannot be read")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("tls.crt holds no PEM certificate")]
    NoClientCertificate,
    #[error("tls.crt holds a certificate that cannot be read")]
    ClientCertificate(#[source] rustls::pki_types::pem::Error),
    #[error("tls.key cannot be read as a private key in PEM")]
    ClientKey(#[source] rustls::pki_types::pem::Error),
    #[error("tls.crt and tls.key cannot be used together")]
    ClientPair(#[source] rustls::Error),
    #[error("githubAppPrivateKey {why}")]
    AppKey { why: &'static str },
    #[error("the environment's {name} cannot be used: {why}")]
    ProxyVariable { name: &'static str, why: &'static str },
    #[error("the TLS client cannot be set up")]
    Rustls(#[from] rustls::Error),
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
    #[error("an ssh:// URL needs a Secret with the keys identity and known_hosts")]
    NoIdentity,
    #[error("the Secret's identity is for ssh:// and this URL is not; give username and password, or bearerToken")]
    IdentityOverHttp,
    #[error("the Secret's identity cannot be read as a private key{}", if *.encrypted { ": it is encrypted, its passphrase goes into the key password" } else { "" })]
    Identity {
        encrypted: bool,
        #[source]
        source: russh::keys::Error,
    },
    #[error("the Secret's known_hosts cannot be read: {0}")]
    KnownHosts(String),
}

/// A way to a server.
pub(crate) enum Transport {
    Http(Box<HttpTransport>),
    Ssh(Box<SshTransport>),
    Local(Box<LocalTransport>),
}

impl Transport {
    /// The way to the server of `source`; at `base` if it was found to have moved on its host.
    pub(crate) fn new(
        clients: &Clients,
        source: &GitSource,
        base: Option<Url>,
        meter: Meter,
    ) -> Result<Self, TransportError> {
        if let Some(path) = source.url.local() {
            return Ok(Self::Local(Box::new(LocalTransport::new(source, path))));
        }
        match source.url.as_url().scheme() {
            "ssh" => Ok(Self::Ssh(Box::new(SshTransport::new(source, clients.proxy(source)?, meter)?))),
            _ => Ok(Self::Http(Box::new(HttpTransport::new(clients, source, base, meter)?))),
        }
    }

    /// Where the repository was found to be.
    pub(crate) fn base(&self) -> Option<&Url> {
        match self {
            Self::Http(http) => Some(http.base()),
            Self::Ssh(_) | Self::Local(_) => None,
        }
    }

    /// Goes back to the address that the spec gives.
    pub(crate) fn forget(&mut self, written: &Url) {
        if let Self::Http(http) = self {
            http.forget(written);
        }
    }

    /// Asks what the server can do.
    pub(crate) async fn hello(&mut self) -> Result<Hello, WireError> {
        match self {
            Self::Http(http) => http.hello().await,
            Self::Ssh(ssh) => ssh.hello().await,
            Self::Local(local) => local.hello().await,
        }
    }

    /// The references of a repository on this node, which is asked without packets; `None` for a server.
    pub(crate) async fn local_refs(&self, prefixes: &[String]) -> Option<Result<Vec<Ref>, WireError>> {
        match self {
            Self::Local(local) => Some(local.refs(prefixes).await),
            Self::Http(_) | Self::Ssh(_) => None,
        }
    }

    /// A pack of a repository on this node; `None` for a server.
    pub(crate) async fn local_fetch(&self, request: &FetchRequest) -> Option<Result<PackStream, WireError>> {
        match self {
            Self::Local(local) => Some(local.fetch(request).await),
            Self::Http(_) | Self::Ssh(_) => None,
        }
    }

    /// Sends a request; the packets of its answer follow.
    pub(crate) async fn request(&mut self, request: Bytes) -> Result<PacketReader, WireError> {
        match self {
            Self::Http(http) => http.request(request).await,
            Self::Ssh(ssh) => ssh.request(request).await,
            Self::Local(_) => Err(WireError::NotGit { what: "a repository on this node takes no packets".to_owned() }),
        }
    }
}
