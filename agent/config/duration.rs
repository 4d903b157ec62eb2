//! Durations as Flux's kinds write them: Go's `time.ParseDuration` without signs.
//!
//! Source: the CRDs' pattern, `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`.

use std::time::Duration;

/// The CRDs' pattern, for schemas.
pub const PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: it is written like 90s, 5m or 1h30m")]
pub struct ParseDurationError(String);

/// Reads `1h30m`, `1.5s`, `250ms`.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let refused = || ParseDurationError(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
        let (number, tail) = rest.split_at(digits);
        let units = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(units);
        let part = part(number, unit).ok_or_else(refused)?;
        total = total.checked_add(part).ok_or_else(refused)?;
        rest = tail;
    }
    if text.is_empty() { Err(refused()) } else { Ok(total) }
}

/// One number with its unit.
fn part(number: &str, unit: &str) -> Option<Duration> {
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = unit.checked_mul(whole.parse().ok()?)?;
    // Nine digits are nanoseconds of a second; more would be lost in any case.
    let digits = &fraction[..fraction.len().min(9)];
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let nanos = unit.as_nanos() * digits.parse::<u128>().ok()? / scale;
    whole.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, millis) in
            [("90s", 90_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("250ms", 250), ("0s", 0), ("0.25h", 900_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "m", "5d", "-5s", "1.s", ".5s", "1..5s", "5 s", "99999999999999999999h", "５s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
