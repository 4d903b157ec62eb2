//! How much a metered link may be used: `5Mi/day`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::window::zone;

/// The form, for people who have written something else.
pub const BUDGET_FORM: &str =
    "it is written like 5Mi/day, 200Mi/month, or 5Mi/day Europe/Oslo where the day is not UTC's";

/// A text that is no budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a budget: {why}")]
pub struct ParseBudgetError {
    text: String,
    why: String,
}

/// A text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: it is written like 500k, 5Mi or 2Gi")]
pub struct ParseSizeError(String);

/// Bytes, as Kubernetes writes quantities: a whole number with `k`, `M`, `G`, `T` (powers of 1,000), `Ki`, `Mi`, `Gi`, `Ti`
/// (powers of 1,024), or nothing.
///
/// # Errors
/// When it is another text, or more than 64 bits hold.
pub fn parse_size(text: &str) -> Result<u64, ParseSizeError> {
    let refused = || ParseSizeError(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(refused()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(refused)
}

/// After which a budget begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// At midnight.
    Day,
    /// At midnight before the first.
    Month,
}

/// So many bytes a period, sent and received, in the days of a time zone.
#[derive(Clone, Debug)]
pub struct Budget {
    text: String,
    /// Bytes.
    pub bytes: u64,
    /// How often they may be spent.
    pub period: Period,
    zone: TimeZone,
}

impl Budget {
    /// The first day of the period that `now` is in.
    pub fn since(&self, now: Timestamp) -> Date {
        let today = self.zone.to_datetime(now).date();
        match self.period {
            Period::Day => today,
            Period::Month => today.first_of_month(),
        }
    }

    /// The day that bytes spent at `now` belong to.
    pub fn day(&self, now: Timestamp) -> Date {
        self.zone.to_datetime(now).date()
    }

    /// When the next period begins.
    pub fn renews(&self, now: Timestamp) -> Timestamp {
        let since = self.since(now);
        let next = match self.period {
            Period::Day => since.saturating_add(1.day()),
            Period::Month => since.saturating_add(1.month()),
        };
        self.zone.to_zoned(next.at(0, 0, 0, 0)).map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

impl PartialEq for Budget {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Budget {}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Budget {
    type Err = ParseBudgetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why: String| ParseBudgetError { text: text.to_owned(), why };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (amount, zone) = match words.as_slice() {
            [amount] => (*amount, TimeZone::UTC),
            [amount, name] => (*amount, zone(name).map_err(refused)?),
            _ => return Err(refused(BUDGET_FORM.to_owned())),
        };
        let (bytes, period) = amount.split_once('/').ok_or_else(|| refused(BUDGET_FORM.to_owned()))?;
        let period = match period {
            "day" => Period::Day,
            "month" => Period::Month,
            other => return Err(refused(format!("{other:?} is neither day nor month; {BUDGET_FORM}"))),
        };
        let bytes = parse_size(bytes).map_err(|error| refused(error.to_string()))?;
        Ok(Self { text: text.trim().to_owned(), bytes, period, zone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_budget_renews_at_midnight_where_it_is_spent() {
        let day: Budget = "5Mi/day Europe/Oslo".parse().unwrap();
        assert_eq!((day.bytes, day.to_string().as_str()), (5 << 20, "5Mi/day Europe/Oslo"));
        let now = at("2026-11-24T23:30:00Z");
        assert_eq!((day.since(now), day.renews(now)), (jiff::civil::date(2026, 11, 25), at("2026-11-25T23:00:00Z")));
        let month: Budget = "200M/month".parse().unwrap();
        assert_eq!(
            (month.since(now), month.day(now)),
            (jiff::civil::date(2026, 11, 1), jiff::civil::date(2026, 11, 24))
        );
        assert_eq!(month.renews(now), at("2026-12-01T00:00:00Z"));
        // A day without midnight: Brazil's clocks once went from 23:59 to 01:00.
        let gap: Budget = "1Mi/day America/Sao_Paulo".parse().unwrap();
        assert_eq!(gap.renews(at("2018-11-03T12:00:00Z")), at("2018-11-04T03:00:00Z"));
    }

    #[test]
    fn what_is_no_budget_is_refused_in_words() {
        for (text, why) in [
            ("", "is written like"),
            ("5Mi", "is written like"),
            ("5Mi/hour", "neither day nor month"),
            ("5MB/day", "not a size"),
            ("-5Mi/day", "not a size"),
            ("99999999999Ti/day", "not a size"),
            ("5Mi/day Europe/Atlantis", "is no time zone"),
            ("5Mi/day in Oslo", "is written like"),
        ] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert_eq!(["0", "500k", "2Gi"].map(parse_size), [Ok(0), Ok(500_000), Ok(2 << 30)]);
    }
}
