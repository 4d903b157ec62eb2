//! A webhook receiver that writes down what it is told, in order.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::BodyExt;
use serde_json::Value;
use sha2::Sha256;

use crate::front::{Front, lock, text};
use crate::tls::Authority;

/// A request that the receiver took. With [`Fault::Lose`](crate::Fault::Lose) its sender does not know that.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When it was complete.
    pub at: Instant,
    /// Path and query.
    pub uri: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Delivery {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Whether `X-Signature: sha256=...` is the HMAC of the body under `key`, as Flux's `generic-hmac` Provider sends it.
    pub fn signed_with(&self, key: &[u8]) -> bool {
        let Some(given) = self.header("x-signature").and_then(|value| value.strip_prefix("sha256=")) else {
            return false;
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(&self.body);
        let want: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        given == want
    }
}

/// The receiver. How it fails: see [`Front`], to which it derefs.
pub struct Receiver {
    front: Front,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    /// Over HTTP.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Over HTTPS, by a CA of its own: see [`Front::ca`].
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start_tls() -> Result<Self> {
        Self::start_with(Some(&Authority::new("wickie test receiver")?))
    }

    fn start_with(authority: Option<&Authority>) -> Result<Self> {
        let deliveries = Arc::new(Mutex::new(Vec::new()));
        let list = deliveries.clone();
        let front = Front::start("receiver", authority, move |request| {
            let list = list.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let headers = head.headers.iter();
                let headers = headers
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
                lock(&list).push(Delivery {
                    at: Instant::now(),
                    uri: head.uri.to_string(),
                    headers: headers.collect(),
                    body,
                });
                Ok(hyper::Response::new(text("ok\n")))
            }
        })?;
        Ok(Self { front, deliveries })
    }

    /// The URL to send to.
    pub fn url(&self) -> String {
        format!("{}/hook", self.origin())
    }

    /// What was taken so far, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.deliveries).clone()
    }
}

impl Deref for Receiver {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}
