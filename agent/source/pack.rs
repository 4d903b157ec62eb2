//! Packs, read as they arrive.
//!
//! Source: gitformat-pack(5). Bytes are pushed in as the network gives them and whole entries come out; nothing here
//! waits, so that it can be tested and fuzzed with bytes alone. An entry announced larger than the limit is refused
//! before a byte of it is kept.

use bytes::{Buf as _, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use wickie_model::Oid;

use super::wire::WireError;
use crate::config::git::Limits;
use crate::store::ObjectKind;

/// What an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object itself.
    Whole(ObjectKind),
    /// A delta upon the entry that begins at this offset.
    OnOffset(u64),
    /// A delta upon the object of this id, in this pack or not.
    OnObject(Oid),
}

/// One entry of a pack.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it begins in the pack.
    pub(crate) offset: u64,
    pub(crate) form: Form,
    /// Its bytes, inflated.
    pub(crate) bytes: Vec<u8>,
    /// Its bytes as they were in the pack, where they are an object's own.
    pub(crate) deflated: Vec<u8>,
}

/// A pack in the middle of being read.
pub(crate) struct PackReader {
    state: State,
    input: BytesMut,
    /// Where `input` begins, counted on from the packs that were read before.
    offset: u64,
    remaining: u32,
    hasher: Option<gix_hash::Hasher>,
    inflater: Box<Decompress>,
    limits: Limits,
    inflated: u64,
}

enum State {
    Header,
    EntryHeader,
    Inflating { entry: Entry, size: usize },
    Trailer,
    Done,
}

/// How far one entry got.
enum Progress {
    Entry(Entry),
    Again,
    NeedMore,
}

const HEADER: usize = 12;
const TRAILER: usize = 20;

impl PackReader {
    /// Reads a pack whose offsets are counted from `start`, so that those of several packs can be told apart.
    pub(crate) fn new(limits: Limits, start: u64) -> Self {
        Self {
            state: State::Header,
            input: BytesMut::new(),
            offset: start,
            remaining: 0,
            hasher: Some(gix_hash::hasher(gix_hash::Kind::Sha1)),
            inflater: Box::new(Decompress::new(true)),
            limits,
            inflated: 0,
        }
    }

    /// Takes in what arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole entry; `None` until more was pushed.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, WireError> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Done);
            let progress = match state {
                State::Header => self.header()?,
                State::EntryHeader => self.entry_header()?,
                State::Inflating { entry, size } => self.inflate(entry, size)?,
                State::Trailer => self.trailer()?,
                State::Done if self.input.is_empty() => Progress::NeedMore,
                State::Done => return Err(malformed("bytes follow its end")),
            };
            match progress {
                Progress::Entry(entry) => return Ok(Some(entry)),
                Progress::Again => {}
                Progress::NeedMore => return Ok(None),
            }
        }
    }

    /// Where the next byte will be.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the pack was read to its end and its checksum held.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn header(&mut self) -> Result<Progress, WireError> {
        if self.input.len() < HEADER {
            self.state = State::Header;
            return Ok(Progress::NeedMore);
        }
        let (magic, rest) = self.input[..HEADER].split_at(4);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let (version, count) = (number(&rest[..4]), number(&rest[4..]));
        if magic != b"PACK" || !matches!(version, 2 | 3) {
            return Err(malformed("it does not begin like one"));
        }
        if count > self.limits.objects {
            return Err(WireError::TooMuch { what: "objects", limit: self.limits.objects.into() });
        }
        self.remaining = count;
        self.consume(HEADER);
        self.next_state();
        Ok(Progress::Again)
    }

    fn entry_header(&mut self) -> Result<Progress, WireError> {
        let Some((form, size, consumed)) = entry_header(&self.input, self.offset)? else {
            self.state = State::EntryHeader;
            return Ok(Progress::NeedMore);
        };
        if size > self.limits.object {
            return Err(WireError::TooMuch { what: "bytes in one object", limit: self.limits.object });
        }
        self.inflated += size;
        if self.inflated > self.limits.inflated {
            return Err(WireError::TooMuch { what: "bytes when inflated", limit: self.limits.inflated });
        }
        let size = usize::try_from(size).map_err(|_| malformed("an object is larger than memory"))?;
        let entry = Entry { offset: self.offset, form, bytes: Vec::new(), deflated: Vec::new() };
        self.consume(consumed);
        self.inflater.reset(true);
        self.state = State::Inflating { entry, size };
        Ok(Progress::Again)
    }

    /// Inflates what is there. A stream that gives more than was announced, or less, is refused.
    fn inflate(&mut self, mut entry: Entry, size: usize) -> Result<Progress, WireError> {
        const STEP: usize = 64 * 1024;
        let (taken, made, status) = {
            let have = entry.bytes.len();
            // One byte of room beyond the announced size shows a stream that is longer.
            let room = (size + 1 - have).min(STEP);
            entry.bytes.resize(have + room, 0);
            let (before_in, before_out) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(&self.input, &mut entry.bytes[have..], FlushDecompress::None)
                .map_err(|_| malformed("an entry is no zlib stream"))?;
            let made = (self.inflater.total_out() - before_out) as usize;
            entry.bytes.truncate(have + made);
            ((self.inflater.total_in() - before_in) as usize, made, status)
        };
        if entry.bytes.len() > size {
            return Err(malformed("an entry is longer than it announces"));
        }
        if matches!(entry.form, Form::Whole(_)) {
            entry.deflated.extend_from_slice(&self.input[..taken]);
        }
        self.consume(taken);
        match status {
            Status::StreamEnd if entry.bytes.len() == size => {
                self.remaining -= 1;
                self.next_state();
                Ok(Progress::Entry(entry))
            }
            Status::StreamEnd => Err(malformed("an entry is shorter than it announces")),
            Status::Ok | Status::BufError => {
                let starved = self.input.is_empty();
                self.state = State::Inflating { entry, size };
                match (starved, taken + made) {
                    (true, _) => Ok(Progress::NeedMore),
                    (false, 0) => Err(malformed("an entry does not end")),
                    (false, _) => Ok(Progress::Again),
                }
            }
        }
    }

    fn trailer(&mut self) -> Result<Progress, WireError> {
        if self.input.len() < TRAILER {
            self.state = State::Trailer;
            return Ok(Progress::NeedMore);
        }
        let digest = self.hasher.take().map(gix_hash::Hasher::try_finalize);
        match digest {
            Some(Ok(digest)) if digest.as_slice() == &self.input[..TRAILER] => {}
            _ => return Err(malformed("its checksum does not fit: bytes were changed on the way")),
        }
        self.input.advance(TRAILER);
        self.state = State::Done;
        Ok(Progress::Again)
    }

    fn next_state(&mut self) {
        self.state = if self.remaining == 0 { State::Trailer } else { State::EntryHeader };
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.input[..bytes]);
        }
        self.input.advance(bytes);
        self.offset += bytes as u64;
    }
}

/// Form, inflated size and length of an entry's header; `None` if it is not all there.
pub(crate) fn entry_header(input: &[u8], offset: u64) -> Result<Option<(Form, u64, usize)>, WireError> {
    let Some(first) = input.first() else { return Ok(None) };
    let mut size = u64::from(first & 0x0f);
    let (mut at, mut shift, mut more) = (1, 4_u32, first & 0x80 != 0);
    while more {
        let Some(byte) = input.get(at) else { return Ok(None) };
        if shift > 57 {
            return Err(malformed("an entry announces a size without end"));
        }
        size |= u64::from(byte & 0x7f) << shift;
        (at, shift, more) = (at + 1, shift + 7, byte & 0x80 != 0);
    }
    let form = match first >> 4 & 7 {
        6 => {
            let Some((distance, length)) = distance(&input[at..])? else { return Ok(None) };
            at += length;
            let base = offset.checked_sub(distance).filter(|_| distance > 0);
            Form::OnOffset(base.ok_or_else(|| malformed("a delta is based on what does not lie before it"))?)
        }
        7 => {
            let Some(id) = input.get(at..at + 20) else { return Ok(None) };
            at += 20;
            let mut bytes = [0; 20];
            bytes.copy_from_slice(id);
            Form::OnObject(Oid::from_bytes(bytes))
        }
        number => {
            Form::Whole(ObjectKind::from_number(number).ok_or_else(|| malformed("an entry is of no known kind"))?)
        }
    };
    Ok(Some((form, size, at)))
}

/// How far before an entry its base begins, and how many bytes said so.
fn distance(input: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let mut distance = 0_u64;
    for (at, byte) in input.iter().take(9).enumerate() {
        distance = distance << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(Some((distance, at + 1)));
        }
        distance += 1;
    }
    match input.len() < 9 {
        true => Ok(None),
        false => Err(malformed("a delta's distance has no end")),
    }
}

fn malformed(detail: &str) -> WireError {
    WireError::Pack(detail.to_owned())
}
