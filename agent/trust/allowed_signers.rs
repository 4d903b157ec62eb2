//! OpenSSH's `allowed_signers` lines.
//!
//! Source: ssh-keygen(1), "ALLOWED SIGNERS": `principals [options] keytype base64-key [comment]`. Timestamps without a
//! `Z` are in the local time zone there; a cluster has none, so they are UTC here.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;

/// What a line says of a key beside the key itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) cert_authority: bool,
    /// Patterns of namespaces; `None` allows every one.
    pub(crate) namespaces: Option<Vec<String>>,
    pub(crate) valid_after: Option<Timestamp>,
    pub(crate) valid_before: Option<Timestamp>,
}

/// One line, read.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) principals: Option<String>,
    pub(crate) options: Options,
    pub(crate) key: PublicKey,
}

/// Reads a line that is neither empty nor a comment: an `allowed_signers` line, or a public key alone.
pub(crate) fn line(text: &str) -> Result<Line, String> {
    let text = text.trim();
    if let Some(key) = public_key(text)? {
        return Ok(Line { principals: None, options: Options::default(), key });
    }
    let (principals, rest) = principals(text)?;
    let rest = rest.trim_start();
    let (options, rest) = match public_key(rest)? {
        Some(key) => return Ok(Line { principals: Some(principals), options: Options::default(), key }),
        None => options(rest)?,
    };
    match public_key(rest.trim_start())? {
        Some(key) => Ok(Line { principals: Some(principals), options, key }),
        None => Err("it names no key of a type that is understood".to_owned()),
    }
}

/// The key that `text` begins with; `None` where its first word is no key type.
fn public_key(text: &str) -> Result<Option<PublicKey>, String> {
    let mut words = text.split_ascii_whitespace();
    let Some(kind) = words.next() else { return Ok(None) };
    if !is_key_type(kind) {
        return Ok(None);
    }
    let body = words.next().ok_or_else(|| format!("the {kind} key has no body"))?;
    let comment = words.collect::<Vec<_>>().join(" ");
    let mut key =
        PublicKey::from_openssh(&format!("{kind} {body}")).map_err(|error| format!("the {kind} key: {error}"))?;
    key.set_comment(comment);
    Ok(Some(key))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519@", "sk-ecdsa-sha2-", "ssh-dss"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
}

fn principals(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (inner, rest) = quoted.split_once('"').ok_or("the quoted principals do not end")?;
        return Ok((inner.to_owned(), rest));
    }
    let (word, rest) = text.split_once([' ', '\t']).ok_or("it has one word only")?;
    Ok((word.to_owned(), rest))
}

/// Comma-separated options up to the first blank outside quotes. An unknown one is refused: it may have been a limit.
fn options(text: &str) -> Result<(Options, &str), String> {
    let mut options = Options::default();
    let mut rest = text;
    loop {
        let end = rest.find([',', '=', ' ', '\t']).unwrap_or(rest.len());
        let (name, mut after) = rest.split_at(end);
        let mut value = None;
        if let Some(quoted) = after.strip_prefix("=\"") {
            let (inner, tail) = quoted.split_once('"').ok_or_else(|| format!("the value of {name} does not end"))?;
            value = Some(inner);
            after = tail;
        }
        set(&mut options, name, value)?;
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() || after.starts_with([' ', '\t']) => return Ok((options, after)),
            None => return Err(format!("after the option {name} stands neither a comma nor a blank")),
        }
    }
}

fn set(options: &mut Options, name: &str, value: Option<&str>) -> Result<(), String> {
    match (name.to_ascii_lowercase().as_str(), value) {
        ("cert-authority", None) => options.cert_authority = true,
        ("namespaces", Some(list)) if options.namespaces.is_none() && !list.is_empty() => {
            options.namespaces = Some(list.split(',').map(|name| name.trim().to_owned()).collect());
        }
        ("valid-after", Some(time)) if options.valid_after.is_none() => options.valid_after = Some(timestamp(time)?),
        ("valid-before", Some(time)) if options.valid_before.is_none() => {
            options.valid_before = Some(timestamp(time)?);
        }
        _ => return Err(format!("the option {name:?} is unknown, given twice, or lacks its value")),
    }
    if let (Some(after), Some(before)) = (options.valid_after, options.valid_before)
        && after >= before
    {
        return Err("valid-after is not before valid-before".to_owned());
    }
    Ok(())
}

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("{text:?} is no time: it is written YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]");
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(wrong());
    }
    let part = |range: std::ops::Range<usize>| -> i16 {
        digits.get(range).and_then(|part| part.parse().ok()).unwrap_or_default()
    };
    let small = |range| i8::try_from(part(range)).unwrap_or(i8::MAX);
    DateTime::new(part(0..4), small(4..6), small(6..8), small(8..10), small(10..12), small(12..14), 0)
        .and_then(|civil| TimeZone::UTC.to_timestamp(civil))
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX";

    #[test]
    fn a_key_alone_and_a_full_line_are_both_read() {
        let alone = line(&format!("{KEY} ana at home")).unwrap();
        assert_eq!((alone.principals, alone.key.comment()), (None, "ana at home"));
        let full = line(&format!(
            "ana@example.org,*@ops.example namespaces=\"git,file\",valid-after=\"20240101\",valid-before=\"202412312359Z\" {KEY}"
        ))
        .unwrap();
        assert_eq!(full.principals.as_deref(), Some("ana@example.org,*@ops.example"));
        assert_eq!(full.options.namespaces, Some(vec!["git".to_owned(), "file".to_owned()]));
        assert_eq!(full.options.valid_after.unwrap().to_string(), "2024-01-01T00:00:00Z");
        assert_eq!(full.options.valid_before.unwrap().to_string(), "2024-12-31T23:59:00Z");
        assert!(line(&format!("\"ana b\" cert-authority {KEY}")).unwrap().options.cert_authority);
    }

    #[test]
    fn a_limit_that_is_not_understood_is_refused_not_dropped() {
        for options in [
            "verify-required",
            "namespaces=git",
            "valid-before=\"2024\"",
            "valid-before=\"20241399\"",
            "valid-after=\"20250101\",valid-before=\"20240101\"",
            "namespaces=\"git\",namespaces=\"file\"",
            "namespaces=\"git",
        ] {
            assert!(line(&format!("ana {options} {KEY}")).is_err(), "{options}");
        }
        for text in ["ana", "ana ssh-ed25519", "ana ssh-ed25519 AAAA", "\"ana", ""] {
            assert!(line(text).is_err(), "{text}");
        }
    }
}
