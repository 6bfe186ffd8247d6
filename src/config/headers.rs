//! The `headers` table, together with the environment overrides of its entries.

use reqwest::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};

use super::{
    problem::shown_name,
    reader::{Reader, as_text},
    secret::Text,
};

const TABLE: &str = "headers";

/// Headers that frame the body: a wrong one would cut requests off or join them.
const OWN: [HeaderName; 2] = [CONTENT_LENGTH, TRANSFER_ENCODING];

pub(super) fn read(keys: &mut Reader<'_>) -> Vec<(HeaderName, Text)> {
    let table = keys.free_table(TABLE);
    let mut headers: Vec<(HeaderName, Text)> = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        let read = header_name(name).and_then(|header| {
            if headers.iter().any(|(other, _)| *other == header) {
                return Err("the header is there twice: names of headers do not differ by case".to_owned());
            }
            Ok((header, header_text(value)?))
        });
        match read {
            Ok(header) => headers.push(header),
            Err(why) => keys.problem(&format!("{TABLE}.{}", shown_name(name)), why),
        }
    }
    for (flat, value) in &table.overrides {
        // Environment variables cannot hold a hyphen, so an underscore stands for either.
        let name = headers
            .iter()
            .map(|(name, _)| name)
            .find(|name| name.as_str().replace('-', "_") == flat.to_ascii_lowercase())
            .map_or_else(|| header_name(&flat.replace('_', "-")), |name| Ok(name.clone()));
        match name.and_then(|name| Ok((name, header_text(value)?))) {
            Ok((name, text)) => match headers.iter_mut().find(|(other, _)| *other == name) {
                Some((_, configured)) => *configured = text,
                None => headers.push((name, text)),
            },
            Err(why) => keys.problem(&format!("{TABLE}_{}", shown_name(flat)), why),
        }
    }
    headers
}

/// The name of a header that the sink itself sets; an empty one turns it off.
pub(super) fn read_name(
    keys: &mut Reader<'_>,
    key: &'static str,
    default: &'static str,
) -> Option<HeaderName> {
    let name = keys.string(key, default);
    if name.is_empty() {
        return None;
    }
    header_name(&name).map_err(|why| keys.problem(key, why)).ok()
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        // It is not shown: who puts a whole header there shows its value with it.
        "is not a name of a header: letters, digits and !#$%&'*+-.^_`|~ are allowed (RFC 9110, 5.1)"
            .to_owned()
    })?;
    if OWN.contains(&header) {
        return Err("is set by the sink for each body: remove it".to_owned());
    }
    Ok(header)
}

/// Words in the names of headers whose values are credentials.
const CREDENTIALS: [&str; 12] = [
    "auth",
    "bearer",
    "cookie",
    "credential",
    "key",
    "pass",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
    "jwt",
];

/// Whether a header or key of this name holds a credential, as far as names tell.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|word| name.contains(word))
}

/// Reads a header's value. Problems do not show it, since it may be a credential.
fn header_text(value: &serde_json::Value) -> Result<Text, String> {
    let text = as_text(value)?;
    header_value(&text)?;
    Ok(text)
}

/// The value to send, marked so that `Debug` does not show it.
///
/// # Errors
/// The secret that cannot be read, or that its text does not fit into a header.
pub(crate) fn header_value(text: &Text) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&text.resolve()?)
        .map_err(|_| "the value holds a control character, such as a line break: remove it".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
