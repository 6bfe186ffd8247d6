//! The canonical form of a request, which both ends compute the signature over.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Request, Url,
    header::{CONTENT_TYPE, HOST},
};

/// All but what RFC 3986 section 2.3 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// What S3 does not encode again.
const RESERVED_IN_WRITTEN_PATH: &AsciiSet = &RESERVED_IN_PATH.remove(b'%');

/// Encodes characters that a URL may leave unencoded and the canonical form may not. Some services treat a plus as a space or
/// decode before they compare, and others do not: with this encoding, all agree.
pub(super) fn write_strictly(url: &mut Url, is_s3: bool) {
    let is_strict = |c: u8| c.is_ascii_alphanumeric() || b"-._~%".contains(&c);
    if url.query().is_some_and(|query| !query.bytes().all(|c| is_strict(c) || b"=&".contains(&c))) {
        let pairs: Vec<String> = url
            .query_pairs()
            .map(|(name, value)| format!("{}={}", encoded(&name), encoded(&value)))
            .collect();
        url.set_query(Some(&pairs.join("&")));
    }
    if is_s3 && !url.path().bytes().all(|c| is_strict(c) || c == b'/') {
        let path = utf8_percent_encode(url.path(), RESERVED_IN_WRITTEN_PATH).to_string();
        url.set_path(&path);
    }
}

/// Returns the canonical form, and the names of the headers in it.
///
/// The host, the type of the body and AWS's own headers are signed: proxies may change other headers.
pub(super) fn request(request: &Request, is_s3: bool, body_hash: &str) -> (String, String) {
    let url = request.url();
    let mut headers: Vec<(&str, Cow<'_, str>)> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name == HOST || *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-"))
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    if !request.headers().contains_key(HOST) {
        headers.push((HOST.as_str(), host(url).into()));
    }
    headers.sort_by_key(|(name, _)| *name);
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!("{}\n{}\n{}\n", request.method(), path(url, is_s3), query(url));
    for (name, value) in headers {
        canonical.push_str(name);
        canonical.push(':');
        for (index, word) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                canonical.push(' ');
            }
            canonical.push_str(word);
        }
        canonical.push('\n');
    }
    canonical.push('\n');
    canonical.push_str(&names);
    canonical.push('\n');
    canonical.push_str(body_hash);
    (canonical, names)
}

/// The host as the client sends it: with its port, unless that is the default.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Every service except S3 encodes the encoded path once more, and treats several slashes as one.
fn path(url: &Url, is_s3: bool) -> String {
    if is_s3 {
        return url.path().to_owned();
    }
    let mut path = String::with_capacity(url.path().len());
    for c in url.path().chars() {
        if !(c == '/' && path.ends_with('/')) {
            path.push(c);
        }
    }
    utf8_percent_encode(&path, RESERVED_IN_PATH).to_string()
}

/// Sorted by name and then by value, both encoded.
fn query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (encoded(&name), encoded(&value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
