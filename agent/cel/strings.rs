//! Functions of texts: the standard ones, and those of the strings extension. Places are counted in characters.

use regex::{Regex, RegexBuilder};

use crate::budget::Budget;
use crate::expression::Failure;
use crate::functions::Function;
use crate::value::{Text, Value};

/// How large a pattern may become when it is made ready, in bytes: each byte of a text may be held against all of it.
const PATTERN_SIZE: usize = 32 * 1024;

/// What a pattern costs that is only known now.
const PATTERN_STEPS: usize = 2_000;

pub(crate) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build()
}

/// Whether the pattern is somewhere in it.
pub(crate) fn matches<'a>(of: &Value<'_>, pattern: &Regex, budget: &mut Budget) -> Result<Value<'a>, Failure> {
    let Value::Text(text) = of else { return Err(Failure::overload("matches", &[of])) };
    // A byte is held against many states of the pattern.
    budget.spend(10 + 2 * text.as_str().len())?;
    Ok(Value::Bool(pattern.is_match(text.as_str())))
}

/// Nothing where the function takes no such operands.
pub(crate) fn call<'a>(
    function: Function,
    operands: &[Value<'a>],
    budget: &mut Budget,
) -> Result<Option<Value<'a>>, Failure> {
    if let (Function::Join, [list, rest @ ..]) = (function, operands) {
        return join(list, rest, budget);
    }
    let Some((Value::Text(text), rest)) = operands.split_first() else { return Ok(None) };
    let of = text.as_str();
    budget.spend_bytes(of.len())?;
    Ok(Some(match (function, rest) {
        (Function::Matches, [Value::Text(wanted)]) => {
            budget.spend(PATTERN_STEPS)?;
            let pattern = pattern(wanted.as_str()).map_err(|error| Failure::Operation(error.to_string()))?;
            return matches(&operands[0], &pattern, budget).map(Some);
        }
        (Function::Contains, [Value::Text(part)]) => Value::Bool(of.contains(part.as_str())),
        (Function::StartsWith, [Value::Text(part)]) => Value::Bool(of.starts_with(part.as_str())),
        (Function::EndsWith, [Value::Text(part)]) => Value::Bool(of.ends_with(part.as_str())),
        (Function::CharAt, [Value::Int(at)]) => {
            let at = place(*at, of)?;
            Value::text(of[at..].chars().next().map(String::from).unwrap_or_default())
        }
        (Function::IndexOf | Function::LastIndexOf, [Value::Text(part), rest @ ..]) => {
            return index_of(function, of, part.as_str(), rest);
        }
        (Function::LowerAscii, []) => Value::text(of.to_ascii_lowercase()),
        (Function::UpperAscii, []) => Value::text(of.to_ascii_uppercase()),
        (Function::Reverse, []) => Value::text(of.chars().rev().collect::<String>()),
        (Function::Trim, []) => Value::text(of.trim()),
        (Function::Substring, [Value::Int(from)]) => Value::text(&of[place(*from, of)?..]),
        (Function::Substring, [Value::Int(from), Value::Int(to)]) if from <= to => {
            Value::text(&of[place(*from, of)?..place(*to, of)?])
        }
        (Function::Replace, [Value::Text(part), Value::Text(with), rest @ ..]) => {
            return replace(of, [part, with], rest, budget);
        }
        (Function::Split, [Value::Text(at), rest @ ..]) => return split(of, at.as_str(), rest, budget),
        _ => return Ok(None),
    }))
}

/// Where the character of that number begins, in bytes; the end counts.
fn place(number: i64, of: &str) -> Result<usize, Failure> {
    let number = usize::try_from(number).ok();
    let found = number.and_then(|number| of.char_indices().map(|(at, _)| at).chain([of.len()]).nth(number));
    found.ok_or_else(|| Failure::Missing("the character of that number".to_owned()))
}

fn index_of<'a>(function: Function, of: &str, part: &str, rest: &[Value<'_>]) -> Result<Option<Value<'a>>, Failure> {
    let from = match rest {
        [] => None,
        [Value::Int(from)] => Some(place(*from, of)?),
        _ => return Ok(None),
    };
    let found = match (function, from) {
        (Function::IndexOf, from) => {
            let from = from.unwrap_or(0);
            of[from..].find(part).map(|at| from + at)
        }
        (_, None) => of.rfind(part),
        // It may begin at that place at the latest.
        (_, Some(from)) => {
            let end = (from + part.len()).min(of.len());
            let end = (end..=of.len()).find(|end| of.is_char_boundary(*end)).unwrap_or(of.len());
            of[..end].rfind(part)
        }
    };
    let number = found.map_or(-1, |at| i64::try_from(of[..at].chars().count()).unwrap_or(i64::MAX));
    Ok(Some(Value::Int(number)))
}

fn replace<'a>(
    of: &str,
    [part, with]: [&Text<'_>; 2],
    rest: &[Value<'_>],
    budget: &mut Budget,
) -> Result<Option<Value<'a>>, Failure> {
    let most = match rest {
        [] => usize::MAX,
        // A negative one is no bound.
        [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => return Ok(None),
    };
    let times = of.matches(part.as_str()).count().min(most);
    budget.spend_bytes(of.len().saturating_add(times.saturating_mul(with.as_str().len())))?;
    Ok(Some(Value::text(of.replacen(part.as_str(), with.as_str(), most))))
}

fn split<'a>(of: &str, at: &str, rest: &[Value<'_>], budget: &mut Budget) -> Result<Option<Value<'a>>, Failure> {
    let most = match rest {
        [] => usize::MAX,
        [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => return Ok(None),
    };
    budget.spend(of.matches(at).count().min(most))?;
    let texts: Vec<_> = match at {
        // Into characters, without an empty one at either end.
        "" => {
            let mut chars = of.char_indices().map(|(at, _)| at).skip(1);
            let mut parts = Vec::new();
            let mut from = 0;
            while parts.len() + 1 < most && from < of.len() {
                let to = chars.next().unwrap_or(of.len());
                parts.push(&of[from..to]);
                from = to;
            }
            parts.extend((most > 0 && from < of.len()).then_some(&of[from..]));
            parts
        }
        at => of.splitn(most, at).collect(),
    };
    Ok(Some(Value::list(texts.into_iter().map(Value::text).collect())))
}

fn join<'a>(list: &Value<'a>, rest: &[Value<'a>], budget: &mut Budget) -> Result<Option<Value<'a>>, Failure> {
    if !matches!(list, Value::Array(_) | Value::List(_)) {
        return Ok(None);
    }
    let between = match rest {
        [] => "",
        [Value::Text(text)] => text.as_str(),
        _ => return Ok(None),
    };
    let mut joined = String::new();
    for (number, item) in list.items(budget)?.iter().enumerate() {
        let Value::Text(text) = item else { return Ok(None) };
        let before = if number == 0 { "" } else { between };
        budget.spend_bytes(before.len() + text.as_str().len())?;
        joined.push_str(before);
        joined.push_str(text.as_str());
    }
    Ok(Some(Value::text(joined)))
}
