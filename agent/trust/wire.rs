//! SSH's wire format (RFC 4251, section 5), as far as signatures and certificates are made of it.

/// Reads fields one after the other; a field that goes beyond the end is an error.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes, whatever they are.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or("it ends within a field")?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        Ok(self.take(4)?.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        Ok(self.take(8)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A string: its length, and so many bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// A string that is text.
    pub(crate) fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a name in it is not text".to_owned())
    }

    /// So many strings, with their lengths, as one piece.
    pub(crate) fn raw(&mut self, strings: usize) -> Result<&'a [u8], String> {
        let before = self.bytes;
        for _ in 0..strings {
            self.bytes()?;
        }
        Ok(&before[..before.len() - self.bytes.len()])
    }
}
