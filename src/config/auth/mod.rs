//! How requests prove who sends them: the table `[auth]`.

mod check;
mod read;

use std::{fmt, path::PathBuf, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use strum::{Display, EnumString, VariantNames};

use super::Text;
pub(super) use check::{Destination, check};
pub(super) use read::read;

/// The header of Standard Webhooks that holds the identifier of a message.
pub(crate) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// The header of Standard Webhooks that holds the time of an attempt.
pub(crate) const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The header of Standard Webhooks that holds the signatures.
pub(crate) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// The header of AWS Signature Version 4 that holds the time of an attempt.
pub(crate) const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// The header of AWS Signature Version 4 that holds the SHA-256 of the body.
pub(crate) const AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// The header of AWS Signature Version 4 that holds the token of temporary credentials.
pub(crate) const AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A configured string that is a credential, or part of one. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Text);

/// How requests prove who sends them.
#[derive(Debug, Clone)]
pub enum AuthConfig {
    /// User and password (RFC 7617).
    Basic {
        /// The user, without a colon.
        username: Secret,
        /// The password; may be empty.
        password: Secret,
    },
    /// A token (RFC 6750).
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A key in a header or in the query.
    ApiKey {
        /// Where it stands.
        place: ApiKeyPlace,
        /// The key.
        value: Secret,
    },
    /// A token that a token endpoint gives for the credentials of a client (RFC 6749 section 4.4).
    OAuth2ClientCredentials(OAuth2Config),
    /// AWS Signature Version 4.
    AwsSigV4(AwsSigV4Config),
    /// Standard Webhooks: an HMAC-SHA256 over identifier, time and body.
    WebhookSignature {
        /// Secrets as `whsec_` and base64. A string may hold several, separated by white space. There is a signature with each.
        secrets: Vec<Secret>,
    },
    /// An HMAC over the body.
    Hmac(HmacConfig),
}

/// Where an API key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyPlace {
    /// In this header.
    Header(HeaderName),
    /// In this parameter of the query.
    Query(String),
}

/// Where tokens come from.
#[derive(Clone)]
pub struct OAuth2Config {
    /// The token endpoint.
    pub token_url: Text,
    /// The client.
    pub client_id: Secret,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// The scope asked for, if any.
    pub scope: Option<Text>,
    /// The audience asked for, if any.
    pub audience: Option<Text>,
    /// Further parameters of the token request.
    pub extra: Vec<(String, Secret)>,
    /// How long before its end a token is replaced.
    pub refresh_ahead: Duration,
}

impl fmt::Debug for OAuth2Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2Config")
            .field("token_url", &super::shown_url(&self.token_url))
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("extra", &self.extra)
            .field("refresh_ahead", &self.refresh_ahead)
            .finish()
    }
}

/// How a client proves to the token endpoint who it is.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// Its secret in an `Authorization` header (RFC 6749 section 2.3.1).
    Basic(Secret),
    /// Its secret in the body (RFC 6749 section 2.3.1).
    Post(Secret),
    /// A JWT signed with its private key (RFC 7523 section 2.2).
    PrivateKeyJwt {
        /// The key, as PEM.
        file: PathBuf,
    },
}

/// What AWS Signature Version 4 is computed with.
#[derive(Debug, Clone)]
pub struct AwsSigV4Config {
    /// The region; `None`: that of the environment.
    pub region: Option<Text>,
    /// The service, such as `execute-api` or `s3`.
    pub service: String,
    /// The keys; `None`: those of the environment.
    pub keys: Option<AwsKeys>,
}

/// The credentials of AWS.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Secret,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// `AWS_SESSION_TOKEN`, where the keys are temporary.
    pub session_token: Option<Secret>,
}

/// What an HMAC is computed with and how it is sent.
#[derive(Debug, Clone)]
pub struct HmacConfig {
    /// The header it is sent in.
    pub header: HeaderName,
    /// The key, as the bytes of this string.
    pub secret: Secret,
    /// The hash function.
    pub algorithm: HmacAlgorithm,
    /// How its bytes are written.
    pub encoding: HmacEncoding,
    /// What stands before it in the header.
    pub prefix: SignedTemplate,
    /// What it is computed over.
    pub signed: SignedTemplate,
}

/// The hash function of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of FIPS 180-4")]
pub enum HmacAlgorithm {
    Sha256,
    Sha1,
    Sha512,
}

/// How the bytes of an HMAC are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "lowercase")]
pub enum HmacEncoding {
    /// Lowercase hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// Text with `{body}` and `{now}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignedTemplate(Vec<SignedPart>);

/// A part of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignedPart {
    Literal(String),
    /// The bytes of the body.
    Body,
    /// The time of the attempt, in seconds since the Unix epoch.
    Now,
}

impl Secret {
    /// What it stands for now.
    ///
    /// # Errors
    /// The reference that cannot be read, by its name.
    pub fn resolve(&self) -> Result<String, String> {
        self.0.resolve()
    }

    /// The text as configured, which may name files.
    pub(crate) fn text(&self) -> &Text {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl AuthConfig {
    /// The headers that it sets.
    pub(crate) fn headers(&self) -> Vec<HeaderName> {
        match self {
            Self::Basic { .. } | Self::Bearer { .. } | Self::OAuth2ClientCredentials(_) => {
                vec![AUTHORIZATION]
            }
            Self::ApiKey { place: ApiKeyPlace::Header(name), .. } => vec![name.clone()],
            Self::ApiKey { place: ApiKeyPlace::Query(_), .. } => Vec::new(),
            Self::AwsSigV4(_) => vec![AUTHORIZATION, AMZ_DATE, AMZ_CONTENT_SHA256, AMZ_SECURITY_TOKEN],
            Self::WebhookSignature { .. } => vec![WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE],
            Self::Hmac(hmac) => vec![hmac.header.clone()],
        }
    }

    /// Whether requests carry the idempotency key in [`WEBHOOK_ID`], to be signed.
    pub(crate) fn signs_webhook_id(&self) -> bool {
        matches!(self, Self::WebhookSignature { .. })
    }
}

impl SignedTemplate {
    /// # Errors
    /// A brace that begins no placeholder.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let here = &rest[at..];
            let (part, length) = if here.starts_with("{{") || here.starts_with("}}") {
                literal.push_str(&here[..1]);
                (None, 2)
            } else if here.starts_with("{body}") {
                (Some(SignedPart::Body), "{body}".len())
            } else if here.starts_with("{now}") {
                (Some(SignedPart::Now), "{now}".len())
            } else {
                return Err(
                    "holds a brace that begins neither {body} nor {now}: write one of these, or {{ for a brace"
                        .to_owned(),
                );
            };
            if let Some(part) = part {
                if !literal.is_empty() {
                    parts.push(SignedPart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
            }
            rest = &here[length..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(SignedPart::Literal(literal));
        }
        Ok(Self(parts))
    }

    pub(crate) fn parts(&self) -> &[SignedPart] {
        &self.0
    }

    fn holds(&self, part: &SignedPart) -> bool {
        self.0.contains(part)
    }
}

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

/// Whether what is sent there can be read on the way: over plain http, to another machine.
pub(crate) fn is_readable_on_the_way(url: &Url) -> bool {
    url.scheme() == "http" && !super::url::is_loopback(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_placeholders_and_braces() {
        use SignedPart::{Body, Literal, Now};
        let parse = |template: &str| SignedTemplate::parse(template).map(|template| template.0);
        assert_eq!(parse("{body}"), Ok(vec![Body]));
        assert_eq!(parse("v0:{now}:{body}"), Ok(vec![Literal("v0:".into()), Now, Literal(":".into()), Body]));
        assert_eq!(parse("{{{now}}}"), Ok(vec![Literal("{".into()), Now, Literal("}".into())]));
        assert_eq!(parse(""), Ok(vec![]));
        for wrong in ["{", "{id}", "{now", "a}b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

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
