//! From parts to text: what each operator does (`funcs.go` and `template.go` in envsubst).

use super::glob::{self, Stop};
use super::parse::Part;
use super::{MOST, SubstituteError};

/// Looks a variable up; none only in strict mode.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Option<&'l str>;

/// Appends the expansion of all parts.
pub(super) fn all(out: &mut String, parts: &[Part], lookup: Lookup<'_>) -> Result<(), SubstituteError> {
    parts.iter().try_for_each(|part| one(out, part, lookup))
}

fn one(out: &mut String, part: &Part, lookup: Lookup<'_>) -> Result<(), SubstituteError> {
    match part {
        Part::Text(text) => {
            out.push_str(text);
            Ok(())
        }
        Part::Form { name, operator, words } => {
            let mut expanded = Vec::with_capacity(words.len());
            for word in words {
                let mut text = String::new();
                one(&mut text, word, lookup)?;
                expanded.push(text);
            }
            let has_default = matches!(operator.as_str(), "=" | ":=" | ":-" | ":?" | ":+");
            let value = match lookup(name) {
                Some(value) => value,
                None if has_default => "",
                None => return Err(SubstituteError::Missing { name: name.clone() }),
            };
            let value = operate(name, operator, value, &expanded)?;
            if out.len() + value.len() > MOST {
                return Err(SubstituteError::TooMuch { name: name.clone() });
            }
            out.push_str(&value);
            Ok(())
        }
    }
}

fn operate(name: &str, operator: &str, value: &str, words: &[String]) -> Result<String, SubstituteError> {
    let word = |at: usize| words.get(at).map(String::as_str);
    let too_much = || SubstituteError::TooMuch { name: name.to_owned() };
    let trim = |trimmed: Option<String>| trimmed.ok_or_else(too_much);
    Ok(match (operator, word(0), word(1)) {
        (",", ..) => first(value, |c| c.to_lowercase().collect()),
        ("^", ..) => first(value, |c| c.to_uppercase().collect()),
        (",,", ..) => value.to_lowercase(),
        ("^^", ..) => value.to_uppercase(),
        ("#", None, _) => value.len().to_string(),
        ("#", Some(pattern), _) => trim(trim_front(value, pattern, Reach::Shortest))?,
        ("##", Some(pattern), _) => trim(trim_front(value, pattern, Reach::Longest))?,
        ("%", Some(pattern), _) => trim(trim_back(value, pattern, Reach::Shortest))?,
        ("%%", Some(pattern), _) => trim(trim_back(value, pattern, Reach::Longest))?,
        (":", Some(from), length) => {
            let cut = substring(value, from, length);
            cut.ok_or_else(|| SubstituteError::Cut { name: name.to_owned() })?.to_owned()
        }
        ("//", Some(old), Some(new)) if value.len() + value.matches(old).count() * new.len() > MOST => {
            return Err(too_much());
        }
        ("/", Some(old), new) => value.replacen(old, new.unwrap_or(""), 1),
        ("//", Some(old), new) => value.replace(old, new.unwrap_or("")),
        ("/#", Some(old), Some(new)) => {
            value.strip_prefix(old).map_or_else(|| value.to_owned(), |rest| format!("{new}{rest}"))
        }
        ("/%", Some(old), Some(new)) => {
            value.strip_suffix(old).map_or_else(|| value.to_owned(), |rest| format!("{rest}{new}"))
        }
        ("/#" | "/%", ..) => value.to_owned(),
        // The bare form and every kind of default.
        _ if value.is_empty() => words.concat(),
        _ => value.to_owned(),
    })
}

fn first(value: &str, change: impl Fn(char) -> String) -> String {
    let mut rest = value.chars();
    rest.next().map_or_else(String::new, |c| change(c) + rest.as_str())
}

/// Bytes from a place on, as bash counts them; none when that would cut a character. What is no number changes nothing.
fn substring<'v>(value: &'v str, from: &str, length: Option<&str>) -> Option<&'v str> {
    let size = i64::try_from(value.len()).ok()?;
    let Ok(from) = from.parse::<i64>() else {
        return Some(value);
    };
    let from = if from < 0 { (size + from).max(0) } else { from };
    let end = match length.map(str::parse::<i64>) {
        None => size,
        Some(Err(_)) => return Some(value),
        Some(Ok(length)) if length < 0 => size + length,
        Some(Ok(length)) => from.saturating_add(length).min(size),
    };
    if end <= from {
        return Some("");
    }
    value.get(usize::try_from(from).ok()?..usize::try_from(end).ok()?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Shortest,
    Longest,
}

/// Drops the prefix that matches the pattern; a pattern that is malformed changes nothing. None where that takes too
/// long.
fn trim_front(value: &str, pattern: &str, reach: Reach) -> Option<String> {
    let end = match glob::prefix(pattern, value, reach == Reach::Longest) {
        Ok(end) => end,
        Err(Stop::Malformed) => None,
        Err(Stop::TooMuch) => return None,
    };
    Some(value[end.unwrap_or(0)..].to_owned())
}

/// The same from behind: value and pattern are turned round, as envsubst does it.
fn trim_back(value: &str, pattern: &str, reach: Reach) -> Option<String> {
    let turned = |text: &str| text.chars().rev().collect::<String>();
    trim_front(&turned(value), &turned(pattern), reach).map(|rest| turned(&rest))
}
