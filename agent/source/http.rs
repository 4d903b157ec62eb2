//! Smart HTTP: each request a `POST`, each answer its body.
//!
//! Source: gitprotocol-http(5); git's own remote-curl.c for redirects.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Client, Method, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::body::{Body, Meter, Origin};
use super::pktline::PacketReader;
use super::protocol::Hello;
use super::transport::TransportError;
use super::wire::{WireError, said};
use crate::config::git::{Credentials, GitSource, Limits};
use crate::retry_after::retry_after;

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const REQUEST: &str = "application/x-git-upload-pack-request";
const RESULT: &str = "application/x-git-upload-pack-result";

/// Redirects that a handshake follows, on the same host.
const MOST_REDIRECTS: usize = 5;

/// Requests from this size on are compressed, as git does.
const COMPRESS_FROM: usize = 1_024;

/// HTTP clients, one for each way to prove and to check identities, so that connections are used again.
#[derive(Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<HashMap<ClientKey, Client>>>);

#[derive(PartialEq, Eq, Hash)]
struct ClientKey {
    ca: Option<Vec<u8>>,
    connect: Duration,
}

impl Clients {
    fn get(&self, source: &GitSource) -> Result<Client, TransportError> {
        let key = ClientKey { ca: source.ca.clone(), connect: source.limits.connect };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = client(source.ca.as_deref(), source.limits.connect)?;
        // A handful of sources share a handful of clients; one whose CA was replaced is not kept for ever.
        if clients.len() >= 16 {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn client(ca: Option<&[u8]>, connect: Duration) -> Result<Client, TransportError> {
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
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(2)
        .user_agent("git/wickie")
        .build()?;
    Ok(client)
}

/// A repository behind HTTP.
pub(crate) struct HttpTransport {
    client: Client,
    base: Url,
    headers: HeaderMap,
    limits: Limits,
    meter: Meter,
}

impl HttpTransport {
    /// The repository of a source, at `base` if a handshake found it to have moved on its host.
    pub(crate) fn new(
        clients: &Clients,
        source: &GitSource,
        base: Option<Url>,
        meter: Meter,
    ) -> Result<Self, TransportError> {
        let written = source.url.as_url();
        let base = base.filter(|base| same_host(written, base)).unwrap_or_else(|| written.clone());
        let mut headers = HeaderMap::new();
        headers.insert(GIT_PROTOCOL, HeaderValue::from_static("version=2"));
        if let Some(credentials) = &source.credentials
            && let Some(value) = authorization(credentials)?
        {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { client: clients.get(source)?, base, headers, limits: source.limits, meter })
    }

    /// Where the repository was found to be.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Goes back to the address that the spec gives.
    pub(crate) fn forget(&mut self, written: &Url) {
        self.base = written.clone();
    }

    /// Asks what the server can do. Follows redirects on the same host, as git does for this request alone.
    pub(crate) async fn hello(&mut self) -> Result<Hello, WireError> {
        for _ in 0..=MOST_REDIRECTS {
            let mut url = at(&self.base, "info/refs");
            url.set_query(Some("service=git-upload-pack"));
            let response = self.send(Method::GET, url, None).await?;
            if response.status().is_redirection() {
                self.base = redirected(&self.base, &response)?;
                continue;
            }
            let mut packets = self.answer(response, ADVERTISEMENT).await?;
            return Hello::read(&mut packets, self.limits.refs).await;
        }
        Err(WireError::NotGit { what: format!("more than {MOST_REDIRECTS} redirects follow each other") })
    }

    /// Sends a command; the packets of its answer follow.
    pub(crate) async fn request(&self, request: Bytes) -> Result<PacketReader, WireError> {
        let response = self.send(Method::POST, at(&self.base, "git-upload-pack"), Some(request)).await?;
        self.answer(response, RESULT).await
    }

    async fn send(&self, method: Method, url: Url, body: Option<Bytes>) -> Result<Response, WireError> {
        let mut request = self.client.request(method, url).headers(self.headers.clone());
        let mut size = 0;
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, REQUEST).header(ACCEPT, RESULT);
            let body = match body.len() >= COMPRESS_FROM {
                true => {
                    request = request.header(CONTENT_ENCODING, "gzip");
                    gzip(&body)?
                }
                false => body,
            };
            size = body.len();
            request = request.body(body);
        }
        self.meter.sent(size);
        let silence = self.limits.silence;
        match tokio::time::timeout(silence, request.send()).await {
            Ok(answer) => answer.map_err(|error| WireError::Http(error.without_url())),
            Err(_) => Err(WireError::Slow { slowest: self.limits.slowest, after: silence }),
        }
    }

    async fn answer(&self, response: Response, expected: &'static str) -> Result<PacketReader, WireError> {
        let status = response.status();
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        if status == StatusCode::OK {
            if content_type.as_ref().is_none_or(|found| found != expected) {
                let found = content_type.as_ref().map_or("none".to_owned(), |found| said(found.as_bytes()));
                return Err(WireError::NotGit { what: format!("it answers with the content type {found}") });
            }
            return Ok(PacketReader::new(self.body(response)));
        }
        if status.is_redirection() {
            // Git follows no redirect here either: what is asked for was not asked of that address.
            return Err(WireError::Status {
                status: status.as_u16(),
                said: "a redirect".to_owned(),
                retry_after: None,
            });
        }
        let retry_after = retry_after(response.headers());
        let plain = content_type.is_some_and(|found| found.as_bytes().starts_with(b"text/plain"));
        let said = match (plain, self.body(response).chunk().await) {
            (true, Ok(Some(chunk))) => said(&chunk),
            _ => String::new(),
        };
        let status = status.as_u16();
        match status {
            401 | 403 => Err(WireError::Unauthorized { status, said }),
            _ => Err(WireError::Status { status, said, retry_after }),
        }
    }

    fn body(&self, response: Response) -> Body {
        Body::new(Origin::Http(response), self.meter.clone(), self.limits)
    }
}

/// The header that says who we are. What is no header value (a token with a line break) is left out; the server will
/// then ask for it.
fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, TransportError> {
    let text = match credentials {
        Credentials::Basic { username, password } => {
            format!("Basic {}", BASE64.encode(format!("{username}:{}", password.reveal())))
        }
        Credentials::Bearer(token) => format!("Bearer {}", token.reveal()),
        Credentials::Ssh { .. } => return Err(TransportError::IdentityOverHttp),
    };
    let mut value = HeaderValue::from_str(text.trim_end()).ok();
    if let Some(value) = &mut value {
        value.set_sensitive(true);
    }
    Ok(value)
}

fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Whether credentials for `one` may be shown to `other`: the same host and port, and never from TLS to plain text.
fn same_host(one: &Url, other: &Url) -> bool {
    let same = one.host() == other.host();
    let upgrade = one.scheme() == "http" && other.scheme() == "https";
    same && ((one.scheme() == other.scheme() && one.port_or_known_default() == other.port_or_known_default())
        || (upgrade && one.port().is_none() && other.port().is_none()))
}

/// The repository's address after a redirect of its `info/refs`.
fn redirected(base: &Url, response: &Response) -> Result<Url, WireError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| at(base, "info/refs").join(location).ok());
    let Some(mut target) = target else {
        return Err(WireError::NotGit { what: "it redirects to no address".to_owned() });
    };
    if !same_host(base, &target) || !target.username().is_empty() || target.password().is_some() {
        let to = format!("{}://{}", target.scheme(), target.host_str().unwrap_or_default());
        return Err(WireError::Redirect { to });
    }
    let Some(path) = target.path().strip_suffix("/info/refs").map(str::to_owned) else {
        return Err(WireError::NotGit {
            what: format!("it redirects to {}, which is no repository", said(target.path().as_bytes())),
        });
    };
    target.set_path(&path);
    target.set_query(None);
    target.set_fragment(None);
    Ok(target)
}

fn gzip(bytes: &[u8]) -> Result<Bytes, WireError> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map(Bytes::from).map_err(WireError::Connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_on_their_host() {
        let same = |one: &str, other: &str| same_host(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(same("https://git.example/a", "https://git.example/b"));
        assert!(same("http://git.example/a", "https://git.example/a"));
        assert!(!same("https://git.example/a", "http://git.example/a"));
        assert!(!same("https://git.example/a", "https://evil.example/a"));
        assert!(!same("https://git.example/a", "https://git.example:8443/a"));
        assert!(!same("https://git.example/a", "https://git.example.evil.example/a"));
    }

    #[test]
    fn a_secret_header_does_not_print() {
        let token = crate::config::secret::Secret::new("hunter2".to_owned());
        let value = authorization(&Credentials::Bearer(token)).unwrap().unwrap();
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
