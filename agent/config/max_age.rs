//! `max-age`: how old the newest verified commit may be.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::duration;

/// How old a commit may be and still be adopted; more than zero.
///
/// Written `30d`, or like every other duration (`12h`). What was adopted stays enforced, however old it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxAge(Duration);

/// A text that is no age.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an age: it is written like 30d or 12h, and is more than nothing")]
pub struct ParseMaxAgeError(String);

/// An age is warned of from this part of it on.
const WARN: (u32, u32) = (2, 3);

const DAY: Duration = Duration::from_secs(24 * 3600);

impl MaxAge {
    /// Reads `30d`, `12h`, `1h30m`.
    pub fn parse(text: &str) -> Result<Self, ParseMaxAgeError> {
        let refused = || ParseMaxAgeError(text.to_owned());
        let days = |days: &str| {
            let digits = !days.is_empty() && days.bytes().all(|byte| byte.is_ascii_digit());
            DAY.checked_mul(days.parse().ok().filter(|_| digits)?)
        };
        let age = match text.strip_suffix('d') {
            Some(number) => days(number).ok_or_else(refused)?,
            None => duration::parse(text).map_err(|_| refused())?,
        };
        if age.is_zero() { Err(refused()) } else { Ok(Self(age)) }
    }

    /// From this age on a commit is too old.
    pub fn limit(self) -> Duration {
        self.0
    }

    /// From this age on it is warned of: two thirds of the limit.
    pub fn warning(self) -> Duration {
        self.0 / WARN.1 * WARN.0
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds % DAY.as_secs(), seconds % 3600) {
            (0, _) if seconds > 0 => write!(f, "{}d", seconds / DAY.as_secs()),
            (_, 0) if seconds > 0 => write!(f, "{}h", seconds / 3600),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for MaxAge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_and_shown() {
        for (text, hours) in [("30d", 720), ("1d", 24), ("12h", 12), ("36h", 36)] {
            let age = MaxAge::parse(text).unwrap();
            assert_eq!((age.limit(), age.to_string().as_str()), (Duration::from_secs(hours * 3600), text));
        }
        assert_eq!(MaxAge::parse("30d").unwrap().warning(), Duration::from_secs(20 * 24 * 3600));
        for text in ["", "d", "0d", "0s", "-1d", "1.5d", "+1d", "30", "5w", "99999999999999999999d"] {
            assert!(MaxAge::parse(text).is_err(), "{text}");
        }
    }
}
