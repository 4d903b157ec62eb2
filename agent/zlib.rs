//! Zlib for what is small and comes by the thousand: Git objects, manifests.
//!
//! To be ready, a reader of a stream takes 50 KiB and a writer 370 KiB, most of it touched at once: to make one for each
//! object costs more than all that is done with it. So they are made once, and begun anew.

use std::cell::RefCell;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// No stream inflates to more than this for each of its bytes. Source: zlib's technical details, "maximum compression factor".
const MOST_RATIO: usize = 1_032;

/// What is put before a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// A header of zlib.
    Zlib,
    /// Nothing; what it says may point into a dictionary.
    Raw(&'static [u8]),
}

/// Writes streams, one after the other.
#[derive(Debug)]
pub(crate) struct Deflater {
    form: Form,
    /// Made when it is first needed.
    compress: Option<Box<Compress>>,
}

impl Deflater {
    /// Writes streams of a form.
    pub(crate) fn new(form: Form) -> Self {
        Self { form, compress: None }
    }

    /// Puts the stream of some bytes into `deflated`, in place of what was there.
    ///
    /// # Errors
    /// None that a disk or a link could cause: writing to memory fails with the process.
    pub(crate) fn deflate(&mut self, bytes: &[u8], deflated: &mut Vec<u8>) -> io::Result<()> {
        let new = || Box::new(Compress::new(Compression::default(), matches!(self.form, Form::Zlib)));
        let compress = self.compress.get_or_insert_with(new);
        compress.reset();
        if let Form::Raw(dictionary) = self.form {
            compress.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
        deflated.clear();
        // What cannot be compressed becomes longer by a few bytes each 16 KiB.
        deflated.reserve(bytes.len() + bytes.len() / 1024 + 64);
        match compress.compress_vec(bytes, deflated, FlushCompress::Finish)? {
            Status::StreamEnd => Ok(()),
            status => Err(io::Error::other(format!("a stream was not written to its end: {status:?}"))),
        }
    }
}

thread_local! {
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new(true));
}

/// The bytes of a whole stream, whose number should be `expected`; no more than `most` are given, and what follows is not
/// looked at.
///
/// # Errors
/// When it is no such stream, or ends early.
pub(crate) fn inflate(deflated: &[u8], form: Form, expected: usize, most: usize) -> io::Result<Vec<u8>> {
    INFLATER.with_borrow_mut(|inflater| {
        inflater.reset(matches!(form, Form::Zlib));
        if let Form::Raw(dictionary) = form {
            inflater.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
        // That the number is wrong must not cost memory.
        let possible = deflated.len().saturating_mul(MOST_RATIO);
        let mut bytes = Vec::with_capacity(expected.min(most).min(possible).max(1));
        loop {
            let read = usize::try_from(inflater.total_in()).map_err(io::Error::other)?;
            let rest = deflated.get(read..).unwrap_or_default();
            let status = inflater.decompress_vec(rest, &mut bytes, FlushDecompress::Finish)?;
            if status == Status::StreamEnd || bytes.len() >= most {
                bytes.truncate(most);
                return Ok(bytes);
            }
            if bytes.len() < bytes.capacity() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ends early"));
            }
            bytes.reserve(bytes.len().max(512));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deflated(form: Form, bytes: &[u8]) -> Vec<u8> {
        let (mut deflater, mut deflated) = (Deflater::new(form), vec![1]);
        // Nothing of one stream is left in the next.
        deflater.deflate(b"something else, something else", &mut deflated).unwrap();
        deflater.deflate(bytes, &mut deflated).unwrap();
        deflated
    }

    #[test]
    fn what_is_inflated_is_what_was_deflated() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
        for bytes in [&b""[..], b"one", &[7; 3_000_000], &noise] {
            for form in [Form::Zlib, Form::Raw(b"a dictionary")] {
                let deflated = deflated(form, bytes);
                for expected in [0, bytes.len(), usize::MAX] {
                    assert_eq!(inflate(&deflated, form, expected, usize::MAX).unwrap(), bytes);
                }
            }
        }
    }

    #[test]
    fn git_reads_what_is_written() {
        // `printf 'hello\n' | python3 -c 'import sys,zlib; print(zlib.compress(sys.stdin.buffer.read()).hex())'`
        let hello = [0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xe7, 0x02, 0x00, 0x08, 0x4b, 0x02, 0x1f];
        assert_eq!(deflated(Form::Zlib, b"hello\n"), hello);
        assert_eq!(inflate(&hello, Form::Zlib, 6, 7).unwrap(), b"hello\n");
    }

    #[test]
    fn no_more_is_given_than_was_asked_for() {
        let deflated = deflated(Form::Zlib, &[7; 3_000_000]);
        assert_eq!(inflate(&deflated, Form::Zlib, 10, 11).unwrap(), [7; 11]);
    }

    #[test]
    fn what_is_no_stream_is_refused_and_the_next_is_read() {
        let whole = deflated(Form::Zlib, b"something to be read");
        for broken in [&b""[..], &whole[..whole.len() - 6], b"no stream at all"] {
            assert!(inflate(broken, Form::Zlib, 20, 21).is_err(), "{broken:?}");
        }
        assert_eq!(inflate(&whole, Form::Zlib, 20, 21).unwrap(), b"something to be read");
    }
}
