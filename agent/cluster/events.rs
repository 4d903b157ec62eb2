//! The events of a watch as they come over the wire: one JSON document a line.
//!
//! Source: Kubernetes API concepts, "Efficient detection of changes"; `client-go/rest/watch`.

use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;

use super::api::MAX_ANSWER;
use super::error::ApiError;

/// How much memory stays with a watch for its next event: more than most take.
const KEPT: usize = 8 << 10;

/// An open watch.
pub(super) struct Events {
    tried: String,
    body: Body,
    /// What has come of the next line, and how much of that was looked at.
    line: Vec<u8>,
    seen: usize,
}

impl Events {
    pub(super) fn new(tried: String, body: Body) -> Self {
        Self { tried, body, line: Vec::new(), seen: 0 }
    }

    /// The next event; nothing where the watch has ended. A connection that breaks ends it, too: whether the server is
    /// away is told when it is opened again.
    pub(super) async fn next<O: DeserializeOwned>(&mut self) -> Result<Option<WatchEvent<O>>, ApiError> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.line[self.seen..]) {
                let end = self.seen + length + 1;
                let event = serde_json::from_slice(&self.line[..end]);
                // What is left came in the same frame: it is short.
                self.line.drain(..end);
                self.line.shrink_to(KEPT);
                self.seen = 0;
                return event.map(Some).map_err(|error| ApiError::other(self.tried.clone(), error));
            }
            self.seen = self.line.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    tracing::debug!(tried = self.tried, %error, "the watch broke");
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.line.extend_from_slice(&data);
                    }
                }
            }
            if self.line.len() > MAX_ANSWER {
                return Err(ApiError::other(self.tried.clone(), "an event is larger than any object may be"));
            }
        }
    }
}
