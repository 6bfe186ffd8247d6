//! An HMAC over the body, as many webhooks use it in one form or another.

use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::Extensions;
use reqwest::{Request, Response, header::HeaderValue};
use reqwest_middleware::{Middleware, Next, Result};
use ring::hmac;

use super::{exchange::body, rotating::Rotating};
use crate::{
    config::{
        HmacAlgorithm, HmacConfig, HmacEncoding,
        auth::{SignedPart, sensitive},
    },
    world::World,
};

/// Sends an HMAC in a header.
#[derive(Debug)]
pub(super) struct Hmac {
    config: HmacConfig,
    key: Rotating<hmac::Key>,
    world: World,
}

impl Hmac {
    pub(super) fn new(config: &HmacConfig, world: &World) -> std::result::Result<Self, String> {
        let algorithm = match config.algorithm {
            HmacAlgorithm::Sha256 => hmac::HMAC_SHA256,
            HmacAlgorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            HmacAlgorithm::Sha512 => hmac::HMAC_SHA512,
        };
        let secret = config.secret.clone();
        let key = Rotating::new(vec![secret.text().clone()], move || match secret.resolve()? {
            empty if empty.is_empty() => Err("secret is empty".to_owned()),
            secret => Ok(hmac::Key::new(algorithm, secret.as_bytes())),
        })?;
        Ok(Self { config: config.clone(), key, world: world.clone() })
    }

    /// Returns the header for a body that is sent in this second since the Unix epoch.
    fn signature(&self, key: &hmac::Key, body: &[u8], now: u64) -> HeaderValue {
        let now = now.to_string();
        let mut signing = hmac::Context::with_key(key);
        for part in self.config.signed.parts() {
            match part {
                SignedPart::Literal(literal) => signing.update(literal.as_bytes()),
                SignedPart::Body => signing.update(body),
                SignedPart::Now => signing.update(now.as_bytes()),
            }
        }
        let mut header = String::new();
        for part in self.config.prefix.parts() {
            match part {
                SignedPart::Literal(literal) => header.push_str(literal),
                SignedPart::Now => header.push_str(&now),
                SignedPart::Body => {}
            }
        }
        let tag = signing.sign();
        match self.config.encoding {
            HmacEncoding::Hex => push_hex(&mut header, tag.as_ref()),
            HmacEncoding::Base64 => BASE64_STANDARD.encode_string(tag.as_ref(), &mut header),
        }
        sensitive(&header).expect("the prefix was checked, and what follows is ASCII")
    }
}

/// Appends lowercase hexadecimal digits.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

/// Returns the present time in seconds since the Unix epoch.
pub(super) fn unix_seconds(world: &World) -> u64 {
    // A clock before 1970 counts as 1970.
    world.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[async_trait]
impl Middleware for Hmac {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let key = self.key.current();
        let signature = self.signature(&key, body(&request), unix_seconds(&self.world));
        request.headers_mut().insert(&self.config.header, signature);
        self.key.answered(&key, next.run(request, extensions).await)
    }
}
