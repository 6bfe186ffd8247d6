//! Reads a time that something is wanted since.

use std::time::SystemTime;

/// Reads a time in UTC, or how long ago it was.
pub(crate) fn since(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text)
        .ok()
        .or_else(|| SystemTime::now().checked_sub(humantime::parse_duration(text).ok()?))
        .ok_or_else(|| {
            "write a time in UTC, such as 2026-08-01T12:00:00Z, or how long ago, such as 2h".to_owned()
        })
}
