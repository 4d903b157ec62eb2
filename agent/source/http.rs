//! Smart HTTP: each request a `POST`, each answer its body.
//!
//! Source: gitprotocol-http(5); git's own remote-curl.c for redirects.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use super::body::{Body, Meter, Origin};
use super::client::Clients;
use super::github_app::{self, Api, App, Tokens};
use super::pktline::PacketReader;
use super::protocol::Hello;
use super::transport::TransportError;
use super::wire::{WireError, said};
use crate::config::git::{Credentials, GitSource, Limits};
use crate::config::secret::Secret;
use crate::retry_after::retry_after;

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const REQUEST: &str = "application/x-git-upload-pack-request";
const RESULT: &str = "application/x-git-upload-pack-result";

/// Redirects that a handshake follows, on the same host.
const MOST_REDIRECTS: usize = 5;

/// Requests from this size on are compressed, as git does.
const COMPRESS_FROM: usize = 1_024;

/// A repository behind HTTP.
pub(crate) struct HttpTransport {
    client: Client,
    base: Url,
    identity: Identity,
    limits: Limits,
    meter: Meter,
}

/// Who we are to the server.
enum Identity {
    Nobody,
    /// By the same header always.
    Header(HeaderValue),
    /// By a token that is got when it is needed.
    App(Box<App>, Tokens),
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
        let identity = match &source.credentials {
            None => Identity::Nobody,
            Some(Credentials::GitHubApp(app)) => Identity::App(Box::new(App::new(app)?), clients.tokens().clone()),
            Some(credentials) => authorization(credentials)?.map_or(Identity::Nobody, Identity::Header),
        };
        Ok(Self { client: clients.get(source)?, base, identity, limits: source.limits, meter })
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
            let hello = Hello::read(&mut packets, self.limits.refs).await?;
            packets.leave().await;
            return Ok(hello);
        }
        Err(WireError::NotGit { what: format!("more than {MOST_REDIRECTS} redirects follow each other") })
    }

    /// Sends a command; the packets of its answer follow.
    pub(crate) async fn request(&self, request: Bytes) -> Result<PacketReader, WireError> {
        let response = self.send(Method::POST, at(&self.base, "git-upload-pack"), Some(request)).await?;
        self.answer(response, RESULT).await
    }

    async fn send(&self, method: Method, url: Url, body: Option<Bytes>) -> Result<Response, WireError> {
        let mut request = self.client.request(method, url).headers(self.headers().await?);
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
        self.meter.within(&self.limits)?;
        self.meter.sent(size);
        let request = request.build().map_err(|error| WireError::Http(error.without_url()))?;
        self.meter.sent_head(request_head(&request));
        let silence = self.limits.silence;
        match tokio::time::timeout(silence, self.client.execute(request)).await {
            Ok(answer) => {
                let answer = answer.map_err(|error| WireError::Http(error.without_url()))?;
                self.meter.received_head(head(answer.headers()) + "HTTP/1.1 200 OK\r\n".len());
                Ok(answer)
            }
            Err(_) => Err(WireError::Slow { slowest: self.limits.slowest, after: silence }),
        }
    }

    /// What every request says: the protocol we speak, and who we are.
    async fn headers(&self) -> Result<HeaderMap, WireError> {
        let mut headers = HeaderMap::from_iter([(GIT_PROTOCOL, HeaderValue::from_static("version=2"))]);
        let authorization = match &self.identity {
            Identity::Nobody => None,
            Identity::Header(value) => Some(value.clone()),
            Identity::App(app, tokens) => {
                let (client, limits, meter) = (&self.client, self.limits, &self.meter);
                let token = tokens.get(app, &Api { client, limits, meter, now: Timestamp::now() }).await?;
                basic(github_app::USER, &token)
            }
        };
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        Ok(headers)
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
        if let (401, Identity::App(app, tokens)) = (status, &self.identity) {
            tokens.forget(app);
        }
        match status {
            407 => Err(WireError::ProxyLogin { said }),
            401 | 403 => Err(WireError::Unauthorized { status, said }),
            _ => Err(WireError::Status { status, said, retry_after }),
        }
    }

    fn body(&self, response: Response) -> Body {
        Body::new(Origin::Http(response), self.meter.clone(), self.limits)
    }
}

/// Bytes of a request's head, with those headers that the client adds on the way.
fn request_head(request: &reqwest::Request) -> usize {
    let url = request.url();
    let line = request.method().as_str().len() + url.path().len() + url.query().map_or(0, |query| query.len() + 1);
    let added = "accept: */*\r\nuser-agent: git/wickie\r\nhost: \r\n".len() + url.authority().len();
    line + "  HTTP/1.1\r\n".len() + added + head(request.headers())
}

/// Bytes of headers, and of the empty line after them.
fn head(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum::<usize>() + "\r\n".len()
}

/// The header that says who we are. What is no header value (a token with a line break) is left out; the server will
/// then ask for it.
fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, TransportError> {
    match credentials {
        Credentials::Basic { username, password } => Ok(basic(username, password)),
        Credentials::Bearer(token) => Ok(header(&format!("Bearer {}", token.reveal()))),
        Credentials::Ssh { .. } => Err(TransportError::IdentityOverHttp),
        // Its token is got when it is needed.
        Credentials::GitHubApp(_) => Ok(None),
    }
}

fn basic(username: &str, password: &Secret<String>) -> Option<HeaderValue> {
    header(&format!("Basic {}", BASE64.encode(format!("{username}:{}", password.reveal()))))
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.trim_end()).ok()?;
    value.set_sensitive(true);
    Some(value)
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
