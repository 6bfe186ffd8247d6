//! Warns about environment overrides that the runtime may have changed.

use serde_json::{Map, Value};

use super::header::is_credential;

/// The tables with keys that contain secrets, as prefixes of flat keys.
const TABLES: [&str; 6] =
    ["headers_", "auth_", "proxy_", "status_", "dead_letter_headers_", "dead_letter_auth_"];

/// Warns about secrets that arrived as numbers: the runtime reads `0123` as 123, so it is no longer known what was written.
pub(super) fn warnings(config: &Map<String, Value>) -> Vec<String> {
    let is_secret = |key: &str| {
        TABLES
            .iter()
            .any(|table| key.strip_prefix(table).is_some_and(|name| *table == "auth_" || is_credential(name)))
    };
    let numbers =
        config.iter().filter(|(key, value)| value.is_number() && is_secret(&key.to_ascii_lowercase()));
    numbers
        .map(|(key, _)| {
            format!(
                "{key} came as a number: the Iggy runtime reads a variable of digits as one, and zeros at its beginning are lost; \
                write ${{env:NAME}} or ${{file:/path}} into the file instead of the variable"
            )
        })
        .collect()
}
