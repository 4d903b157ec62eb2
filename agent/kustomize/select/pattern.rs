//! Regular expressions as kustomize's users write them.
//!
//! regex-lite has the syntax of Go's `regexp` but for Unicode classes, and its classes are ASCII as Go's are. Plain
//! names, which are nearly all patterns, are compared without an engine.

use regex_lite::{Regex, RegexBuilder};

/// A compiled expression.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// Text without any special character, to match whole.
    Exact(String),
    /// Anything else.
    Regex(Regex),
}

/// What one expression may compile to; more is a mistake or an attack.
const SIZE_LIMIT: usize = 1 << 20;

impl Pattern {
    /// An expression that must match the whole text.
    pub(crate) fn whole(text: &str) -> Result<Pattern, String> {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/')) {
            return Ok(Pattern::Exact(text.to_owned()));
        }
        Pattern::anywhere(&format!("^(?:{text})$"))
    }

    /// An expression that may match anywhere in the text.
    pub(crate) fn anywhere(text: &str) -> Result<Pattern, String> {
        RegexBuilder::new(text)
            .size_limit(SIZE_LIMIT)
            .build()
            .map(Pattern::Regex)
            .map_err(|error| format!("{text:?} is not a regular expression: {error}"))
    }

    /// Whether the text fits.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(want) => want == text,
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}
