//! What the runtime makes of variables of the environment, where that can change a secret.

use serde_json::{Map, Value};

use super::header::is_credential;

/// The tables with keys that hold secrets, as flat keys begin.
const TABLES: [&str; 6] =
    ["headers_", "auth_", "proxy_", "status_", "dead_letter_headers_", "dead_letter_auth_"];

/// Warns of secrets that came as numbers: the runtime reads `0123` as 123, so that nobody knows any more what was written.
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
