//! Bech32 (BIP 173) without its limit of 90 characters, as age writes keys.

use zeroize::Zeroizing;

const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The bytes after `prefix`, which is given in lower case; nothing where the checksum does not fit.
pub(super) fn decode(text: &str, prefix: &str) -> Option<Zeroizing<Vec<u8>>> {
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    if upper && text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let data = lower.strip_prefix(prefix)?.strip_prefix('1')?;
    let letter = |byte: u8| LETTERS.iter().position(|letter| *letter == byte).and_then(|at| u8::try_from(at).ok());
    let values: Zeroizing<Vec<u8>> = Zeroizing::new(data.bytes().map(letter).collect::<Option<_>>()?);
    let mut sum = 1;
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    for value in high.chain([0]).chain(low).chain(values.iter().copied()) {
        sum = step(sum, value);
    }
    let (values, _) = values.split_at_checked(values.len().checked_sub(6)?)?;
    if sum != 1 {
        return None;
    }
    let (mut bits, mut held) = (0u32, 0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(values.len() * 5 / 8));
    for value in values {
        bits = ((bits << 5) | u32::from(*value)) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    // What is left over is padding of less than a letter, and nought.
    (held < 5 && bits & ((1 << held) - 1) == 0).then_some(bytes)
}

fn step(sum: u32, value: u8) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let top = sum >> 25;
    let shifted = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
    GENERATOR.iter().enumerate().filter(|(bit, _)| (top >> bit) & 1 == 1).fold(shifted, |sum, (_, term)| sum ^ term)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: BIP 173, test vectors.
    #[test]
    fn vectors() {
        assert_eq!(decode("A12UEL5L", "a").unwrap().as_slice(), b"");
        assert_eq!(decode("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "abcdef").unwrap().len(), 20);
        for bad in ["A12UEL5l", "a12uel5x", "b12uel5l", "a1", "a12uel5", ""] {
            assert!(decode(bad, "a").is_none(), "{bad}");
        }
    }
}
