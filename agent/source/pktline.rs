//! Packet lines: the frames that everything in Git's protocol travels in.
//!
//! Source: gitprotocol-common(5), "pkt-line Format"; gitprotocol-v2(5), "Packet-Line Framing".

use bytes::{Buf as _, Bytes, BytesMut};
use gix_packetline::PacketLineRef;
use gix_packetline::decode::{self, Stream};

use super::body::Body;
use super::wire::{WireError, said};

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// `0000`: the end of a message.
    Flush,
    /// `0001`: the end of a section.
    Delimiter,
    /// `0002`: the end of a response.
    ResponseEnd,
    /// Anything else.
    Data(Bytes),
}

/// Cuts a stream into frames.
pub(crate) struct PacketReader {
    body: Body,
    buffer: BytesMut,
}

impl PacketReader {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next frame; `None` where the stream ends between two frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Packet>, WireError> {
        loop {
            if let Some(packet) = take(&mut self.buffer)? {
                return Ok(Some(packet));
            }
            match self.body.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(WireError::Ended),
            }
        }
    }

    /// Lets go of an answer that has said everything: see [`Body::leave`].
    pub(crate) async fn leave(&mut self) {
        self.body.leave().await;
    }

    /// The next frame, where there must be one; an error that the server sends in its place is that error.
    pub(crate) async fn expect(&mut self) -> Result<Packet, WireError> {
        match self.next().await?.ok_or(WireError::Ended)? {
            Packet::Data(line) if line.starts_with(b"ERR ") => Err(WireError::Remote(said(&line[4..]))),
            packet => Ok(packet),
        }
    }

    /// The next frame as a line of text without its end; `None` for a frame that is no data.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, WireError> {
        let Packet::Data(line) = self.expect().await? else { return Ok(None) };
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        match std::str::from_utf8(line) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(Some(text.to_owned())),
            _ => Err(WireError::Protocol(format!("a line holds control characters or is no UTF-8: {:?}", said(line)))),
        }
    }
}

/// Takes a whole frame off the front of `buffer`, if one is there.
fn take(buffer: &mut BytesMut) -> Result<Option<Packet>, WireError> {
    let (packet, consumed) = match decode::streaming(buffer) {
        Ok(Stream::Incomplete { .. }) => return Ok(None),
        Ok(Stream::Complete { line, bytes_consumed }) => match line {
            PacketLineRef::Flush => (Packet::Flush, bytes_consumed),
            PacketLineRef::Delimiter => (Packet::Delimiter, bytes_consumed),
            PacketLineRef::ResponseEnd => (Packet::ResponseEnd, bytes_consumed),
            PacketLineRef::Data(data) => {
                let length = data.len();
                let mut frame = buffer.split_to(bytes_consumed).freeze();
                frame.advance(bytes_consumed - length);
                return Ok(Some(Packet::Data(frame)));
            }
        },
        Err(error) => return Err(WireError::PacketLine(error.to_string())),
    };
    buffer.advance(consumed);
    Ok(Some(packet))
}

/// A request in the making.
#[derive(Default)]
pub(crate) struct PacketWriter(Vec<u8>);

impl PacketWriter {
    /// Adds a line; its length is ours, far below the 65,516 bytes that a frame holds.
    pub(crate) fn line(&mut self, text: &str) -> &mut Self {
        debug_assert!(text.len() < 65_000);
        self.0.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
        self
    }

    pub(crate) fn delimiter(&mut self) -> &mut Self {
        self.0.extend_from_slice(b"0001");
        self
    }

    /// Ends a part of the message.
    pub(crate) fn end(&mut self) -> &mut Self {
        self.0.extend_from_slice(b"0000");
        self
    }

    /// The message, ended.
    pub(crate) fn flush(&mut self) -> Bytes {
        self.end().take()
    }

    /// The message as it stands.
    pub(crate) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::git::Limits;

    async fn read(bytes: &'static [u8], step: usize) -> Result<Vec<Packet>, WireError> {
        let chunks = bytes.chunks(step).map(Bytes::from_static).collect();
        let mut reader = PacketReader::new(Body::of(chunks, Limits::default()));
        let mut packets = Vec::new();
        while let Some(packet) = reader.next().await? {
            packets.push(packet);
        }
        Ok(packets)
    }

    #[tokio::test]
    async fn frames_are_cut_wherever_the_network_cut_them() {
        let bytes = b"0006a\n00010009hello00000002";
        let expected = [
            Packet::Data(Bytes::from_static(b"a\n")),
            Packet::Delimiter,
            Packet::Data(Bytes::from_static(b"hello")),
            Packet::Flush,
            Packet::ResponseEnd,
        ];
        for step in 1..=bytes.len() {
            assert_eq!(read(bytes, step).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn wrong_lengths_are_refused() {
        for bytes in [&b"0003"[..], b"0004", b"00x5a", b"fff5", b"-001", b"ffff"] {
            assert!(matches!(read(bytes, 4).await, Err(WireError::PacketLine(_))), "{bytes:?}");
        }
        for bytes in [&b"0006a"[..], b"00"] {
            assert!(matches!(read(bytes, 4).await, Err(WireError::Ended)), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_error_line_is_an_error_and_fit_to_print() {
        let chunk = Bytes::from_static(b"001cERR access\x1b[31m denied\r\n");
        let mut reader = PacketReader::new(Body::of(vec![chunk], Limits::default()));
        let error = reader.expect().await.unwrap_err();
        assert_eq!(error.to_string(), "the server reports: access [31m denied");
    }
}
