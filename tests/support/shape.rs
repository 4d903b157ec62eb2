//! The body of an answer on its way out: counted, slowed, cut, corrupted.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::fault::Fault;
use crate::front::{Body, Record};

/// How often a slow body sends something.
const TICKS_PER_SECOND: u64 = 20;

struct Shape {
    body: Body,
    fault: Option<Fault>,
    record: Record,
    sent: u64,
    waiting: Bytes,
    broken: bool,
}

impl Drop for Shape {
    /// The answer is over when it was sent, and also when the client has gone.
    fn drop(&mut self) {
        self.record.end();
    }
}

/// Counts `body` into `record`, and does to it what `fault` says.
pub(crate) fn body(body: Body, fault: Option<Fault>, record: Record) -> Body {
    let shape = Shape { body, fault, record, sent: 0, waiting: Bytes::new(), broken: false };
    let frames = stream::unfold(shape, |mut shape| async {
        let frame = shape.next().await?;
        shape.broken = frame.is_err();
        Some((frame, shape))
    });
    StreamBody::new(frames).boxed_unsync()
}

impl Shape {
    async fn next(&mut self) -> Option<anyhow::Result<Frame<Bytes>>> {
        if self.broken {
            return None;
        }
        while self.waiting.is_empty() {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => self.waiting = data,
                    Err(trailers) => return Some(Ok(trailers)),
                },
                Err(error) => return Some(Err(error)),
            }
        }
        let room = self.room().await.min(self.waiting.len());
        let mut piece = self.waiting.split_to(room);
        if piece.is_empty() {
            // hyper writes out what it holds only when the body is not ready.
            tokio::time::sleep(Duration::from_millis(10)).await;
            return Some(Err(anyhow::anyhow!("cut on order")));
        }
        if let Some(Fault::Corrupt { offset }) = self.fault {
            piece = corrupted(piece, offset, self.sent);
        }
        let size = piece.len() as u64;
        self.sent += size;
        self.record.write(|entry| entry.response_bytes += size);
        Some(Ok(Frame::data(piece)))
    }

    /// How many bytes may go now; 0 when the connection is to break. Waits where the fault is to wait.
    async fn room(&mut self) -> usize {
        let room = match self.fault {
            Some(Fault::Cut { after }) => after.saturating_sub(self.sent),
            Some(Fault::Halt { after }) if self.sent >= after => std::future::pending().await,
            Some(Fault::Halt { after }) => after - self.sent,
            Some(Fault::Slow { bytes_per_second }) => {
                tokio::time::sleep(Duration::from_millis(1000 / TICKS_PER_SECOND)).await;
                (bytes_per_second / TICKS_PER_SECOND).max(1)
            }
            _ => u64::MAX,
        };
        usize::try_from(room).unwrap_or(usize::MAX)
    }
}

/// `piece` begins at byte `start` of the body.
fn corrupted(piece: Bytes, offset: u64, start: u64) -> Bytes {
    let Some(index) =
        offset.checked_sub(start).and_then(|index| usize::try_from(index).ok()).filter(|index| *index < piece.len())
    else {
        return piece;
    };
    let mut bytes = piece.to_vec();
    bytes[index] ^= 0x01;
    bytes.into()
}
