//! How requests authenticate: the table `[auth]`.

mod check;
mod credentials;
mod read;
mod template;

use std::{fmt, path::PathBuf, time::Duration};

use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderName},
};
use strum::{Display, EnumString, VariantNames};

use super::Text;
use crate::secret::MASK;
pub(super) use check::{Destination, check};
pub(crate) use credentials::{basic_header, bearer_header, sensitive, take_userinfo, webhook_keys};
pub(super) use read::read;
pub(crate) use template::SignedPart;
pub use template::SignedTemplate;

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

/// How requests authenticate.
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
        /// Where it is sent.
        location: ApiKeyLocation,
        /// The key.
        value: Secret,
    },
    /// A token that a token endpoint grants for the credentials of a client (RFC 6749 section 4.4).
    OAuth2ClientCredentials(OAuth2Config),
    /// AWS Signature Version 4.
    AwsSigV4(AwsSigV4Config),
    /// Standard Webhooks: an HMAC-SHA256 over identifier, time and body.
    WebhookSignature {
        /// Secrets as `whsec_` and base64. A string may contain several, separated by white space. Each makes one signature.
        secrets: Vec<Secret>,
    },
    /// An HMAC over the body.
    Hmac(HmacConfig),
}

/// Where an API key is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyLocation {
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
    /// How the client authenticates.
    pub client_auth: ClientAuth,
    /// The scope asked for, if any.
    pub scope: Option<Text>,
    /// The audience asked for, if any.
    pub audience: Option<Text>,
    /// Further parameters of the token request.
    pub extra: Vec<(String, Secret)>,
    /// How long before it expires a token is replaced.
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

/// How a client authenticates to the token endpoint.
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

/// AWS credentials.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Secret,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// `AWS_SESSION_TOKEN`, if the keys are temporary.
    pub session_token: Option<Secret>,
}

impl AwsKeys {
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        [&self.access_key_id, &self.secret_access_key].into_iter().chain(&self.session_token)
    }
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
    /// The encoding of its bytes.
    pub encoding: HmacEncoding,
    /// The text before it in the header.
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

/// The encoding of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "lowercase")]
pub enum HmacEncoding {
    /// Lowercase hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl Secret {
    /// Returns its current value.
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
        f.write_str(MASK)
    }
}

impl AuthConfig {
    /// The headers that it sets.
    pub(crate) fn headers(&self) -> Vec<HeaderName> {
        match self {
            Self::Basic { .. } | Self::Bearer { .. } | Self::OAuth2ClientCredentials(_) => {
                vec![AUTHORIZATION]
            }
            Self::ApiKey { location: ApiKeyLocation::Header(name), .. } => vec![name.clone()],
            Self::ApiKey { location: ApiKeyLocation::Query(_), .. } => Vec::new(),
            Self::AwsSigV4(_) => vec![AUTHORIZATION, AMZ_DATE, AMZ_CONTENT_SHA256, AMZ_SECURITY_TOKEN],
            Self::WebhookSignature { .. } => vec![WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE],
            Self::Hmac(hmac) => vec![hmac.header.clone()],
        }
    }

    /// Everything that is configured as a credential, or part of one.
    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { username, password } => vec![username, password],
            Self::Bearer { token: secret } | Self::ApiKey { value: secret, .. } => vec![secret],
            Self::OAuth2ClientCredentials(oauth2) => {
                let of_client = match &oauth2.client_auth {
                    ClientAuth::Basic(secret) | ClientAuth::Post(secret) => Some(secret),
                    ClientAuth::PrivateKeyJwt { .. } => None,
                };
                let extra = oauth2.extra.iter().map(|(_, value)| value);
                [&oauth2.client_id].into_iter().chain(of_client).chain(extra).collect()
            }
            Self::AwsSigV4(aws) => aws.keys.iter().flat_map(AwsKeys::secrets).collect(),
            Self::WebhookSignature { secrets } => secrets.iter().collect(),
            Self::Hmac(hmac) => vec![&hmac.secret],
        }
    }

    /// Whether requests carry the idempotency key in [`WEBHOOK_ID`], to be signed.
    pub(crate) fn signs_webhook_id(&self) -> bool {
        matches!(self, Self::WebhookSignature { .. })
    }
}

/// Whether others can read what is sent there: over plain http, to another machine.
pub(crate) fn is_readable_on_the_way(url: &Url) -> bool {
    url.scheme() == "http" && !super::url::is_loopback(url)
}
