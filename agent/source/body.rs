//! A stream of bytes from a server: counted, bounded, and never waited for without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::wire::WireError;
use crate::config::git::Limits;

/// The bytes that one operation has cost, in both directions, without TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    requests: AtomicU64,
    sent_heads: AtomicU64,
    received_heads: AtomicU64,
}

/// What an operation has cost on the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of request bodies.
    pub sent: u64,
    /// Bytes of response bodies.
    pub received: u64,
    /// Requests made.
    pub requests: u64,
    /// Bytes of request heads, as HTTP/1.1 writes them.
    pub sent_heads: u64,
    /// Bytes of response heads.
    pub received_heads: u64,
}

impl Traffic {
    /// All bytes, in both directions.
    pub fn total(&self) -> u64 {
        self.sent + self.received + self.sent_heads + self.received_heads
    }
}

impl Meter {
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request's head.
    pub(crate) fn sent_head(&self, bytes: usize) {
        self.0.sent_heads.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a response's head.
    pub(crate) fn received_head(&self, bytes: usize) {
        self.0.received_heads.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether what was spent is still within what may be.
    pub(crate) fn within(&self, limits: &Limits) -> Result<(), WireError> {
        match self.read().total() >= limits.allowance {
            true => Err(WireError::Budget { left: limits.allowance }),
            false => Ok(()),
        }
    }

    fn received(&self, bytes: usize) -> u64 {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            sent: self.0.sent.load(Ordering::Relaxed),
            received: self.0.received.load(Ordering::Relaxed),
            requests: self.0.requests.load(Ordering::Relaxed),
            sent_heads: self.0.sent_heads.load(Ordering::Relaxed),
            received_heads: self.0.received_heads.load(Ordering::Relaxed),
        }
    }
}

/// Where bytes come from.
pub(crate) enum Origin {
    /// The body of an HTTP response.
    Http(reqwest::Response),
    /// A channel that some task fills.
    Channel(mpsc::Receiver<Result<Bytes, WireError>>),
}

/// The stream.
pub(crate) struct Body {
    origin: Origin,
    meter: Meter,
    limits: Limits,
    window: Window,
}

/// Bytes since when: to tell a slow server from a quick one.
struct Window {
    begun: Instant,
    bytes: u64,
}

impl Body {
    pub(crate) fn new(origin: Origin, meter: Meter, limits: Limits) -> Self {
        Self { origin, meter, limits, window: Window { begun: Instant::now(), bytes: 0 } }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, WireError> {
        let Limits { silence, slowest, received: most, .. } = self.limits;
        let slow = || WireError::Slow { slowest, after: silence };
        let chunk = timeout(silence, self.origin.chunk()).await.map_err(|_| slow())??;
        let Some(chunk) = chunk else { return Ok(None) };
        if self.meter.received(chunk.len()) > most {
            return Err(WireError::TooMuch { what: "bytes", limit: most });
        }
        self.meter.within(&self.limits)?;
        if !self.window.keeps_up(chunk.len(), silence, slowest) {
            return Err(slow());
        }
        Ok(Some(chunk))
    }
}

/// How long the end of an answer is waited for that has said everything, and how many bytes of it.
const LEAVE: (Duration, u64) = (Duration::from_secs(2), 4 << 10);

impl Body {
    /// Reads on to the end of an HTTP answer of which everything was read that it had to say: only then is its connection
    /// used again. What does not end soon is left, and the connection with it.
    pub(crate) async fn leave(&mut self) {
        // The other origins end when they are dropped: a server behind SSH waits for the next command instead.
        if !matches!(self.origin, Origin::Http(_)) {
            return;
        }
        let (patience, most) = LEAVE;
        let end = async {
            let mut bytes = 0;
            while let Ok(Some(chunk)) = self.chunk().await {
                bytes += chunk.len() as u64;
                if bytes > most {
                    break;
                }
            }
        };
        let _ = timeout(patience, end).await;
    }
}

impl Origin {
    async fn chunk(&mut self) -> Result<Option<Bytes>, WireError> {
        match self {
            Self::Http(response) => response.chunk().await.map_err(|error| WireError::Http(error.without_url())),
            Self::Channel(chunks) => chunks.recv().await.transpose(),
        }
    }
}

impl Window {
    fn keeps_up(&mut self, bytes: usize, length: Duration, slowest: u64) -> bool {
        self.bytes += bytes as u64;
        let elapsed = self.begun.elapsed();
        if elapsed < length {
            return true;
        }
        let enough = self.bytes as f64 >= slowest as f64 * elapsed.as_secs_f64();
        *self = Self { begun: Instant::now(), bytes: 0 };
        enough
    }
}

#[cfg(any(test, fuzzing))]
impl Body {
    /// A stream of these chunks.
    pub(crate) fn of(chunks: Vec<Bytes>, limits: Limits) -> Self {
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            // There is room for each.
            let _ = sender.try_send(Ok(chunk));
        }
        Self::new(Origin::Channel(receiver), Meter::default(), limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_byte_a_second_is_not_waited_for() {
        let (sender, receiver) = mpsc::channel(1);
        let mut body = Body::new(Origin::Channel(receiver), Meter::default(), Limits::default());
        tokio::spawn(async move {
            while sender.send(Ok(Bytes::from_static(b"x"))).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let error = loop {
            if let Err(error) = body.chunk().await {
                break error;
            }
        };
        assert!(matches!(error, WireError::Slow { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_and_endless_data_ends() {
        let (_sender, receiver) = mpsc::channel(1);
        let mut silent = Body::new(Origin::Channel(receiver), Meter::default(), Limits::default());
        assert!(matches!(silent.chunk().await.unwrap_err(), WireError::Slow { .. }));

        let limits = Limits { received: 100, ..Limits::default() };
        let mut endless = Body::of(vec![Bytes::from(vec![0; 60]), Bytes::from(vec![0; 60])], limits);
        assert!(endless.chunk().await.unwrap().is_some());
        assert!(matches!(endless.chunk().await.unwrap_err(), WireError::TooMuch { limit: 100, .. }));
    }

    #[tokio::test]
    async fn what_a_budget_leaves_is_not_passed() {
        let limits = Limits { allowance: 100, ..Limits::default() };
        let mut body = Body::of(vec![Bytes::from(vec![0; 60]), Bytes::from(vec![0; 60])], limits);
        body.meter.sent(10);
        body.meter.received_head(20);
        assert!(body.chunk().await.unwrap().is_some());
        let error = body.chunk().await.unwrap_err();
        assert!(matches!(error, WireError::Budget { left: 100 }), "{error}");
        assert_eq!(body.meter.read().total(), 150);
    }
}
