//! Deltas: an object as a list of copies out of another object and of new bytes.
//!
//! Source: gitformat-pack(5), "Deltified representation".

/// Applies a delta; the result is never longer than `most`.
pub(crate) fn apply(base: &[u8], delta: &[u8], most: u64) -> Result<Vec<u8>, &'static str> {
    let mut input = Input(delta);
    if input.size()? != base.len() as u64 {
        return Err("a delta is for a base of another size");
    }
    let size = input.size()?;
    if size > most {
        return Err("a delta makes an object larger than the limit");
    }
    let size = usize::try_from(size).map_err(|_| "a delta makes an object larger than memory")?;
    // What is announced is not believed: no more is set aside than instructions of this length could fill honestly.
    let mut result = Vec::with_capacity(size.min(base.len() + delta.len()));
    while let Some(instruction) = input.byte() {
        let piece = match instruction {
            0 => return Err("a delta holds the reserved instruction"),
            copy if copy & 0x80 != 0 => {
                let (offset, length) = input.copy(copy)?;
                let end = offset.checked_add(length).ok_or("a delta copies from beyond its base")?;
                base.get(offset..end).ok_or("a delta copies from beyond its base")?
            }
            insert => input.take(insert.into())?,
        };
        if piece.len() > size - result.len() {
            return Err("a delta makes more bytes than it announces");
        }
        result.extend_from_slice(piece);
    }
    match result.len() == size {
        true => Ok(result),
        false => Err("a delta makes fewer bytes than it announces"),
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("a delta ends within an instruction")?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number in groups of seven bits, the lowest first.
    fn size(&mut self) -> Result<u64, &'static str> {
        let mut size = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte().ok_or("a delta ends within a size")?;
            size |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(size);
            }
        }
        Err("a delta announces a size without end")
    }

    /// Offset and length of a copy: each bit of the instruction says that one more byte of them follows.
    fn copy(&mut self, instruction: u8) -> Result<(usize, usize), &'static str> {
        let mut parts = [0_u8; 7];
        for (bit, part) in parts.iter_mut().enumerate() {
            if instruction & (1 << bit) != 0 {
                *part = self.byte().ok_or("a delta ends within an instruction")?;
            }
        }
        let [a, b, c, d, x, y, z] = parts;
        let offset = u32::from_le_bytes([a, b, c, d]) as usize;
        match u32::from_le_bytes([x, y, z, 0]) as usize {
            0 => Ok((offset, 0x10000)),
            length => Ok((offset, length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_inserts() {
        let delta = [5, 8, 0x90, 4, 2, b'x', b'y', 0x91, 3, 2];
        assert_eq!(apply(b"abcde", &delta, 100).unwrap(), b"abcdxyde");
    }

    #[test]
    fn a_copy_without_a_length_is_64_kib() {
        let base = vec![7; 0x10000];
        let size = [0x80, 0x80, 0x04];
        let delta = [&size[..], &size[..], &[0x80]].concat();
        assert_eq!(apply(&base, &delta, 1 << 20).unwrap(), base);
    }

    #[test]
    fn hostile_deltas_are_refused() {
        for (delta, what) in [
            (&[][..], "no size"),
            (&[5], "one size"),
            (&[4, 1, 1, b'x'], "another base"),
            (&[5, 1, 0], "reserved"),
            (&[5, 1, 0x91, 5, 1], "beyond the base"),
            (&[5, 1, 0x9f, 0xff, 0xff, 0xff, 0xff, 1], "far beyond the base"),
            (&[5, 1, 0x90, 2], "more than announced"),
            (&[5, 9, 0x90, 2], "fewer than announced"),
            (&[5, 2, 2, b'x'], "ends within"),
            (&[5, 101, 0x90, 5], "over the limit"),
            (&[5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "endless size"),
        ] {
            assert!(apply(b"abcde", delta, 100).is_err(), "{what}");
        }
    }
}
