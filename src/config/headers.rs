//! The `headers` table, together with the environment overrides of its entries.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use serde_json::{Map, Value};

use super::{
    AuthConfig, Config, EndpointConfig,
    header::{header_name, header_value},
    problem::shown_name,
    reader::{Reader, as_text},
};
use crate::{request::Forwarded, secret::Text};

const TABLE: &str = "headers";

/// The message about a key of `[plugin_config]` under `[plugin_config.headers]`, where TOML puts everything below that line.
const MISPLACED: &str =
    "is a key of [plugin_config], and would be sent as a header: move it above the table of headers";

/// Warns about headers that are named like a key without an underscore: they may be intended.
pub(super) fn warnings(config: &Map<String, Value>) -> Vec<String> {
    let names = config.get(TABLE).and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let keys = Config::keys();
    names
        .filter(|name| !name.contains('_') && keys.contains(&name.as_str()))
        .map(|name| format!("{TABLE}.{name} {MISPLACED}, unless it is meant as one"))
        .collect()
}

pub(super) fn read(keys: &mut Reader<'_>) -> Vec<(HeaderName, Text)> {
    let table = keys.free_table(TABLE);
    let mut headers: Vec<(HeaderName, Text)> = Vec::with_capacity(table.entries.len());
    for (name, value) in &table.entries {
        let read = header_name(name).and_then(|header| {
            if name.contains('_') && Config::keys().contains(&name.as_str()) {
                return Err(MISPLACED.to_owned());
            }
            if headers.iter().any(|(other, _)| *other == header) {
                return Err("the header is given twice: header names are case-insensitive".to_owned());
            }
            Ok((header, header_text(value)?))
        });
        match read {
            Ok(header) => headers.push(header),
            Err(why) => keys.problem(&format!("{TABLE}.{}", shown_name(name)), why),
        }
    }
    for (flat, value) in &table.overrides {
        // Environment variables cannot contain a hyphen, so an underscore stands for either.
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

/// `forward_headers`: the message headers that are sent as HTTP headers, each with its path in the configuration.
pub(super) fn read_forwarded(keys: &mut Reader<'_>) -> Vec<(String, Forwarded)> {
    let mut forwarded: Vec<(String, Forwarded)> = Vec::new();
    keys.texts("forward_headers", |path, text| {
        let key = text.resolve()?;
        let name = header_name(&key).map_err(|why| {
            // The value of a reference is not shown.
            let shown = if text.is_secret() { text.to_string() } else { shown_name(&key) };
            format!("names \"{shown}\": {why}")
        })?;
        if forwarded.iter().any(|(_, other)| other.name == name) {
            return Err(format!("names {name} twice: header names are case-insensitive"));
        }
        forwarded.push((path.to_owned(), Forwarded { key, name }));
        Ok(())
    });
    keys.declare(|key| key.can_be_secret = false);
    forwarded
}

/// Checks that nothing else sets the headers that are forwarded.
pub(super) fn check_forwarded(
    keys: &Reader<'_>,
    endpoint: &EndpointConfig,
    forwarded: &[(String, Forwarded)],
) {
    let of_auth: Vec<HeaderName> = endpoint.auth.iter().flat_map(AuthConfig::headers).collect();
    for (path, Forwarded { name, .. }) in forwarded {
        let set_by = if endpoint.headers.iter().any(|(other, _)| other == name) {
            "headers sets already: remove it from one of them".to_owned()
        } else if endpoint.idempotency_header.as_ref() == Some(name) {
            "idempotency_header sets: write another name there, or \"\" to turn it off".to_owned()
        } else if endpoint.retry_count_header.as_ref() == Some(name) {
            "retry_count_header sets: write another name there, or \"\" to turn it off".to_owned()
        } else if of_auth.contains(name) {
            "[auth] sets for each request: remove one of them".to_owned()
        } else if [CONTENT_TYPE, CONTENT_ENCODING].contains(name) {
            format!(
                "tells what the body is: write {name} = \"{{header:{name}}}\" into headers if messages say so"
            )
        } else {
            continue;
        };
        keys.problem(path, format!("names {name}, which {set_by}"));
    }
}

/// The names of the headers that the sink itself sets: `idempotency_header` and `retry_count_header`.
pub(super) fn read_own(keys: &mut Reader<'_>) -> (Option<HeaderName>, Option<HeaderName>) {
    let idempotency = read_name(keys, "idempotency_header", "Idempotency-Key");
    let retry_count = read_name(keys, "retry_count_header", "X-Retry-Count");
    if idempotency.is_some() && idempotency == retry_count {
        keys.problem(
            "retry_count_header",
            "is the name that idempotency_header has, too: write another one, or \"\" to turn it off",
        );
    }
    (idempotency, retry_count)
}

/// The name of a header that the sink itself sets; an empty one turns it off.
fn read_name(keys: &mut Reader<'_>, key: &'static str, default: &'static str) -> Option<HeaderName> {
    let name = keys.string(key, default);
    if name.is_empty() {
        return None;
    }
    header_name(&name).map_err(|why| keys.problem(key, why)).ok()
}

/// Reads a header's value. Problems do not show it, since it may be a credential.
fn header_text(value: &Value) -> Result<Text, String> {
    let text = as_text(value)?;
    header_value(&text)?;
    Ok(text)
}
