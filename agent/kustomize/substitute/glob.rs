//! Shell patterns: `*`, `?`, `[a-z]`, `[^a]` and `\` before any of them; `*` crosses slashes.

/// Whether the pattern matches the whole text; none when it is malformed.
pub(super) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern: Vec<Token> = tokens(pattern)?;
    let text: Vec<char> = text.chars().collect();
    // Backtracking to the last star only: linear in practice, quadratic at worst.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(Token::Star) => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(token) if text.get(t).is_some_and(|c| token.fits(*c)) => {
                p += 1;
                t += 1;
                continue;
            }
            None if t == text.len() => return Some(true),
            _ => {}
        }
        match star {
            Some((at, from)) if from < text.len() => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            _ => return Some(false),
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
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, wanted) in [
            ("*", "", Some(true)),
            ("a*b", "axxb", Some(true)),
            ("a*b", "axbx", Some(false)),
            ("?b", "ab", Some(true)),
            ("[a-c]x", "bx", Some(true)),
            ("[^a]x", "bx", Some(true)),
            (r"\*", "*", Some(true)),
            ("[", "a", None),
            ("[a", "a", None),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
