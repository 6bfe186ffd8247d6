//! The endpoint's URL and what it may be.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use reqwest::{Url, header::HeaderValue};
use url::Host;

use super::{Text, auth::basic_header, reader::Reader};

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
pub(crate) fn endpoint_url(url: &str) -> Result<Url, String> {
    if url.trim().is_empty() {
        return Err(
            "is empty: write the endpoint to send to, such as \"https://example.com/ingest\"".to_owned()
        );
    }
    let parsed = Url::parse(url)
        .map_err(|why| format!("is not a URL ({why}): write one such as \"https://example.com/ingest\""))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        scheme => Err(format!("has the scheme \"{scheme}\": only http and https are allowed")),
    }
}

/// Whether there is a user or a password in a URL.
pub(super) fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Takes user and password out of a URL: HTTP has no place for them in it (RFC 9110 section 4.2.4). Returns the header
/// that holds them.
///
/// # Errors
/// They are nothing that Basic can send.
pub(crate) fn take_userinfo(url: &mut Url) -> Result<Option<HeaderValue>, String> {
    if !has_userinfo(url) {
        return Ok(None);
    }
    let decoded = |part: &str| {
        let text = percent_decode_str(part).decode_utf8();
        text.map(Cow::into_owned).map_err(|_| "is not UTF-8".to_owned())
    };
    let header = decoded(url.username())
        .and_then(|user| basic_header(&user, &decoded(url.password().unwrap_or_default())?))
        .map_err(|why| format!("holds a user or a password that {why}"))?;
    // A URL with a host, as those of http have, can do without them.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Ok(Some(header))
}

/// Whether a URL leads to this machine by its very name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
