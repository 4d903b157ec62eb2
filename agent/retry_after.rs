//! What a server that is busy asks for.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// How long a server asks to be left alone: seconds, or a date (RFC 9110, section 10.2.3). A date is judged by the
/// server's own clock, not by ours, which may be in 1970.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let after = header(RETRY_AFTER)?;
    if let Ok(seconds) = after.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let seconds = date(after)?.as_second() - date(header(DATE)?)?.as_second();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_or_a_date_by_the_server_s_own_clock() {
        let date = "Sun, 01 Mar 2026 04:05:06 GMT";
        for (after, seconds) in [
            ("7", Some(7)),
            (" 86400 ", Some(86_400)),
            ("Sun, 01 Mar 2026 04:05:36 GMT", Some(30)),
            ("Sun, 01 Mar 2026 04:00:00 GMT", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, after.parse().unwrap()), (DATE, date.parse().unwrap())]);
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{after}");
        }
    }
}
