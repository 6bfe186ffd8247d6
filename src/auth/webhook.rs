//! Standard Webhooks (<https://www.standardwebhooks.com>): identifier, time and body, signed.

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::Extensions;
use reqwest::{Request, Response, header::HeaderValue};
use reqwest_middleware::{Middleware, Next, Result};
use ring::hmac;

use super::{exchange::body, hmac::unix_seconds, rotating::Rotating};
use crate::{
    config::{
        Secret,
        auth::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, sensitive, webhook_keys},
    },
    world::World,
};

/// The identifier of a request without messages, which has no idempotency key.
const HEALTH_CHECK: &str = "health-check";

/// Signs requests with each of its secrets, so that a receiver can change from one to the next.
#[derive(Debug)]
pub(super) struct WebhookSignature {
    keys: Rotating<Vec<hmac::Key>>,
    world: World,
}

impl WebhookSignature {
    pub(super) fn new(secrets: &[Secret], world: &World) -> std::result::Result<Self, String> {
        let texts = secrets.iter().map(|secret| secret.text().clone()).collect();
        let secrets = secrets.to_vec();
        let keys = Rotating::new(texts, move || {
            let mut keys = Vec::new();
            for secret in &secrets {
                let of_secret =
                    webhook_keys(&secret.resolve()?).map_err(|why| format!("secrets: one {why}"))?;
                keys.extend(of_secret.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)));
            }
            Ok(keys)
        })?;
        Ok(Self { keys, world: world.clone() })
    }
}

/// Returns one signature per key, separated by spaces.
fn signatures(keys: &[hmac::Key], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut signatures = String::with_capacity(keys.len() * 48);
    for key in keys {
        let mut signing = hmac::Context::with_key(key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            signing.update(part);
        }
        signatures.push_str(if signatures.is_empty() { "v1," } else { " v1," });
        BASE64_STANDARD.encode_string(signing.sign().as_ref(), &mut signatures);
    }
    signatures
}

#[async_trait]
impl Middleware for WebhookSignature {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let keys = self.keys.current();
        let timestamp = unix_seconds(&self.world);
        let id = request.headers().get(WEBHOOK_ID).and_then(|id| id.to_str().ok()).unwrap_or(HEALTH_CHECK);
        let signatures = signatures(&keys, id, &timestamp.to_string(), body(&request));
        let signatures = sensitive(&signatures).expect("base64 fits into a header");
        let headers = request.headers_mut();
        headers.entry(WEBHOOK_ID).or_insert(HeaderValue::from_static(HEALTH_CHECK));
        headers.insert(WEBHOOK_TIMESTAMP, timestamp.into());
        headers.insert(WEBHOOK_SIGNATURE, signatures);
        self.keys.answered(&keys, next.run(request, extensions).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_has_the_published_signature() {
        // The example in the reference libraries of Standard Webhooks.
        let keys = webhook_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let keys: Vec<_> = keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect();
        let signed =
            signatures(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
