//! Bytes become text.

use super::error::{Fault, YamlError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// UTF-8 text without a byte-order mark and with plain line feeds.
///
/// kustomize turns CR LF into LF before it parses (`kio.ByteReader`), so a carriage return never ends up inside a value.
pub(crate) fn text<'b>(file: &str, bytes: &'b [u8]) -> Result<Cow<'b, str>, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        YamlError::new(file, 0, line, column, Fault::NotUtf8)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(if text.contains("\r\n") { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) })
}

/// The text of a `!!binary` scalar: standard base64 with padding, line feeds allowed.
pub(crate) fn binary(text: &str) -> Option<String> {
    let symbols: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let bytes = STANDARD.decode(symbols).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
