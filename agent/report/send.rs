//! One attempt to tell one receiver one event.
//!
//! Source: `fluxcd/notification-controller`, `internal/notifier/{forwarder,client}.go`. Unlike there, a redirect is not
//! followed: after a 301 or 302 the POST would become a GET without a body, and be taken for delivered.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Response, StatusCode};
use sha2::Sha256;
use wickie_model::Event;

use super::wire::{self, EVENT_ID_HEADER};
use super::{CONTROLLER, Endpoint};
use crate::chain::chain;
use crate::retry_after::retry_after;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver has it.
    Taken,
    /// Not now; the receiver, the way there or our credentials are at fault.
    Later { why: String, after: Option<Duration> },
    /// This event is at fault: the receiver understood the request and will not have it.
    Refused(String),
}

/// A receiver may ask for patience, but not for ever.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How much of an answer is read to say what is wrong.
const EXCERPT: usize = 300;

/// A client for one endpoint.
pub(super) fn client(endpoint: &Endpoint) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured((*endpoint.tls).clone())
        .redirect(reqwest::redirect::Policy::none())
        .timeout(endpoint.timeout)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("wickie/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends an event once.
pub(super) async fn post(client: &reqwest::Client, endpoint: &Endpoint, event: &Event, instance: &str) -> Answer {
    let body = match wire::body(event, instance) {
        Ok(body) => body,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    let mut request = client
        .post(endpoint.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header("Gotk-Component", CONTROLLER)
        .header(EVENT_ID_HEADER, &event.id)
        .headers(endpoint.headers.clone());
    if let Some(key) = &endpoint.key {
        request = request.header("X-Signature", format!("sha256={}", signature(key, &body)));
    }
    match request.body(body).send().await {
        Ok(response) => answer(endpoint, response).await,
        Err(error) => Answer::Later { why: words(error), after: None },
    }
}

/// Lower-case hexadecimal HMAC-SHA256.
fn signature(key: &[u8], body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn answer(endpoint: &Endpoint, response: Response) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer::Taken;
    }
    if status.is_redirection() {
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("another place");
        let host = reqwest::Url::parse(to).ok().and_then(|url| url.host_str().map(str::to_owned));
        let why = format!(
            "{status}: the receiver has moved to {}; set the address to it",
            host.as_deref().unwrap_or("another path")
        );
        return Answer::Later { why, after: None };
    }
    let after = retry_after(response.headers()).map(|wait| wait.min(LONGEST_RETRY_AFTER));
    let excerpt = excerpt(endpoint, response).await;
    let why = if excerpt.is_empty() { status.to_string() } else { format!("{status}: {excerpt}") };
    if speaks_of_the_event(status) { Answer::Refused(why) } else { Answer::Later { why, after } }
}

/// Whether a status says that this very event can never be taken. A wrong path, a missing right or a busy receiver would
/// say the same of every event, and may be mended: those wait.
///
/// Source: RFC 9110, section 15.5.
fn speaks_of_the_event(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    )
}

/// The beginning of an answer on one line, with everything secret that it may repeat blotted out.
async fn excerpt(endpoint: &Endpoint, mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < EXCERPT
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    let key = endpoint.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    let headers = endpoint.headers.values().filter_map(|value| value.to_str().ok());
    for secret in key.into_iter().chain(headers).filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    text.truncate(text.floor_char_boundary(EXCERPT));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What went wrong on the way, without the URL: its path is often the secret.
fn words(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    if !error.is_connect() {
        return chain(&error);
    }
    // The layers in between say "client error" and the like; the innermost knows.
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    format!("cannot connect: {innermost}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_rfc_4231() {
        let signed = signature(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(signed, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn only_what_is_said_of_the_event_itself_sets_it_aside() {
        for (status, aside) in [
            (400, true),
            (413, true),
            (422, true),
            (401, false),
            (403, false),
            (404, false),
            (429, false),
            (503, false),
        ] {
            assert_eq!(speaks_of_the_event(StatusCode::from_u16(status).unwrap()), aside, "{status}");
        }
    }
}
