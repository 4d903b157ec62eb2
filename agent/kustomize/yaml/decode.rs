//! Bytes become text.

use super::error::{Fault, YamlError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

const NEXT_LINE: char = '\u{85}';

/// UTF-8 text without a byte-order mark and with plain line feeds.
///
/// kustomize turns CR LF into LF before it parses (`kio.ByteReader`), so a carriage return never ends up inside a value.
/// U+0085 ends a line in YAML 1.1, which kustomize and kubectl read, and is a character like any other in 1.2: a line
/// feed in its place is what their parser takes it for.
pub(crate) fn text<'b>(file: &str, bytes: &'b [u8]) -> Result<Cow<'b, str>, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        YamlError::new(file, 0, line, column, Fault::NotUtf8)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = if text.contains("\r\n") { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) };
    Ok(if text.contains(NEXT_LINE) { Cow::Owned(text.replace(NEXT_LINE, "\n")) } else { text })
}

/// U+2028 and U+2029: they end a line in YAML 1.1, and are kept where a line feed becomes a space.
const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

/// Whether a file holds separators, and whether it holds none that are escaped.
pub(crate) fn separators(text: &str) -> (bool, bool) {
    let any = text.contains(SEPARATORS);
    (any, any && !text.contains("\\L") && !text.contains("\\P"))
}

/// What YAML 1.1 makes of a text in quotes with separators in it: the blanks around them go, as around any end of a line.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    if !text.contains(SEPARATORS) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(SEPARATORS) {
        let after = out.ends_with(SEPARATORS);
        let piece = if after { piece.trim_start_matches([' ', '\t']) } else { piece };
        match piece.char_indices().next_back() {
            Some((at, last)) if SEPARATORS.contains(&last) => {
                out.push_str(piece[..at].trim_end_matches([' ', '\t']));
                out.push(last);
            }
            _ => out.push_str(piece),
        }
    }
    Cow::Owned(out)
}

/// The text of a `!!binary` scalar: standard base64 with padding, line feeds allowed.
pub(crate) fn binary(text: &str) -> Option<String> {
    let symbols: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let bytes = STANDARD.decode(symbols).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
