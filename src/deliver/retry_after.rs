//! `Retry-After` (RFC 9110, 10.2.3): pure parsing, nothing else.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Returns how long an answer asks to wait, in either form: seconds, or a date. A date in the past is zero. `None` if there
/// is no such header, or it cannot be parsed.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit mean an endless wait, which the cap limits.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn asked(value: &str, now: SystemTime) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).expect("a header value"));
        retry_after(&headers, now)
    }

    #[test]
    fn seconds_are_read() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(asked("0", now), Some(Duration::ZERO));
        assert_eq!(asked(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(asked("99999999999999999999999", now), Some(Duration::MAX));
    }

    #[test]
    fn dates_are_read_against_the_clock() {
        let noon = httpdate::parse_http_date("Fri, 31 Dec 1999 12:00:00 GMT").expect("a date");
        assert_eq!(asked("Fri, 31 Dec 1999 12:01:30 GMT", noon), Some(Duration::from_secs(90)));
        assert_eq!(asked("Fri, 31 Dec 1999 11:00:00 GMT", noon), Some(Duration::ZERO));
    }

    #[test]
    fn what_cannot_be_read_asks_for_nothing() {
        for value in ["", "soon", "-1", "1.5", "1 minute"] {
            assert_eq!(asked(value, SystemTime::now()), None, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }
}
