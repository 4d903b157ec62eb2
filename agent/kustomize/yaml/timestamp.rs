//! Dates and times in unquoted text.
//!
//! go-yaml version 3 reads a few forms of timestamp (`parseTimestamp` in its `resolve.go`), and Go's JSON encoder
//! writes them as RFC 3339. So `since: 2001-1-2` leaves kustomize as `2001-01-02T00:00:00Z`.

/// The RFC 3339 form of `text`, if go-yaml takes it for a timestamp.
pub fn parse(text: &str) -> Option<String> {
    let (year, rest) = digits(text, 4, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 1, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let zoned = match rest.chars().next()? {
        'T' | 't' => true,
        ' ' => false,
        _ => return None,
    };
    let (hour, rest) = digits(&rest[1..], 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 1, 2)?;
    let (second, rest) = digits(rest.strip_prefix(':')?, 1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let zone = if zoned { zone(rest)? } else { rest.is_empty().then(|| "Z".to_owned())? };
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
}

fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    Some((text[..count].parse().ok()?, &text[count..]))
}

/// A fraction of a second without trailing noughts, as Go prints it: nine digits at most.
fn fraction(text: &str) -> Option<(String, &str)> {
    let Some(after) = text.strip_prefix(['.', ',']) else {
        return Some((String::new(), text));
    };
    let count = after.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return None;
    }
    let kept = after[..count.min(9)].trim_end_matches('0');
    let shown = if kept.is_empty() { String::new() } else { format!(".{kept}") };
    Some((shown, &after[count..]))
}

fn zone(text: &str) -> Option<String> {
    if text == "Z" {
        return Some("Z".to_owned());
    }
    let bytes = text.as_bytes();
    let [b'+' | b'-', h1, h2, b':', m1, m2] = bytes else {
        return None;
    };
    if ![h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (u32, u32) = (text[1..3].parse().ok()?, text[4..6].parse().ok()?);
    if hours > 24 || minutes > 60 {
        return None;
    }
    Some(if hours == 0 && minutes == 0 { "Z".to_owned() } else { text.to_owned() })
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_forms_that_go_yaml_knows() {
        assert_eq!(parse("2001-1-2").as_deref(), Some("2001-01-02T00:00:00Z"));
        assert_eq!(parse("2001-12-14t21:59:43.10-05:00").as_deref(), Some("2001-12-14T21:59:43.1-05:00"));
        assert_eq!(parse("2001-12-14 21:59:43").as_deref(), Some("2001-12-14T21:59:43Z"));
        assert_eq!(parse("2001-02-30"), None);
        assert_eq!(parse("2001-12-14 21:59:43.10 -5"), None);
        assert_eq!(parse("20011-1-1"), None);
    }
}
