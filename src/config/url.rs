//! The endpoint's URL and what it may be.

use super::{Text, reader::Reader};

pub(super) fn read_url(keys: &mut Reader<'_>) -> Text {
    let hint = "the endpoint to send to, such as \"https://example.com/ingest\"";
    keys.required_text("url", hint, checked_url)
}

/// # Errors
/// What is wrong with a URL, with the URL as configured.
pub(super) fn checked_url(text: &Text) -> Result<(), String> {
    let Err(why) = endpoint_url(&text.resolve()?) else { return Ok(()) };
    // What is wrong with it may be part of a secret.
    let why = if text.is_secret() { "does not resolve to an http or https URL".to_owned() } else { why };
    Err(format!("\"{}\" {why}", without_userinfo(&text.to_string())))
}

/// An endpoint as it may be shown: without user, password and query, and with secrets by their names.
pub(crate) fn shown_url(text: &Text) -> String {
    let configured = text.to_string();
    let end = configured.find(['?', '#']).unwrap_or(configured.len());
    without_userinfo(&configured[..end])
}

/// A URL as configured, with user and password replaced by `***`: it can be written in a log.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Reads an endpoint's URL.
///
/// # Errors
/// What is wrong with it, without the URL itself, which may hold a secret.
pub(crate) fn endpoint_url(url: &str) -> Result<reqwest::Url, String> {
    if url.trim().is_empty() {
        return Err(
            "is empty: write the endpoint to send to, such as \"https://example.com/ingest\"".to_owned()
        );
    }
    let parsed = reqwest::Url::parse(url)
        .map_err(|why| format!("is not a URL ({why}): write one such as \"https://example.com/ingest\""))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        scheme => Err(format!("has the scheme \"{scheme}\": only http and https are allowed")),
    }
}
