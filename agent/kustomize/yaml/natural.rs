//! The order in which go-yaml prints the keys of a mapping.

use std::cmp::Ordering;

/// go-yaml's order of keys (`sorter.go`): letters after other characters, digit runs by their number.
fn natural(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() {
        return natural_order(
            a.as_bytes(),
            b.as_bytes(),
            |byte| byte.is_ascii_alphabetic(),
            |byte| byte.is_ascii_digit().then(|| i64::from(byte - b'0')),
        );
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    natural_order(&a, &b, char::is_alphabetic, |letter| letter.to_digit(10).map(i64::from))
}

/// Sorts keys by [`natural`], which is no order where numbers stand beside signs: `a` may come before `b`, `b` before `c`,
/// and `c` before `a`. The standard library's sort may panic then. Up to twelve keys are sorted by insertion, as Go does,
/// so that even these come out as there; more by merging.
pub(super) fn in_natural_order(mut keys: Vec<&String>) -> Vec<&String> {
    const INSERTED: usize = 12;
    if keys.len() <= INSERTED {
        for sorted in 1..keys.len() {
            let mut at = sorted;
            while at > 0 && natural(keys[at], keys[at - 1]) == Ordering::Less {
                keys.swap(at, at - 1);
                at -= 1;
            }
        }
        return keys;
    }
    let second = in_natural_order(keys.split_off(keys.len() / 2));
    let (mut first, mut second) = (in_natural_order(keys).into_iter().peekable(), second.into_iter().peekable());
    let mut merged = Vec::with_capacity(first.len() + second.len());
    while let (Some(one), Some(other)) = (first.peek(), second.peek()) {
        let next = if natural(other, one) == Ordering::Less { second.next() } else { first.next() };
        merged.extend(next);
    }
    merged.extend(first.chain(second));
    merged
}

fn natural_order<T: Copy + Ord>(
    a: &[T],
    b: &[T],
    is_letter: impl Fn(T) -> bool,
    digit: impl Fn(T) -> Option<i64>,
) -> Ordering {
    let Some(place) = a.iter().zip(b).position(|(x, y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    let (x, y) = (a[place], b[place]);
    match (is_letter(x), is_letter(y)) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut x_number, mut y_number) = (0i64, 0i64);
    if digit(x) == Some(0) || digit(y) == Some(0) {
        // Noughts within a number count, leading ones do not.
        let run = a[..place].iter().rev().map_while(|c| digit(*c));
        if run.into_iter().any(|value| value != 0) {
            (x_number, y_number) = (1, 1);
        }
    }
    let read = |text: &[T], number: &mut i64| {
        let mut count = 0;
        for value in text[place..].iter().map_while(|c| digit(*c)) {
            *number = number.wrapping_mul(10).wrapping_add(value);
            count += 1;
        }
        count
    };
    let (x_end, y_end) = (read(a, &mut x_number), read(b, &mut y_number));
    x_number.cmp(&y_number).then(x_end.cmp(&y_end)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Found by fuzzing: the standard library's sort noticed that this is no order, and panicked.
    #[test]
    fn keys_without_an_order_are_printed_each_once() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut circles = 0;
        for _ in 0..300 {
            let letters: Vec<char> = "0019.:=_ a\u{fb43}".chars().collect();
            let mut key = || (0..random.usize(1..9)).map(|_| letters[random.usize(..letters.len())]).collect();
            let keys: BTreeSet<String> = (0..60).map(|_| key()).collect();
            let sorted = in_natural_order(keys.iter().collect());
            assert_eq!(sorted.iter().map(|key| (*key).clone()).collect::<BTreeSet<_>>(), keys);
            assert_eq!(sorted.len(), keys.len());
            let before = |a: usize, b: usize| natural(sorted[a], sorted[b]) == Ordering::Less;
            circles += (2..sorted.len())
                .filter(|at| before(at - 2, at - 1) && before(at - 1, *at) && before(*at, at - 2))
                .count();
        }
        assert!(circles > 0, "these keys have an order: the case shows nothing");
    }

    #[test]
    fn keys_with_an_order_are_sorted_however_many_there_are() {
        for count in [2, 12, 13, 100] {
            let keys: Vec<String> = (0..count).map(|number| format!("key{}", (number * 7919) % count)).collect();
            let unique: BTreeSet<&String> = keys.iter().collect();
            let sorted = in_natural_order(unique.iter().copied().collect());
            assert_eq!(sorted.first().map(|key| key.as_str()), Some("key0"));
            assert!(sorted.windows(2).all(|pair| natural(pair[0], pair[1]) == Ordering::Less), "{sorted:?}");
        }
    }
}
