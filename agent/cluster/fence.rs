//! What keeps an agent from writing that no longer holds the Lease.
//!
//! A Lease does not fence: the API server takes whatever comes. So the one who writes looks at the clock before it sends,
//! and once more as the bytes leave for the socket: a process that was stopped in between, for however long, finds its
//! connection broken and not its order carried out late. The clock is the one that goes on while the machine sleeps.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use rustix::time::{ClockId, clock_gettime};

/// Leave to write, until a moment. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<AtomicU64>);

/// Time since the machine was booted, suspended or not.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Fence {
    /// Writing is allowed until `moment`, counted as [`since_boot`] does; not at all where there is none.
    pub fn set(&self, moment: Option<Duration>) {
        let millis = moment.map_or(0, |moment| u64::try_from(moment.as_millis()).unwrap_or(u64::MAX));
        self.0.store(millis, Ordering::Release);
    }

    /// Whether writing is allowed now.
    pub fn is_open(&self) -> bool {
        since_boot() < Duration::from_millis(self.0.load(Ordering::Acquire))
    }
}

/// A stream that breaks instead of writing once the fence is shut.
pub(super) struct Fenced<S> {
    stream: S,
    fence: Option<Fence>,
}

impl<S> Fenced<S> {
    pub(super) fn new(stream: S, fence: Option<Fence>) -> Self {
        Self { stream, fence }
    }

    fn check(&self) -> io::Result<()> {
        match &self.fence {
            Some(fence) if !fence.is_open() => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the Lease has run out: nothing more is sent"))
            }
            _ => Ok(()),
        }
    }
}

impl<S: Read + Unpin> Read for Fenced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Fenced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

impl<S: Connection> Connection for Fenced<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn it_is_shut_until_it_is_opened_and_after_its_moment() {
        let fence = Fence::default();
        assert!(!fence.is_open());
        fence.set(Some(since_boot() + Duration::from_secs(60)));
        assert!(fence.is_open() && fence.clone().is_open());
        fence.set(Some(since_boot().saturating_sub(Duration::from_secs(1))));
        assert!(!fence.is_open());
        fence.set(Some(Duration::MAX));
        assert!(fence.is_open());
        fence.set(None);
        assert!(!fence.is_open());
    }

    #[tokio::test]
    async fn what_waits_to_be_written_is_not_written_once_it_is_shut() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let fence = Fence::default();
        fence.set(Some(Duration::MAX));
        let mut stream = Fenced::new(TokioIo::new(ours), Some(fence.clone()));
        assert_eq!(poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"in time")).await.unwrap(), 7);
        fence.set(None);
        let late = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"late")).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(stream);
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"in time");
    }
}
