//! GitHub Apps: tokens of an installation, got with the App's key and kept until shortly before they end.
//!
//! Source: GitHub's documentation, "Generating a JSON Web Token for a GitHub App" and "Authenticating as a GitHub App
//! installation"; how a token is used for Git, and the order in which an owner is looked up, are Flux's
//! (`fluxcd/pkg/auth/githubapp`).
//!
//! - The App's key never leaves this process; it signs a statement that is good for a few minutes, with ring.
//! - Statement and token go to the API's host alone: a redirect is an error. Each request counts as the source's.
//! - A node's clock may be off. The statement is dated a minute back; is it refused and the server's clock is another
//!   one, it is made again by that clock, once. How long a token lives is counted from the server's clock too.
//! - Tokens are kept in memory only. One that the Git server refuses is forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderValue};
use reqwest::{Client, Method, Response};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::body::{Body, Meter, Origin};
use super::transport::TransportError;
use super::wire::{WireError, said};
use crate::config::git::Limits;
use crate::config::git_access::{GitHubApp, Installation};
use crate::config::secret::Secret;
use crate::retry_after::retry_after;

/// How far back a statement is dated, against clocks that go ahead.
const BACKDATED: i64 = 60;

/// How long a statement holds from now on; GitHub takes ten minutes at most.
const HOLDS: i64 = 300;

/// Clocks that differ by less are the same.
const SAME_CLOCK: i64 = 30;

/// A token is renewed this long before it ends, so that none ends within a poll.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// GitHub's tokens live for an hour; none is kept for longer, whatever is said.
const LONGEST_LIFE: Duration = Duration::from_secs(3_600);

/// An answer of the API is smaller than this.
const MOST_ANSWER: usize = 64 << 10;

/// Tokens that are kept at once.
const MOST_TOKENS: usize = 64;

/// The user name that goes with a token.
pub(crate) const USER: &str = "x-access-token";

/// The tokens at hand.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Arc<Mutex<HashMap<[u8; 32], Token>>>);

#[derive(Clone)]
struct Token {
    value: Secret<String>,
    renewed: Instant,
}

/// An App whose key was read.
pub(crate) struct App {
    app: GitHubApp,
    key: RsaKeyPair,
    /// Names the App, the installation and the key, without being any of them.
    digest: [u8; 32],
}

/// One way to ask the API, and what it costs.
pub(crate) struct Api<'a> {
    pub(crate) client: &'a Client,
    pub(crate) limits: Limits,
    pub(crate) meter: &'a Meter,
    /// What this node's clock says.
    pub(crate) now: Timestamp,
}

/// An answer, with the server's clock.
struct Answer {
    status: u16,
    body: Vec<u8>,
    date: Option<Timestamp>,
    retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct InstallationAnswer {
    id: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: String,
    expires_at: Option<Timestamp>,
}

impl App {
    /// Reads the App's key.
    pub(crate) fn new(app: &GitHubApp) -> Result<Self, TransportError> {
        let key = PrivateKeyDer::from_pem_slice(app.key.reveal().as_bytes());
        let key = key.map_err(|_| TransportError::AppKey { why: "is no private key in PEM" })?;
        let rejected = |_| TransportError::AppKey { why: "is no RSA key of at least 2,048 bits" };
        let pair = match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(rejected)?,
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(rejected)?,
            _ => return Err(TransportError::AppKey { why: "is no RSA key" }),
        };
        let installation = match &app.installation {
            Installation::Id(id) => format!("id {id}"),
            Installation::Owner(owner) => format!("owner {owner}"),
        };
        let mut hash = Sha256::new();
        hash.update(format!("{}\n{}\n{installation}\n", app.api, app.app));
        hash.update(app.key.reveal());
        Ok(Self { app: app.clone(), key: pair, digest: hash.finalize().into() })
    }

    /// The statement that we are this App, as a JSON Web Token (RFC 7519) signed by RS256.
    fn statement(&self, now: Timestamp) -> Result<Secret<String>, WireError> {
        let now = now.as_second();
        let claims = serde_json::json!({
            "iat": now - BACKDATED, "exp": now + HOLDS, "iss": self.app.app.to_string()
        });
        let header = BASE64_URL.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let text = format!("{header}.{}", BASE64_URL.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| self.failed("the App's key does not sign".to_owned()))?;
        Ok(Secret::new(format!("{text}.{}", BASE64_URL.encode(signature))))
    }

    fn failed(&self, what: String) -> WireError {
        WireError::App { host: self.host(), what, status: None, retry_after: None }
    }

    fn refused(&self, answer: &Answer) -> WireError {
        /// What the API says of a failure.
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let message = serde_json::from_slice::<Message>(&answer.body).map(|read| said(read.message.as_bytes()));
        let what = match (answer.status, message) {
            (300..400, _) => "it redirects, which is not followed: write the address it redirects to".to_owned(),
            (status, Ok(message)) => format!("it answered {status}: {message}"),
            (status, Err(_)) => format!("it answered {status}"),
        };
        WireError::App { host: self.host(), what, status: Some(answer.status), retry_after: answer.retry_after }
    }

    fn host(&self) -> String {
        self.app.api.host_str().unwrap_or_default().to_owned()
    }
}

impl Tokens {
    /// A token of the App's installation: one that is at hand, or a new one.
    pub(crate) async fn get(&self, app: &App, api: &Api<'_>) -> Result<Secret<String>, WireError> {
        if let Some(token) = self.held(app, Instant::now()) {
            return Ok(token);
        }
        let (token, life) = api.token(app).await?;
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            tokens.clear();
        }
        let renewed = Instant::now() + life.saturating_sub(RENEWED_BEFORE);
        tokens.insert(app.digest, Token { value: token.clone(), renewed });
        Ok(token)
    }

    fn held(&self, app: &App, now: Instant) -> Option<Secret<String>> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&app.digest).filter(|token| now < token.renewed).map(|token| token.value.clone())
    }

    /// Forgets the token of an App: the Git server does not take it.
    pub(crate) fn forget(&self, app: &App) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&app.digest);
    }
}

impl Api<'_> {
    /// A new token, and how long it lives.
    async fn token(&self, app: &App) -> Result<(Secret<String>, Duration), WireError> {
        let mut now = self.now;
        let installation = match &app.app.installation {
            Installation::Id(id) => *id,
            Installation::Owner(owner) => self.installation(app, owner, &mut now).await?,
        };
        let path = ["app", "installations", &installation.to_string(), "access_tokens"];
        let answer = self.ask(app, Method::POST, &path, &mut now).await?;
        if answer.status != 201 {
            return Err(app.refused(&answer));
        }
        let read: TokenAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| app.failed("its answer is not what GitHub's API gives".to_owned()))?;
        let begun = answer.date.unwrap_or(now);
        let life = read.expires_at.and_then(|end| Duration::try_from(end.duration_since(begun)).ok());
        Ok((Secret::new(read.token), life.unwrap_or_default().min(LONGEST_LIFE)))
    }

    /// The id of the installation of an owner: of an organisation, or else of a user.
    async fn installation(&self, app: &App, owner: &str, now: &mut Timestamp) -> Result<u64, WireError> {
        let mut answer = self.ask(app, Method::GET, &["orgs", owner, "installation"], now).await?;
        if answer.status == 404 {
            answer = self.ask(app, Method::GET, &["users", owner, "installation"], now).await?;
        }
        if answer.status != 200 {
            return Err(app.refused(&answer));
        }
        let read: Result<InstallationAnswer, _> = serde_json::from_slice(&answer.body);
        read.map(|read| read.id).map_err(|_| app.failed("its answer is not what GitHub's API gives".to_owned()))
    }

    /// Asks as the App, by the clock `now`; where that is why the statement is refused, again by the server's.
    async fn ask(&self, app: &App, method: Method, path: &[&str], now: &mut Timestamp) -> Result<Answer, WireError> {
        let answer = self.ask_once(app, method.clone(), path, *now).await?;
        let other = answer.date.filter(|date| (date.as_second() - now.as_second()).abs() > SAME_CLOCK);
        match other {
            Some(date) if answer.status == 401 => {
                *now = date;
                self.ask_once(app, method, path, date).await
            }
            _ => Ok(answer),
        }
    }

    async fn ask_once(&self, app: &App, method: Method, path: &[&str], now: Timestamp) -> Result<Answer, WireError> {
        let mut url = app.app.api.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let statement = HeaderValue::from_str(&format!("Bearer {}", app.statement(now)?.reveal()));
        let mut statement = statement.map_err(|_| app.failed("the statement is no header".to_owned()))?;
        statement.set_sensitive(true);
        let request = self
            .client
            .request(method, url)
            .header(ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28")
            .header(AUTHORIZATION, statement);
        self.meter.sent(0);
        let silence = self.limits.silence;
        let response = tokio::time::timeout(silence, request.send())
            .await
            .map_err(|_| WireError::Slow { slowest: self.limits.slowest, after: silence })?
            .map_err(|error| WireError::Http(error.without_url()))?;
        self.read(app, response).await
    }

    async fn read(&self, app: &App, response: Response) -> Result<Answer, WireError> {
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let mut body = Body::new(Origin::Http(response), self.meter.clone(), self.limits);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            if bytes.len() + chunk.len() > MOST_ANSWER {
                return Err(app.failed(format!("its answer is longer than {MOST_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body: bytes, date, retry_after })
    }
}
