//! What a scalar's text stands for.
//!
//! The rules are those of go-yaml's `resolve` (go.yaml.in/yaml, `resolve.go`), version 3 for everything kustomize reads
//! and version 2 (through sigs.k8s.io/yaml) for what kubectl reads. They differ in three points: version 2 takes
//! `yes`, `no`, `on`, `off`, `y` and `n` for booleans, keeps timestamps as text, and does not know `0o17` by itself
//! (Go's own number parser does, so the result is the same).

use super::node::Tag;

/// Which reader's rules apply to unquoted text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As `kubectl apply -f` reads a manifest: YAML 1.1 booleans, timestamps are text.
    Kubernetes,
    /// As kustomize reads its own file: the same, but for keys, which must be text. kustomize would write a label called
    /// `n` as `false` and then fail on it.
    KustomizationFile,
    /// As `kustomize build` reads its files: YAML 1.2 booleans, timestamps are dates.
    Kustomize,
}

/// A scalar that was understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    /// `null` in one of its spellings, or nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above those.
    UInt(u64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A date, with or without a time.
    Timestamp,
    /// Text.
    Str,
}

/// The tag of unquoted text by kustomize's rules.
pub(crate) fn plain_tag(text: &str) -> Tag {
    tag_of(&resolve(text, Dialect::Kustomize))
}

/// The tag under which a resolved scalar is kept.
pub(crate) fn tag_of(resolved: &Resolved) -> Tag {
    match resolved {
        Resolved::Null => Tag::Null,
        Resolved::Bool(_) => Tag::Bool,
        Resolved::Int(_) | Resolved::UInt(_) => Tag::Int,
        Resolved::Float(_) => Tag::Float,
        Resolved::Timestamp => Tag::Timestamp,
        Resolved::Str => Tag::Str,
    }
}

/// Reads unquoted text.
pub fn resolve(text: &str, dialect: Dialect) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Resolved::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if dialect != Dialect::Kustomize {
        match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Resolved::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Resolved::Bool(false),
            _ => {}
        }
    }
    match text.as_bytes().first() {
        Some(b'.') => number_after_dot(text),
        Some(b'0'..=b'9' | b'+' | b'-') => number(text, dialect),
        _ => Resolved::Str,
    }
}

fn number_after_dot(text: &str) -> Resolved {
    match is_decimal(text).then(|| text.parse::<f64>().ok()).flatten() {
        Some(value) if value.is_finite() => Resolved::Float(value),
        _ => Resolved::Str,
    }
}

fn number(text: &str, dialect: Dialect) -> Resolved {
    if super::timestamp::parse(text).is_some() {
        return match dialect {
            Dialect::Kubernetes | Dialect::KustomizationFile => Resolved::Str,
            Dialect::Kustomize => Resolved::Timestamp,
        };
    }
    let plain: std::borrow::Cow<'_, str> = if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    integer(&plain).unwrap_or_else(|| match is_decimal(&plain).then(|| plain.parse::<f64>().ok()).flatten() {
        Some(value) if value.is_finite() => Resolved::Float(value),
        _ => Resolved::Str,
    })
}

/// Go's `strconv.ParseInt(text, 0, 64)`, then `ParseUint`, which takes no sign.
fn integer(text: &str) -> Option<Resolved> {
    let (negative, signed, digits) = match text.as_bytes().first()? {
        b'-' => (true, true, &text[1..]),
        b'+' => (false, true, &text[1..]),
        _ => (false, false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    match i64::try_from(value) {
        Ok(value) => Some(Resolved::Int(if negative { -value } else { value })),
        Err(_) if negative && value == i64::MIN.unsigned_abs() => Some(Resolved::Int(i64::MIN)),
        Err(_) if signed => None,
        Err(_) => Some(Resolved::UInt(value)),
    }
}

/// go-yaml's pattern for a float: `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_decimal(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = take_digits(rest);
    let rest = match rest.strip_prefix('.') {
        Some(after) => {
            let (fraction, after) = take_digits(after);
            if whole == 0 && fraction == 0 {
                return false;
            }
            after
        }
        None if whole == 0 => return false,
        None => rest,
    };
    match rest.strip_prefix(['e', 'E']) {
        None => rest.is_empty(),
        Some(exponent) => {
            let (count, rest) = take_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
            count > 0 && rest.is_empty()
        }
    }
}

fn take_digits(text: &str) -> (usize, &str) {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    (count, &text[count..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_go_reads_them() {
        let read = |text| resolve(text, Dialect::Kustomize);
        assert_eq!(read("0777"), Resolved::Int(511));
        assert_eq!(read("0o777"), Resolved::Int(511));
        assert_eq!(read("-0o17"), Resolved::Int(-15));
        assert_eq!(read("08"), Resolved::Float(8.0));
        assert_eq!(read("1_000"), Resolved::Int(1000));
        assert_eq!(read("0x1F"), Resolved::Int(31));
        assert_eq!(read("18446744073709551615"), Resolved::UInt(u64::MAX));
        assert_eq!(read("+18446744073709551615"), Resolved::Float(18446744073709551615.0));
        assert_eq!(read("1e3"), Resolved::Float(1000.0));
        assert_eq!(read("1e400"), Resolved::Str);
        assert_eq!(read("1."), Resolved::Float(1.0));
        assert_eq!(read("."), Resolved::Str);
        assert_eq!(read("-"), Resolved::Str);
        assert_eq!(read("1.2.3"), Resolved::Str);
        assert_eq!(read("12e"), Resolved::Str);
        assert_eq!(read("2001-01-01"), Resolved::Timestamp);
    }

    #[test]
    fn booleans_depend_on_the_reader() {
        assert_eq!(resolve("on", Dialect::Kubernetes), Resolved::Bool(true));
        assert_eq!(resolve("on", Dialect::Kustomize), Resolved::Str);
        assert_eq!(resolve("2001-01-01", Dialect::Kubernetes), Resolved::Str);
    }
}
