//! Chosen objects as a pack: the stream that a server would send.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::Sender;
use wickie_model::Oid;

use super::LocalError;
use super::objects::Objects;
use crate::source::object::Compressor;
use crate::source::wire::WireError;
use crate::store::ObjectKind;

/// Bytes that are collected before they are passed on.
const PIECE: usize = 64 << 10;

/// Reads the objects and sends the pack; ends early where nobody listens any more. Blocks.
pub(super) fn pack(objects: &mut Objects, selected: &[Oid], sender: &Sender<Result<Bytes, WireError>>) {
    if let Err(Stopped::Failed(error)) = write(objects, selected, sender) {
        // Nobody listens: nobody asks why.
        let _ = sender.blocking_send(Err(error));
    }
}

enum Stopped {
    NobodyListens,
    Failed(WireError),
}

impl From<LocalError> for Stopped {
    fn from(error: LocalError) -> Self {
        Self::Failed(WireError::Local(error))
    }
}

fn write(objects: &mut Objects, selected: &[Oid], sender: &Sender<Result<Bytes, WireError>>) -> Result<(), Stopped> {
    let mut out = Out { sender, waiting: BytesMut::new(), hasher: gix_hash::hasher(gix_hash::Kind::Sha1) };
    out.put(b"PACK\0\0\0\x02")?;
    out.put(&u32::try_from(selected.len()).unwrap_or(u32::MAX).to_be_bytes())?;
    let mut compressor = Compressor::default();
    for oid in selected {
        let read = objects.need(*oid)?;
        let deflated = match read.deflated {
            Some(deflated) => deflated,
            None => compressor.deflate(&read.bytes).map_err(|error| Stopped::Failed(WireError::Connection(error)))?,
        };
        out.put(&header(read.kind, read.bytes.len()))?;
        out.put(&deflated)?;
    }
    let Out { waiting, hasher, .. } = out;
    let checksum = hasher.try_finalize().map_err(|error| Stopped::Failed(WireError::Collision(error.to_string())))?;
    let end = [&waiting[..], checksum.as_slice()].concat();
    sender.blocking_send(Ok(Bytes::from(end))).map_err(|_| Stopped::NobodyListens)
}

struct Out<'a> {
    sender: &'a Sender<Result<Bytes, WireError>>,
    waiting: BytesMut,
    hasher: gix_hash::Hasher,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.hasher.update(bytes);
        for piece in bytes.chunks(PIECE) {
            self.waiting.extend_from_slice(piece);
            if self.waiting.len() >= PIECE {
                let full = self.waiting.split().freeze();
                self.sender.blocking_send(Ok(full)).map_err(|_| Stopped::NobodyListens)?;
            }
        }
        Ok(())
    }
}

/// An entry's header: its kind, and its size in groups of bits, the lowest first (gitformat-pack(5)).
fn header(kind: ObjectKind, size: usize) -> Vec<u8> {
    let mut bytes = vec![(kind as u8) << 4 | (size & 0x0f) as u8];
    let mut rest = size >> 4;
    while rest > 0 {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push((rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes
}
