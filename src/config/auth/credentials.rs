//! Turns secrets into headers and keys, and reports invalid ones.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use reqwest::{Url, header::HeaderValue};

use crate::config::url::has_userinfo;

/// Creates the header for user and password (RFC 7617).
///
/// # Errors
/// The user contains a colon.
pub(crate) fn basic_header(username: &str, password: &str) -> Result<HeaderValue, String> {
    if username.contains(':') {
        return Err(
            "holds a colon, which Basic cannot tell from the one before the password (RFC 7617)".to_owned()
        );
    }
    Ok(sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
        .expect("base64 fits into a header"))
}

/// Removes user and password from a URL, where HTTP does not allow them (RFC 9110 section 4.2.4). Returns the header that
/// carries them.
///
/// # Errors
/// They cannot be sent as Basic.
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
    // This cannot fail for a URL with a host, which http URLs have.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Ok(Some(header))
}

/// Creates the header for a token (RFC 6750).
///
/// # Errors
/// The token is empty, or contains invalid characters.
pub(crate) fn bearer_header(token: &str) -> Result<HeaderValue, String> {
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds a space or a character outside of ASCII, as no token does (RFC 6750 section 2.1)"
            .to_owned());
    }
    Ok(sensitive(&format!("Bearer {token}")).expect("graphic ASCII fits into a header"))
}

/// Creates a header value that `Debug` does not show; `None` if it contains a control character.
pub(crate) fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Decodes the keys in a secret of Standard Webhooks.
///
/// # Errors
/// What is wrong with it, without the secret itself.
pub(crate) fn webhook_keys(secrets: &str) -> Result<Vec<Vec<u8>>, String> {
    let key = |secret: &str| {
        if secret.starts_with("whsk_") || secret.starts_with("whpk_") {
            return Err(
                "is a key for asymmetric signatures: only symmetric ones, whsec_…, are known here".to_owned()
            );
        }
        // The libraries for receivers accept it without the prefix as well.
        let base64 = secret.strip_prefix("whsec_").unwrap_or(secret);
        match BASE64_STANDARD.decode(base64) {
            Ok(key) if !key.is_empty() => Ok(key),
            _ => Err("is not \"whsec_\" and base64 (Standard Webhooks)".to_owned()),
        }
    };
    let keys = secrets.split_whitespace().map(key).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err("is empty".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_secrets_are_base64_and_not_shown_when_they_are_not() {
        assert_eq!(webhook_keys("whsec_AAEC\n  AwQF "), Ok(vec![vec![0, 1, 2], vec![3, 4, 5]]));
        for wrong in ["", "whsec_", "s3cr3t!", "whsk_AAEC"] {
            let why = webhook_keys(wrong).expect_err(wrong);
            assert!(wrong.is_empty() || !why.contains("s3cr3t"), "{why}");
        }
    }

    #[test]
    fn basic_and_bearer_are_as_their_standards_show_them() {
        // RFC 7617 section 2 and RFC 6750 section 2.1.
        let basic = basic_header("Aladdin", "open sesame").map(|header| header.to_str().map(str::to_owned));
        assert_eq!(basic.expect("no colon").expect("ASCII"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(basic_header("a:b", "c").is_err());
        assert_eq!(bearer_header("mF_9.B5f-4.1JqM").expect("a token"), "Bearer mF_9.B5f-4.1JqM");
        for wrong in ["", "a b", "a\nb", "ä"] {
            assert!(bearer_header(wrong).is_err(), "{wrong:?}");
        }
    }
}
