//! The endpoint's URL, and the rules for it.

use reqwest::Url;
use url::Host;

use super::{Text, reader::Reader};

pub(super) fn read_url(keys: &mut Reader<'_>) -> Text {
    let hint = "the endpoint to send to, such as \"https://example.com/ingest\"";
    keys.required_text("url", hint, checked_url)
}

/// # Errors
/// What is wrong with a URL, without the URL: any part of it can contain a secret.
pub(super) fn checked_url(text: &Text) -> Result<(), String> {
    let Err(why) = endpoint_url(&text.resolve()?) else { return Ok(()) };
    // The error text may contain part of a secret.
    Err(if text.is_secret() { format!("{text} does not resolve to an http or https URL") } else { why })
}

/// Returns an endpoint as it may be shown: scheme, host and port, with secrets by their names. User and password are
/// credentials, and many services have one in the path or the query.
pub(crate) fn shown_url(text: &Text) -> String {
    let configured = text.configured();
    let scheme = configured.split_once("://").filter(|(scheme, _)| !scheme.contains("${"));
    let Some((scheme, rest)) = scheme else { return text.to_string() };
    let authority = &rest[..find(rest, &['/', '\\', '?', '#']).unwrap_or(rest.len())];
    let mut host = authority;
    while let Some(at) = find(host, &['@']) {
        host = &host[at + 1..];
    }
    format!("{scheme}://{host}")
}

/// Returns the position of the first of these characters outside of references to secrets.
fn find(text: &str, wanted: &[char]) -> Option<usize> {
    let mut from = 0;
    loop {
        let found = from + text[from..].find(wanted)?;
        match text[from..found].find("${") {
            Some(reference) => {
                let reference = from + reference;
                from = reference + text[reference..].find('}')? + 1;
            }
            None => return Some(found),
        }
    }
}

/// Schemes that may have been intended. Any other text before a colon may be a user, followed by the password.
const OTHER_SCHEMES: [&str; 12] =
    ["amqp", "file", "ftp", "grpc", "grpcs", "kafka", "mqtt", "tcp", "udp", "unix", "ws", "wss"];

/// Parses an endpoint's URL strictly: a parser for browsers would repair `http:user:password@host`, and code that shows URLs
/// would not find the password in it.
///
/// # Errors
/// What is wrong with it, without the URL itself, which may contain a secret.
pub(crate) fn endpoint_url(url: &str) -> Result<Url, String> {
    const SUCH: &str = "write one such as \"https://example.com/ingest\"";
    let url = url.trim();
    if url.is_empty() {
        return Err(
            "is empty: write the endpoint to send to, such as \"https://example.com/ingest\"".to_owned()
        );
    }
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let scheme = scheme.to_ascii_lowercase();
    if OTHER_SCHEMES.contains(&scheme.as_str()) {
        return Err(format!("has the scheme \"{scheme}\": only http and https are allowed"));
    }
    if !["http", "https"].contains(&scheme.as_str()) {
        return Err(format!("is not a URL of http or https: {SUCH}"));
    }
    let authority = rest.strip_prefix("//").filter(|rest| !rest.starts_with(['/', '\\', '?', '#']));
    let Some(authority) = authority.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default()) else {
        return Err(format!("has no \"//\" and a host behind \"{scheme}:\": {SUCH}"));
    };
    if authority.contains(|c: char| c == '\\' || c.is_control() || c.is_whitespace()) {
        return Err(format!("has a backslash, white space or a control character before its path: {SUCH}"));
    }
    Url::parse(url).map_err(|why| format!("is not a URL ({why}): {SUCH}"))
}

/// Whether there is a user or a password in a URL.
pub(super) fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether the host of a URL is a name or address of loopback.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_scheme_host_and_port_are_shown() -> Result<(), String> {
        for (url, shown) in [
            ("https://example.com/services/T0/B0/secret", "https://example.com"),
            ("http://user:p@ss@example.com:8080?token=secret#x", "http://example.com:8080"),
            ("http://[::1]:9/secret", "http://[::1]:9"),
            ("https://${env:USER_AND_PASSWORD}@example.com/${file:/a/b}", "https://example.com"),
            ("https://${file:/run/secrets/host}:1/secret", "https://${file:/run/secrets/host}:1"),
            ("${env:URL}", "${env:URL}"),
            ("${env:BASE}/secret", "${env:BASE}***"),
            ("${env:SCHEME}://user:secret@host", "${env:SCHEME}***"),
            ("nonsense", "***"),
            ("", ""),
        ] {
            assert_eq!(shown_url(&Text::parse(url)?), shown, "{url}");
        }
        Ok(())
    }

    #[test]
    fn a_url_is_taken_to_the_letter() {
        for url in ["http://h", "HTTPS://h/", " http://u:p@h:1/x?y=\\z ", "http://h?x", "http://[::1]/"] {
            assert!(endpoint_url(url).is_ok(), "{url}");
        }
        for url in [
            "http:user:hunter2@h",
            "http:/user:hunter2@h",
            "http:\\\\user:hunter2@h",
            "http:///user:hunter2@h",
            "http:/\\user:hunter2@h",
            "http://\\user:hunter2@h",
            "http://user:hunter2\\@h",
            "http://user:hun\tter2@h",
            "ht\ntp://user:hunter2@h",
            "user:hunter2@h",
            "hunter2",
            "http://user:hunter2@h:port",
            "http://user:hunter2@",
            "ftp://user:hunter2@h",
        ] {
            let why = endpoint_url(url).expect_err(url);
            assert!(!why.contains("hun") && !why.contains("user"), "{url}: {why}");
        }
    }
}
