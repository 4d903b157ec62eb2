//! Text by its width on the screen, and times and revisions as people say them.

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr as _;
use wickie_model::Revision;

/// How many columns `text` takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` on one line without control characters: messages come from outside, and must not steer the terminal.
pub(super) fn clean(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` in at most `most` columns, with an ellipsis where something is left out.
pub(super) fn truncate(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let (head, _) = split_at_width(text, most.saturating_sub(1));
    format!("{head}…")
}

/// `text` filled up with blanks to `columns`.
pub(super) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The lines of `text`, broken at blanks where there are any, none wider than `most`.
pub(super) fn wrap(text: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut lines = vec![String::new()];
    for word in clean(text).split(' ') {
        let mut word = word;
        let last = lines.last().map_or(0, |line| width(line));
        if last > 0 && last + 1 + width(word) > most {
            lines.push(String::new());
        }
        while width(word) > most {
            let (head, tail) = split_at_width(word, most);
            append(&mut lines, head);
            lines.push(String::new());
            word = tail;
        }
        append(&mut lines, word);
    }
    lines
}

fn append(lines: &mut [String], word: &str) {
    if let Some(line) = lines.last_mut() {
        if !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
}

/// The longest beginning of `text` that takes at most `most` columns (at least one character), and the rest.
fn split_at_width(text: &str, most: usize) -> (&str, &str) {
    let fits = |(at, c): &(usize, char)| width(&text[..at + c.len_utf8()]) <= most;
    let end = text.char_indices().take_while(fits).last().or_else(|| text.char_indices().next());
    text.split_at(end.map_or(0, |(at, c)| at + c.len_utf8()))
}

/// How long ago `then` was: `42s`, `5m`, `3h12m`, `2d4h`, `40d`. The clock may have stepped: never less than `0s`.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, rest: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{rest}"),
    };
    match (days, hours, minutes) {
        (10.., ..) => format!("{days}d"),
        (1.., ..) => two(days, "d", hours % 24, "h"),
        (_, 10.., _) => format!("{hours}h"),
        (_, 1.., _) => two(hours, "h", minutes % 60, "m"),
        (.., 2..) => format!("{minutes}m"),
        _ => format!("{seconds}s"),
    }
}

/// How long it is until `then`; `now` where it has come.
pub(super) fn until(then: Timestamp, now: Timestamp) -> String {
    if then <= now { "now".to_owned() } else { format!("in {}", age(now, then)) }
}

/// A revision as people read it: the name and ten digits.
pub(super) fn revision(text: &str) -> String {
    text.parse::<Revision>().map_or_else(|_| clean(text), |revision| revision.short())
}

/// Bytes as people read them, three digits at the most: `17 B`, `4.2 KiB`, `118 MiB`.
pub(super) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        match value {
            _ if unit == "B" && number < 1_024 => return format!("{number} B"),
            0.0..9.95 if unit != "B" => return format!("{value:.1} {unit}"),
            0.0..1_023.5 if unit != "B" => return format!("{value:.0} {unit}"),
            _ => value /= 1_024.0,
        }
    }
    format!("{value:.1} TiB")
}

/// `1 object`, `2 objects`.
pub(super) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_asked_and_lose_nothing() {
        for text in [
            "",
            "one two three four",
            "a-very-long-word-without-any-blank and more",
            "日本語のメッセージ です",
            "é̂xtra",
        ] {
            for most in 2..30 {
                let lines = wrap(text, most);
                assert!(lines.iter().all(|line| width(line) <= most), "{lines:?}");
                let joined: String = lines.concat().replace(' ', "");
                assert_eq!(joined, text.replace(' ', ""));
            }
        }
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!((truncate("abcdef", 6), truncate("abcdef", 5)), ("abcdef".into(), "abcd…".into()));
        assert_eq!(truncate("日本語", 4), "日…");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(clean("a\x1b[31m\r\nb\u{9b}c"), "a [31m b c");
    }

    #[test]
    fn bytes_are_short() {
        for (number, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (10_200, "10 KiB"),
            (1_048_000, "1023 KiB"),
            (1_048_400, "1.0 MiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        for (seconds, text) in [
            (-5, "0s"),
            (42, "42s"),
            (119, "119s"),
            (300, "5m"),
            (3_600, "1h"),
            (11_520, "3h12m"),
            (187_200, "2d4h"),
            (3_456_000, "40d"),
        ] {
            assert_eq!(age(Timestamp::from_second(10_000_000 - seconds).unwrap(), now), text);
        }
    }
}
