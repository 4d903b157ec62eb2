//! Times at which something may happen: `Mon-Fri 22:00-04:00 Europe/Oslo`.
//!
//! A window is open when a clock on the wall of its time zone shows a time within it. What follows from that on the two
//! odd days of a year: times that the clock skips do not occur, so a window that lies wholly in the skipped hour stays
//! shut that day; times that the clock shows twice occur twice, so a window in the repeated hour opens twice.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// The form, for people who have written something else.
pub const WINDOW_FORM: &str = "it is written like \"Mon-Fri 22:00-04:00 Europe/Oslo\"; without days it is daily, without a zone UTC, and several are parted by ;";

/// How many days ahead an opening is looked for: a weekly window opens within seven, unless the clock skips it.
const DAYS_AHEAD: i32 = 16;

/// A text that is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a window: {why}")]
pub struct ParseWindowError {
    text: String,
    why: String,
}

/// Spans of the week; it is open while one of them is.
#[derive(Clone, Debug)]
pub struct Window {
    text: String,
    spans: Vec<Span>,
}

/// Days and the hours of each, in one time zone. Hours that end before they begin end on the next day.
#[derive(Clone, Debug)]
struct Span {
    /// From Monday.
    days: [bool; 7],
    from: Time,
    /// `None` is the end of the day.
    until: Option<Time>,
    zone: TimeZone,
}

/// Windows that must all be open: what the node's owner allows, and what an object asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows(Vec<Window>);

impl FromIterator<Window> for Windows {
    fn from_iter<T: IntoIterator<Item = Window>>(windows: T) -> Self {
        Self(windows.into_iter().collect())
    }
}

impl Windows {
    /// Whether there is none: always open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are open at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.0.iter().all(|window| window.is_open(now))
    }

    /// When all are open: `now` or the first moment after it. `None` if they are not within the next two weeks, as
    /// windows of different days never are.
    pub fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_open(now) {
            return Some(now);
        }
        self.edges(now).into_iter().find(|edge| self.is_open(*edge))
    }

    /// When the first of them closes: `now` where one is closed. `None` if none does within the next two weeks.
    pub fn closes(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.is_open(now) {
            return Some(now);
        }
        self.edges(now).into_iter().find(|edge| !self.is_open(*edge))
    }

    /// The moments after `now` at which one of them may open or close, in order.
    fn edges(&self, now: Timestamp) -> Vec<Timestamp> {
        let spans = self.0.iter().flat_map(|window| &window.spans);
        let mut edges: Vec<_> = spans.flat_map(|span| span.edges(now)).filter(|edge| *edge > now).collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|window| window.text.as_str()).collect();
        f.write_str(&texts.join(", and "))
    }
}

impl Window {
    /// Whether it is open at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.spans.iter().any(|span| span.is_open(now))
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Window {}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Span {
    fn is_open(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let (time, today) = (local.time(), local.date());
        let begun = time >= self.from;
        match self.until {
            None => self.is_on(today.weekday()) && begun,
            Some(until) if until > self.from => self.is_on(today.weekday()) && begun && time < until,
            Some(until) => {
                (self.is_on(today.weekday()) && begun) || (self.is_on(today.weekday().previous()) && time < until)
            }
        }
    }

    fn is_on(&self, day: Weekday) -> bool {
        self.days[day.to_monday_zero_offset() as usize]
    }

    /// Every moment from the day before `now` on at which it may open or close: its own times, and those at which the
    /// zone's clock is set.
    fn edges(&self, now: Timestamp) -> Vec<Timestamp> {
        let first = self.zone.to_datetime(now).date().saturating_sub(1.day());
        let mut edges = Vec::new();
        for ahead in 0..DAYS_AHEAD {
            let Ok(date) = first.checked_add(ahead.days()) else { break };
            self.push(date, self.from, &mut edges);
            match self.until {
                Some(until) => self.push(date, until, &mut edges),
                None => self.push(date.saturating_add(1.day()), Time::midnight(), &mut edges),
            }
        }
        let last = edges.iter().max().copied().unwrap_or(now);
        edges.extend(self.zone.following(now).map(|set| set.timestamp()).take_while(|set| *set <= last));
        edges
    }

    fn push(&self, date: Date, time: Time, edges: &mut Vec<Timestamp>) {
        let civil = DateTime::from_parts(date, time);
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => edges.extend(offset.to_timestamp(civil)),
            AmbiguousOffset::Fold { before, after } => {
                edges.extend(before.to_timestamp(civil));
                edges.extend(after.to_timestamp(civil));
            }
            // It does not occur; the moment at which the clock is set is an edge of its own.
            AmbiguousOffset::Gap { .. } => {}
        }
    }
}

impl FromStr for Window {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why: String| ParseWindowError { text: text.to_owned(), why };
        if text.len() > 1_024 {
            return Err(refused("it has more than 1,024 bytes".to_owned()));
        }
        let mut spans = Vec::new();
        for part in text.split(';') {
            spans.extend(self::spans(part).map_err(refused)?);
        }
        Ok(Self { text: text.trim().to_owned(), spans })
    }
}

/// `[DAYS] TIMES[,TIMES...] [ZONE]`
fn spans(text: &str) -> Result<Vec<Span>, String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let is_hours = |word: &&&str| word.contains(':');
    let zone = match words.pop_if(|word| !word.contains(':')) {
        Some(name) => zone(name)?,
        None => TimeZone::UTC,
    };
    let hours = words.iter().copied().filter(|word| is_hours(&word)).collect::<Vec<_>>();
    let (days, hours) = match (words.as_slice(), hours.as_slice()) {
        ([_], [hours]) => ([true; 7], *hours),
        ([days, last], [hours]) if last == hours => (self::days(days)?, *hours),
        _ => return Err(WINDOW_FORM.to_owned()),
    };
    hours
        .split(',')
        .map(|span| {
            let (from, until) = span.split_once('-').ok_or_else(|| WINDOW_FORM.to_owned())?;
            let from = time(from)?.ok_or_else(|| "24:00 is an end, and no beginning".to_owned())?;
            let until = time(until)?;
            match until == Some(from) {
                true => Err(format!("{span} opens and closes at once; the whole day is 00:00-24:00")),
                false => Ok(Span { days, from, until, zone: zone.clone() }),
            }
        })
        .collect()
}

/// `Mon`, `Mon-Fri`, `Fri-Mon`, `Mon,Wed-Thu`.
fn days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (from, until) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (day(from)?, day(until)?);
        loop {
            days[day] = true;
            if day == last {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    Ok(days)
}

fn day(text: &str) -> Result<usize, String> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let found = NAMES.iter().position(|name| name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("{text:?} is no day: they are Mon, Tue, Wed, Thu, Fri, Sat, Sun"))
}

/// `22:00`; nothing for `24:00`.
fn time(text: &str) -> Result<Option<Time>, String> {
    let refused = || format!("{text:?} is no time of day: it is written like 22:00");
    let (hour, minute) = text.split_once(':').ok_or_else(refused)?;
    let digits = |text: &str| (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse());
    let (Some(Ok(hour)), Some(Ok(minute))) = (digits(hour), digits(minute)) else { return Err(refused()) };
    match (hour, minute) {
        (24, 0) => Ok(None),
        (hour, minute) => Time::new(hour, minute, 0, 0).map(Some).map_err(|_| refused()),
    }
}

/// A time zone by its name in the IANA database.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("UTC") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| format!("{name:?} is no time zone of the IANA database, such as Europe/Oslo"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn windows(text: &str) -> Windows {
        [text.parse::<Window>().unwrap_or_else(|error| panic!("{error}"))].into_iter().collect()
    }

    #[test]
    fn over_midnight_the_night_belongs_to_the_day_on_which_it_began() {
        let night = windows("Mon-Fri 22:00-04:00 Europe/Oslo");
        // 2026-11-27 is a Friday; Oslo is an hour ahead of UTC.
        for (moment, open) in [
            ("2026-11-27T20:59:59Z", false),
            ("2026-11-27T21:00:00Z", true),
            ("2026-11-28T02:59:59Z", true),
            ("2026-11-28T03:00:00Z", false),
            ("2026-11-28T21:30:00Z", false),
            ("2026-11-30T01:00:00Z", false),
        ] {
            assert_eq!(night.is_open(at(moment)), open, "{moment}");
        }
        assert_eq!(night.opens(at("2026-11-28T12:00:00Z")), Some(at("2026-11-30T21:00:00Z")));
        assert_eq!(night.closes(at("2026-11-27T22:00:00Z")), Some(at("2026-11-28T03:00:00Z")));
        assert_eq!(night.opens(at("2026-11-27T22:00:00Z")), Some(at("2026-11-27T22:00:00Z")));
    }

    #[test]
    fn the_hour_that_is_skipped_and_the_hour_that_comes_twice() {
        // Oslo sets its clocks from 02:00 to 03:00 on 2027-03-28, and from 03:00 back to 02:00 on 2026-10-25, at 01:00 UTC.
        let skipped = windows("Sun 02:15-02:45 Europe/Oslo");
        assert_eq!(skipped.opens(at("2027-03-27T12:00:00Z")), Some(at("2027-04-04T00:15:00Z")));
        let half = windows("Sun 02:30-03:30 Europe/Oslo");
        assert_eq!(half.opens(at("2027-03-27T12:00:00Z")), Some(at("2027-03-28T01:00:00Z")));
        assert_eq!(half.closes(at("2027-03-28T01:00:00Z")), Some(at("2027-03-28T01:30:00Z")));
        let twice = windows("Sun 02:15-02:45 Europe/Oslo");
        assert_eq!(twice.opens(at("2026-10-24T22:00:00Z")), Some(at("2026-10-25T00:15:00Z")));
        assert_eq!(twice.opens(at("2026-10-25T00:45:00Z")), Some(at("2026-10-25T01:15:00Z")));
        let across = windows("Sun 02:30-04:00 Europe/Oslo");
        assert_eq!(across.closes(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T01:00:00Z")));
    }

    #[test]
    fn two_windows_must_both_be_open() {
        let both: Windows =
            ["20:00-23:00", "Mon-Fri 22:00-04:00"].map(|text| text.parse().unwrap()).into_iter().collect();
        assert_eq!(both.opens(at("2026-11-28T12:00:00Z")), Some(at("2026-11-30T22:00:00Z")));
        assert_eq!(both.closes(at("2026-11-30T22:30:00Z")), Some(at("2026-11-30T23:00:00Z")));
        let never: Windows =
            ["Mon 08:00-09:00", "Tue 08:00-09:00"].map(|text| text.parse().unwrap()).into_iter().collect();
        assert_eq!(never.opens(at("2026-11-28T12:00:00Z")), None);
        assert_eq!(Windows::default().closes(at("2026-11-28T12:00:00Z")), None);
        assert_eq!(both.to_string(), "20:00-23:00, and Mon-Fri 22:00-04:00");
    }

    #[test]
    fn several_spans_and_zones() {
        let window = windows("Sat-Sun 00:00-24:00; Mon-Fri 01:00-02:00,12:00-12:30 Asia/Kathmandu");
        assert!(window.is_open(at("2026-11-28T00:00:00Z")) && window.is_open(at("2026-11-29T23:59:59Z")));
        assert!(!window.is_open(at("2026-11-30T00:00:00Z")));
        // 12:15 there is 06:30 here.
        assert!(window.is_open(at("2026-11-30T06:30:00Z")));
        assert!(window.is_open(at("2026-11-30T19:30:00Z")));
    }

    #[test]
    fn what_is_no_window_is_refused_in_words() {
        for (text, why) in [
            ("", "is written like"),
            ("Mon-Fri", "is no time zone"),
            ("Mon-Fri Europe/Oslo", "is written like"),
            ("Mo 22:00-04:00", "is no day"),
            ("22:00", "is written like"),
            ("22:00-04", "is no time of day"),
            ("22:00-25:00", "is no time of day"),
            ("2:00-3:00", "is no time of day"),
            ("24:00-04:00", "no beginning"),
            ("04:00-04:00", "00:00-24:00"),
            ("Mon 22:00-04:00 Europe/Atlantis", "is no time zone"),
            ("Mon 22:00-04:00 Europe/Oslo UTC", "is written like"),
            ("22:00-04:00 Mon 22:00-04:00", "is written like"),
            ("22:00-04:00;", "is written like"),
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Oslo",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "Africa/Casablanca",
        "America/Sao_Paulo",
    ];

    /// Around a moment at which a zone's clock is set, where there is one.
    fn moment() -> impl Strategy<Value = (TimeZone, &'static str, Timestamp)> {
        (0..ZONES.len(), 1_420_070_400_i64..2_051_222_400, -3_i64 * 24 * 60..24 * 60).prop_map(
            |(zone, second, minutes)| {
                let (name, around) = (ZONES[zone], Timestamp::from_second(second / 60 * 60).unwrap());
                let zone = super::zone(name).unwrap();
                let set = zone.following(around).next().map_or(around, |set| set.timestamp());
                let set = Timestamp::from_second(set.as_second() / 60 * 60).unwrap();
                (zone, name, set.saturating_add(minutes.minutes()).unwrap())
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Minute by minute, what `opens` and `closes` say is what a clock on the wall shows.
        #[test]
        fn edges_are_where_the_clock_on_the_wall_says((zone, name, now) in moment(), days in 1_u8..128, from in 0_u16..1_440, length in 1_u16..1_440) {
            let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let listed: Vec<_> = (0..7).filter(|day| days & (1 << day) != 0).map(|day| names[day]).collect();
            let until = (from + length) % 1_440;
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let text = format!("{} {}-{} {name}", listed.join(","), clock(from), clock(until));
            let window = windows(&text);
            let shown = |at: Timestamp| {
                let local = zone.to_datetime(at);
                let minute = local.hour() as u16 * 60 + local.minute() as u16;
                let day = local.weekday().to_monday_zero_offset() as usize;
                let on = |day: usize| days & (1 << (day % 7)) != 0;
                match from < until {
                    true => on(day) && (from..until).contains(&minute),
                    false => (on(day) && minute >= from) || (on(day + 6) && minute < until),
                }
            };
            let minutes = (0..15 * 1_440).map(|minute: i64| now.saturating_add(minute.minutes()).unwrap());
            prop_assert_eq!(window.is_open(now), shown(now));
            prop_assert_eq!(window.opens(now), minutes.clone().find(|at| shown(*at)), "{}", text);
            prop_assert_eq!(window.closes(now), minutes.clone().find(|at| !shown(*at)), "{}", text);
        }
    }
}
