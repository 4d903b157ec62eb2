//! An error with its causes, for the one place where it is shown.

use std::error::Error;

/// The error and its causes on a line: `what was tried: what came back`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
