//! Shell patterns: `*`, `?`, `[a-z]`, `[^a]` and `\` before any of them; `*` crosses slashes.

/// Steps that one match may take: a pattern of a thousand signs on a value of 100 KiB.
const MOST_STEPS: usize = 100_000_000;

/// Why nothing was matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The pattern is none.
    Malformed,
    /// Pattern and text are too long.
    TooMuch,
}

/// Where the shortest or the longest prefix of the text ends that the whole pattern matches; the empty prefix does not
/// count. All prefixes are tried in one pass: `at` holds the places of the pattern that the text so far can lead to.
pub(super) fn prefix(pattern: &str, text: &str, longest: bool) -> Result<Option<usize>, Stop> {
    let pattern = tokens(pattern).ok_or(Stop::Malformed)?;
    if pattern.len().saturating_mul(text.len()) > MOST_STEPS {
        return Err(Stop::TooMuch);
    }
    let mut at = vec![false; pattern.len() + 1];
    at[0] = true;
    pass_stars(&pattern, &mut at);
    let mut found = None;
    for (start, c) in text.char_indices() {
        let mut next = vec![false; pattern.len() + 1];
        for (place, token) in pattern.iter().enumerate().filter(|(place, _)| at[*place]) {
            match token {
                Token::Star => next[place] = true,
                token => next[place + 1] |= token.fits(c),
            }
        }
        pass_stars(&pattern, &mut next);
        at = next;
        if at[pattern.len()] {
            found = Some(start + c.len_utf8());
            if !longest {
                break;
            }
        }
    }
    Ok(found)
}

/// A star may stand for nothing.
fn pass_stars(pattern: &[Token], at: &mut [bool]) {
    for (place, token) in pattern.iter().enumerate() {
        if at[place] && matches!(token, Token::Star) {
            at[place + 1] = true;
        }
    }
}

enum Token {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Token::Star => false,
            Token::Any => true,
            Token::One(want) => *want == c,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut rest = pattern.chars().peekable();
    let mut found = Vec::new();
    while let Some(c) = rest.next() {
        found.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::One(rest.next()?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                        break Token::Class { negated, ranges };
                    }
                    let low = class_letter(&mut rest)?;
                    let high = if rest.next_if_eq(&'-').is_some() { class_letter(&mut rest)? } else { low };
                    ranges.push((low, high));
                }
            }
            c => Token::One(c),
        });
    }
    Some(found)
}

fn class_letter(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::{Stop, prefix};

    #[test]
    fn patterns() {
        for (pattern, text, shortest, longest) in [
            ("*", "", None, None),
            ("*", "ab", Some(1), Some(2)),
            ("a*b", "axbxb", Some(3), Some(5)),
            ("a*b", "bab", None, None),
            ("?b", "\u{e9}bc", Some(3), Some(3)),
            ("[a-c]x", "bxx", Some(2), Some(2)),
            ("[^a]x", "bx", Some(2), Some(2)),
            (r"\*", "*a", Some(1), Some(1)),
            ("", "a", None, None),
        ] {
            assert_eq!(prefix(pattern, text, false), Ok(shortest), "{pattern} {text}");
            assert_eq!(prefix(pattern, text, true), Ok(longest), "{pattern} {text}");
        }
        for pattern in ["[", "[a"] {
            assert_eq!(prefix(pattern, "a", false), Err(Stop::Malformed));
        }
        assert_eq!(prefix(&"a".repeat(20_000), &"a".repeat(20_000), true), Err(Stop::TooMuch));
    }
}
