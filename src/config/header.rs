//! The rules for names and values of headers, and which headers contain credentials.

use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::secret::Text;

/// Headers that belong to the connection or frame the body (RFC 9110 section 7.6.1, RFC 9112 section 6): a wrong one would
/// truncate requests, join them, or send them elsewhere.
const OWN: [HeaderName; 12] = [
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    HOST,
    CONNECTION,
    UPGRADE,
    TE,
    TRAILER,
    EXPECT,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Reads the name of a header.
///
/// # Errors
/// It is invalid, or the name of a header that users must not set.
pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        // The text is not shown: if somebody wrote a whole header there, it contains the value.
        "is not a name of a header: letters, digits and !#$%&'*+-.^_`|~ are allowed (RFC 9110, 5.1)"
            .to_owned()
    })?;
    if OWN.contains(&header) {
        let why = match header.as_str() {
            "host" => "is that of url, and set by the sink: remove it",
            "proxy-authorization" => "would go to the endpoint: write proxy.username and proxy.password",
            "content-length" | "transfer-encoding" => "is set by the sink for each body: remove it",
            _ => "belongs to the connection and is set by the sink, if at all: remove it",
        };
        return Err(format!("{header} {why}"));
    }
    Ok(header)
}

/// Words in the names of headers and parameters whose values are credentials.
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

/// Whether a header, parameter or key contains a credential, judged by its name.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // An idempotency key is not a credential.
    CREDENTIALS.iter().any(|word| name.contains(word)) && !name.contains("idempotency")
}

/// Resolves the value to send, marked so that `Debug` does not show it.
///
/// # Errors
/// A secret cannot be read, or the text does not fit into a header.
pub(crate) fn header_value(text: &Text) -> Result<HeaderValue, String> {
    header_value_of(&text.resolve()?)
}

/// The same for plain text.
///
/// # Errors
/// It does not fit into a header.
pub(crate) fn header_value_of(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "the value holds a control character, such as a line break: remove it".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
