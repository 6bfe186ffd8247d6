//! Durations and sizes as people write them.

use std::time::Duration;

use serde_json::Value;

use super::problem::shown_value;

/// The longest duration of any key: clocks cannot represent much more, and nobody needs more.
pub(super) const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Reads a humantime duration such as `"500ms"` or `"1m 30s"`, of at most 10 years.
///
/// # Errors
/// The given value, and how a duration is written; a bare number has no unit and is refused.
pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    let shown = shown_value(value);
    match value {
        Value::String(text) => match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration > LONGEST => {
                Err(format!("{shown} is too long: write at most 10 years (3650d)"))
            }
            Ok(duration) => Ok(duration),
            Err(why) => Err(format!(
                "{shown} is not a duration ({why}): write a number and a unit, such as \"500ms\", \"30s\" or \"1m 30s\""
            )),
        },
        Value::Number(number) => {
            Err(format!("{number} has no unit: write a duration such as \"{number}s\" or \"{number}ms\""))
        }
        _ => Err(format!("{shown} is not a duration: write one such as \"500ms\", \"30s\" or \"1m 30s\"")),
    }
}

/// Reads a size in bytes: a whole number, or a string such as `"10 MiB"`.
///
/// # Errors
/// The given value, and how a size is written.
pub(super) fn size(value: &Value) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{} is not a size: write a number of bytes or a string such as \"64 KiB\" or \"10 MiB\"",
            shown_value(value)
        )
    };
    match value {
        Value::Number(number) => number.as_u64().ok_or_else(wrong),
        Value::String(text) => {
            text.trim().parse::<bytesize::ByteSize>().map(|size| size.0).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_humantime_strings() {
        assert_eq!(duration(&json!("500ms")), Ok(Duration::from_millis(500)));
        assert_eq!(duration(&json!("1m 30s")), Ok(Duration::from_secs(90)));
        assert_eq!(duration(&json!(" 2s ")), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn a_duration_without_a_unit_says_how_to_write_it() {
        assert!(duration(&json!(30)).is_err_and(|message| message.contains("\"30s\"")));
        assert!(duration(&json!("soon")).is_err_and(|message| message.contains("\"soon\"")));
        assert!(duration(&json!("-1s")).is_err());
        assert!(duration(&json!(["1s"])).is_err());
    }

    #[test]
    fn a_duration_is_at_most_10_years() {
        assert_eq!(duration(&json!("3650d")), Ok(LONGEST));
        for long in ["3650d 1ns", "11years", "300years", "500000000000years"] {
            assert!(duration(&json!(long)).is_err_and(|message| message.contains(long)), "{long}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_strings_with_a_unit() {
        assert_eq!(size(&json!(10_485_760)), Ok(10_485_760));
        assert_eq!(size(&json!("10 MiB")), Ok(10 * 1024 * 1024));
        assert_eq!(size(&json!("1MB")), Ok(1_000_000));
        assert_eq!(size(&json!("123")), Ok(123));
    }

    #[test]
    fn negative_fractional_and_nameless_sizes_are_refused() {
        for wrong in [json!(-1), json!(1.5), json!("lots"), json!(true), json!("-1")] {
            assert!(size(&wrong).is_err(), "{wrong}");
        }
    }
}
