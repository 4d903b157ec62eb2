//! The events of a watch as they come over the wire: one JSON document a line.
//!
//! Source: Kubernetes API concepts, "Efficient detection of changes"; `client-go/rest/watch`.

use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::WatchEvent;
use serde_json::Value;

use super::api::MAX_ANSWER;
use super::error::ApiError;

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
    pub(super) async fn next(&mut self) -> Result<Option<WatchEvent<Value>>, ApiError> {
        loop {
            if let Some(length) = self.line[self.seen..].iter().position(|byte| *byte == b'\n') {
                let rest = self.line.split_off(self.seen + length + 1);
                let line = std::mem::replace(&mut self.line, rest);
                self.seen = 0;
                let event = serde_json::from_slice(&line);
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
