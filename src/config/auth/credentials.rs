//! From secrets to what is sent or signed with, and what is wrong with those that are none.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::header::HeaderValue;

/// A header for user and password (RFC 7617).
///
/// # Errors
/// There is a colon in the user.
pub(crate) fn basic_header(username: &str, password: &str) -> Result<HeaderValue, String> {
    if username.contains(':') {
        return Err(
            "holds a colon, which Basic cannot tell from the one before the password (RFC 7617)".to_owned()
        );
    }
    Ok(sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
        .expect("base64 fits into a header"))
}

/// A header for a token (RFC 6750).
///
/// # Errors
/// The token is empty, or has characters that none has.
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

/// A header's value that `Debug` does not show; `None` where it holds a control character.
pub(crate) fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The keys in a secret of Standard Webhooks.
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
        // The libraries for receivers take it without the prefix as well.
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
