//! HTTP clients: one for each way to prove and to check identities and to go through proxies, so that connections are
//! used again by those sources alone that are the same to a server.
//!
//! Which client is whose is told by a digest over all that makes it: of a private key or a password, nothing else is
//! kept here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::github_app::Tokens;
use super::proxy::{self, Environment};
use super::transport::TransportError;
use crate::config::git::GitSource;
use crate::config::git_access::{ClientCertificate, Proxy};

/// A handful of sources share a handful of clients; one whose CA was replaced is not kept for ever.
const MOST_CLIENTS: usize = 16;

/// What an exchange has to bring before its connection is given up: another handshake is less than a hundredth of it.
const HEAVY: u64 = 256 << 10;

/// The clients, and what is kept for them.
#[derive(Clone)]
pub(crate) struct Clients(Arc<Shared>);

struct Shared {
    clients: Mutex<HashMap<Key, Client>>,
    environment: Environment,
    tokens: Tokens,
}

/// SHA-256 over everything that a client is made of.
type Key = [u8; 32];

impl Default for Clients {
    /// With the proxies that the environment of this process names now.
    fn default() -> Self {
        let environment = Environment::read(|name| std::env::var(name).ok());
        Self(Arc::new(Shared { clients: Mutex::default(), environment, tokens: Tokens::default() }))
    }
}

impl Clients {
    /// The client for a source.
    pub(crate) fn get(&self, source: &GitSource) -> Result<Client, TransportError> {
        let proxy = self.proxy(source)?;
        let key = key(source, proxy.as_ref());
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = client(source, proxy.as_ref())?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// Gives up the connections to the server of a source where one has carried so much: its buffers have grown with that,
    /// and would stay as large for as long as it is open.
    pub(crate) fn unburden(&self, source: &GitSource, received: u64) {
        if received < HEAVY {
            return;
        }
        if let Ok(proxy) = self.proxy(source) {
            let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.remove(&key(source, proxy.as_ref()));
        }
    }

    /// The proxy on the way to the server of a source.
    pub(crate) fn proxy(&self, source: &GitSource) -> Result<Option<Proxy>, TransportError> {
        proxy::proxy_for(source, &self.0.environment)
    }

    /// The tokens of GitHub Apps.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }
}

fn key(source: &GitSource, proxy: Option<&Proxy>) -> Key {
    let mut hash = Sha256::new();
    // Each part with its length in front, so that no two sets of parts run into the same bytes.
    let mut part = |bytes: Option<&[u8]>| {
        hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(source.ca.as_deref());
    part(source.client_certificate.as_ref().map(|shown| shown.certificate.as_slice()));
    part(source.client_certificate.as_ref().map(|shown| shown.key.reveal().as_slice()));
    part(proxy.map(|proxy| proxy.address.as_str().as_bytes()));
    part(proxy.and_then(|proxy| proxy.login.as_ref()).map(|(user, _)| user.as_bytes()));
    part(proxy.and_then(|proxy| proxy.login.as_ref()).map(|(_, password)| password.reveal().as_bytes()));
    part(Some(&source.limits.connect.as_nanos().to_be_bytes()));
    hash.finalize().into()
}

fn client(source: &GitSource, proxy: Option<&Proxy>) -> Result<Client, TransportError> {
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls(source.ca.as_deref(), source.client_certificate.as_ref())?)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // The environment was read already, and the spec goes before it.
        .no_proxy()
        .connect_timeout(source.limits.connect)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(2)
        .user_agent("git/wickie");
    if let Some(proxy) = proxy {
        client = client.proxy(reqwest::Proxy::all(proxy::with_login(proxy))?);
    }
    Ok(client.build()?)
}

/// Who the server may be, and who we are.
fn tls(ca: Option<&[u8]>, shown: Option<&ClientCertificate>) -> Result<ClientConfig, TransportError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(TransportError::Pem)?)?;
        }
        if roots.len() == before {
            return Err(TransportError::NoCertificate);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some(shown) = shown else { return Ok(config.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(&shown.certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(TransportError::ClientCertificate)?;
    if chain.is_empty() {
        return Err(TransportError::NoClientCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(shown.key.reveal()).map_err(TransportError::ClientKey)?;
    config.with_client_auth_cert(chain, key).map_err(TransportError::ClientPair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::git::{GitUrl, RefName, Reference};
    use crate::config::secret::Secret;

    fn source() -> GitSource {
        let name = wickie_model::ResourceName::new("flux-system", "fleet");
        let url = GitUrl::parse("https://git.example/fleet.git").unwrap();
        let main = Reference::Branch(RefName::new("main").unwrap());
        GitSource::unverified(name, url, main, Duration::from_secs(60))
    }

    #[test]
    fn who_differs_in_anything_that_a_server_sees_shares_no_connection() {
        let plain = key(&source(), None);
        assert_eq!(plain, key(&source(), None));
        let pair = |certificate: &str, secret: &str| {
            let mut source = source();
            let key = Secret::new(secret.as_bytes().to_vec());
            source.client_certificate = Some(ClientCertificate { certificate: certificate.into(), key });
            source
        };
        let proxy = |text: &str| Proxy::parse(text).unwrap();
        let mut ca = source();
        ca.ca = Some(b"a".to_vec());
        let keys = [
            plain,
            key(&ca, None),
            key(&pair("a", "b"), None),
            key(&pair("a", "c"), None),
            key(&pair("ab", ""), None),
            key(&source(), Some(&proxy("http://p"))),
            key(&source(), Some(&proxy("http://ada:1@p"))),
            key(&source(), Some(&proxy("http://ada:2@p"))),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_named_without_its_text() {
        let shown = |certificate: &str, key: &str| {
            let key = Secret::new(key.as_bytes().to_vec());
            tls(None, Some(&ClientCertificate { certificate: certificate.into(), key })).unwrap_err().to_string()
        };
        assert!(shown("hunter2", "hunter2").contains("tls.crt"));
        let begin = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = shown(begin, "hunter2");
        assert!(error.contains("tls.key") && !error.contains("hunter2"), "{error}");
    }
}
