//! One pack and its index.
//!
//! Source: gitformat-pack(5), "pack-*.idx files", version 2. Everything in an index is a claim: an offset must lie in the
//! pack, and the object found there is hashed by whoever asked for it.

use std::io::{BufReader, Read as _};

use flate2::bufread::ZlibDecoder;
use wickie_model::Oid;

use super::LocalError;
use super::layout::{Layout, Plain};
use crate::source::pack::{Form, entry_header};

const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
/// Where the list of ids begins: behind the magic and 256 counts.
const IDS: u64 = 8 + 256 * 4;
/// Checksums at the end of an index, and of a pack.
const TRAILERS: u64 = 40;
const TRAILER: u64 = 20;
/// No header of an entry is longer: a size of 64 bits and an id.
const LONGEST_HEADER: u64 = 32;

/// A pack whose index was checked to fit itself.
#[derive(Debug)]
pub(super) struct Pack {
    index: Plain,
    data: Plain,
    /// How many ids begin with a byte up to this one.
    fanout: Box<[u32; 256]>,
}

/// An entry as it lies in the pack.
pub(super) struct Entry {
    pub(super) form: Form,
    pub(super) bytes: Vec<u8>,
    pub(super) deflated: Vec<u8>,
}

impl Pack {
    /// Opens the pack `name` (`pack-….pack`, without its ending); `None` if one of its two files is not there.
    pub(super) fn open(layout: &Layout, name: &str) -> Result<Option<Self>, LocalError> {
        let file = |ending: &str| layout.file(&format!("objects/pack/{name}.{ending}"));
        let (Some(index), Some(data)) = (file("idx")?, file("pack")?) else { return Ok(None) };
        let mut head = [0; 8];
        index.read_exact_at(&mut head, 0)?;
        if head != MAGIC {
            let what = format!(
                "has a pack index that is not of version 2 ({name}.idx): run `git repack -ad` there with today's git"
            );
            return Err(LocalError::Unsupported { path: layout.path.clone(), what });
        }
        let mut counts = [0; 256 * 4];
        index.read_exact_at(&mut counts, 8)?;
        let mut fanout = Box::new([0; 256]);
        for (count, bytes) in fanout.iter_mut().zip(counts.chunks_exact(4)) {
            *count = number(bytes);
        }
        let total = u64::from(fanout[255]);
        if !fanout.is_sorted() || index.length < IDS + total * 28 + TRAILERS {
            return Err(index.malformed("its counts do not fit its length"));
        }
        let mut magic = [0; 4];
        data.read_exact_at(&mut magic, 0)?;
        match &magic == b"PACK" {
            true => Ok(Some(Self { index, data, fanout })),
            false => Err(data.malformed("it does not begin like a pack")),
        }
    }

    /// Where an object begins, if it is here.
    pub(super) fn find(&self, oid: Oid) -> Result<Option<u64>, LocalError> {
        let first = usize::from(oid.as_bytes()[0]);
        let (mut low, mut high) = (first.checked_sub(1).map_or(0, |before| self.fanout[before]), self.fanout[first]);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut id = [0; 20];
            self.index.read_exact_at(&mut id, IDS + u64::from(middle) * 20)?;
            match id.cmp(oid.as_bytes()) {
                std::cmp::Ordering::Equal => return self.offset(middle).map(Some),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn offset(&self, at: u32) -> Result<u64, LocalError> {
        let (at, total) = (u64::from(at), u64::from(self.fanout[255]));
        let offsets = IDS + total * 24;
        let mut small = [0; 4];
        self.index.read_exact_at(&mut small, offsets + at * 4)?;
        let small = number(&small);
        let offset = match small >> 31 {
            0 => u64::from(small),
            _ => {
                let mut large = [0; 8];
                let place = offsets + total * 4 + u64::from(small & 0x7fff_ffff) * 8;
                if place + 8 + TRAILERS > self.index.length {
                    return Err(self.index.malformed("an offset lies beyond its end"));
                }
                self.index.read_exact_at(&mut large, place)?;
                u64::from_be_bytes(large)
            }
        };
        match offset < self.data.length.saturating_sub(TRAILER) {
            true => Ok(offset),
            false => Err(self.index.malformed("an object lies beyond the end of its pack")),
        }
    }

    /// The entry at `offset`, of at most `most` bytes.
    pub(super) fn entry(&self, offset: u64, most: u64) -> Result<Entry, LocalError> {
        let end = self.data.length.saturating_sub(TRAILER);
        let malformed = |what: String| self.data.malformed(format!("at {offset}: {what}"));
        if offset >= end {
            return Err(malformed("an entry lies beyond its end".to_owned()));
        }
        let mut head = [0; LONGEST_HEADER as usize];
        let head = &mut head[..(end - offset).min(LONGEST_HEADER) as usize];
        self.data.read_exact_at(head, offset)?;
        let header = entry_header(head, offset).map_err(|error| malformed(error.to_string()))?;
        let (form, size, length) = header.ok_or_else(|| malformed("an entry ends within its header".to_owned()))?;
        if size > most {
            return Err(LocalError::TooMuch { what: "bytes in one object", limit: most });
        }
        let begin = offset + length as u64;
        let (bytes, taken) = inflate(&self.data, begin, size)?;
        if bytes.len() as u64 != size {
            return Err(malformed("an entry is not as long as it announces".to_owned()));
        }
        let mut deflated = Vec::new();
        // A delta's own bytes are of no further use.
        if matches!(form, Form::Whole(_)) {
            deflated.resize(usize::try_from(taken).unwrap_or(usize::MAX), 0);
            self.data.read_exact_at(&mut deflated, begin)?;
        }
        Ok(Entry { form, bytes, deflated })
    }
}

/// Inflates what begins at `offset`: its bytes, one more than `size` at most, and how many bytes of the file they took.
pub(super) fn inflate(file: &Plain, offset: u64, size: u64) -> Result<(Vec<u8>, u64), LocalError> {
    let mut decoder = ZlibDecoder::new(BufReader::new(file.from(offset)));
    let mut bytes = Vec::new();
    let read = decoder.by_ref().take(size + 1).read_to_end(&mut bytes);
    match read {
        Ok(_) => Ok((bytes, decoder.total_in())),
        Err(error) if error.raw_os_error().is_some() => Err(LocalError::Io { path: file.path.clone(), source: error }),
        Err(error) => Err(file.malformed(format!("at {offset}: {error}"))),
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
