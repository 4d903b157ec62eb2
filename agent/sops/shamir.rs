//! Shamir's secret sharing over GF(2^8), as HashiCorp Vault writes it: a share is the values at one x, and then x.
//!
//! A data key that is split over key groups is put together from the shares of those groups that could be opened.
//! Arithmetic takes the same time whatever the values are.

use zeroize::Zeroizing;

use crate::error::Error;

/// The secret that `shares` were split from, at least two of them.
pub(crate) fn combine(shares: &[Zeroizing<Vec<u8>>]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (Some(first), true) = (shares.first(), shares.len() >= 2) else {
        return Err(Error::DataKey("a split key takes two shares or more"));
    };
    let length = first.len();
    if length < 2 || shares.iter().any(|share| share.len() != length) {
        return Err(Error::DataKey("its shares are not of one length"));
    }
    let xs: Vec<u8> = shares.iter().filter_map(|share| share.last().copied()).collect();
    if xs.contains(&0) || (1..xs.len()).any(|at| xs[..at].contains(&xs[at])) {
        return Err(Error::DataKey("two of its shares are one and the same"));
    }
    // Lagrange's basis at nought: the product of x_j / (x_i + x_j).
    let basis: Vec<u8> = (0..xs.len())
        .map(|i| {
            let others = (0..xs.len()).filter(|j| *j != i);
            others.fold(1, |product, j| multiply(product, multiply(xs[j], inverse(xs[i] ^ xs[j]))))
        })
        .collect();
    let byte = |at: usize| shares.iter().zip(&basis).fold(0, |sum, (share, basis)| sum ^ multiply(share[at], *basis));
    Ok(Zeroizing::new((0..length - 1).map(byte).collect()))
}

/// The product in GF(2^8) with the polynomial of AES.
fn multiply(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |sum: u8, bit| {
        let reduced = (sum << 1) ^ ((sum >> 7).wrapping_neg() & 0x1b);
        reduced ^ ((b >> bit) & 1).wrapping_neg() & a
    })
}

/// a^254, which is the inverse of every `a` but nought.
fn inverse(a: u8) -> u8 {
    let mut power = a;
    let mut result = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        result = multiply(result, power);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_but_nought_has_an_inverse() {
        assert!((1..=255).all(|a| multiply(a, inverse(a)) == 1));
        assert_eq!(multiply(0x57, 0x83), 0xc1); // FIPS 197, section 4.2
    }

    #[test]
    fn any_two_points_of_a_line_give_its_start() {
        let share = |x: u8| Zeroizing::new(vec![42 ^ multiply(7, x), 99 ^ multiply(200, x), x]);
        for (one, other) in [(1, 2), (1, 3), (3, 2)] {
            assert_eq!(*combine(&[share(one), share(other)]).unwrap(), [42, 99]);
        }
        assert!(combine(&[share(1)]).is_err());
        assert!(combine(&[share(1), share(1)]).is_err());
    }
}
