//! How bytes get to a server and back: a closed set of ways, each a conversation of requests and answers.

use bytes::Bytes;
use url::Url;

use super::body::Meter;
use super::http::{Clients, HttpTransport};
use super::pktline::PacketReader;
use super::protocol::Hello;
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
}

impl Transport {
    /// The way to the server of `source`; at `base` if it was found to have moved on its host.
    pub(crate) fn new(
        clients: &Clients,
        source: &GitSource,
        base: Option<Url>,
        meter: Meter,
    ) -> Result<Self, TransportError> {
        match source.url.as_url().scheme() {
            "ssh" => Ok(Self::Ssh(Box::new(SshTransport::new(source, meter)?))),
            _ => Ok(Self::Http(Box::new(HttpTransport::new(clients, source, base, meter)?))),
        }
    }

    /// Where the repository was found to be.
    pub(crate) fn base(&self) -> Option<&Url> {
        match self {
            Self::Http(http) => Some(http.base()),
            Self::Ssh(_) => None,
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
        }
    }

    /// Sends a request; the packets of its answer follow.
    pub(crate) async fn request(&mut self, request: Bytes) -> Result<PacketReader, WireError> {
        match self {
            Self::Http(http) => http.request(request).await,
            Self::Ssh(ssh) => ssh.request(request).await,
        }
    }
}
