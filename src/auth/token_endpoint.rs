//! Asks a token endpoint for a token (RFC 6749 section 4.4).

use std::{sync::Arc, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{
    Method, Request, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use super::{
    AuthError, Transport, jwt,
    token::{Granted, TokenSource},
};
use crate::{
    config::{
        ClientAuth, OAuth2Config,
        auth::{bearer_header, sensitive},
        endpoint_url,
    },
    world::World,
};

/// The maximum size of an answer, in bytes. Tokens have a few kilobytes at most.
const LONGEST_ANSWER: usize = 256 * 1024;

/// The assumed lifetime of a token if the answer does not give one (RFC 6749 section 5.1 only recommends that it does). One
/// that expires earlier is refused, and then replaced.
const USUAL_LIFETIME: Duration = Duration::from_mins(5);

/// The bounds of a lifetime: with one of zero, each request would ask for a token.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(365 * 24));

/// RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A token endpoint, asked on behalf of one client.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    config: OAuth2Config,
    transport: Box<dyn Transport>,
    world: World,
    /// Scheme, host and port.
    label: String,
}

/// An answer with a token (RFC 6749 section 5.1) or with an error (section 5.2).
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    token_type: Option<String>,
    /// A number; some servers write it as a string.
    expires_in: Option<Value>,
    error: Option<String>,
}

impl TokenEndpoint {
    /// # Errors
    /// A secret went missing since the configuration was checked, or there is no transport.
    pub(super) fn new(
        config: &OAuth2Config,
        world: &World,
        transport: impl FnOnce(&Url) -> Result<Box<dyn Transport>, String>,
    ) -> Result<Self, String> {
        let url = endpoint_url(&config.token_url.resolve()?).map_err(|why| format!("token_url {why}"))?;
        let label = url.origin().ascii_serialization();
        let endpoint =
            Self { config: config.clone(), transport: transport(&url)?, world: world.clone(), label };
        // If the request cannot be built now, every message would be held.
        endpoint.request()?;
        Ok(endpoint)
    }

    /// Scheme, host and port.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Builds a request with the current secrets.
    fn request(&self) -> Result<Request, String> {
        let config = &self.config;
        let url = endpoint_url(&config.token_url.resolve()?).map_err(|why| format!("token_url {why}"))?;
        let client_id = config.client_id.resolve()?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, text) in [("scope", &config.scope), ("audience", &config.audience)] {
            if let Some(text) = text {
                form.append_pair(name, &text.resolve()?);
            }
        }
        for (name, value) in &config.extra {
            form.append_pair(name, &value.resolve()?);
        }
        let mut authorization = None;
        match &config.client_auth {
            ClientAuth::Basic(secret) => {
                let [id, secret] = [&client_id, &secret.resolve()?]
                    .map(|text| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
                let credentials = BASE64_STANDARD.encode(format!("{id}:{secret}"));
                authorization = sensitive(&format!("Basic {credentials}"));
            }
            ClientAuth::Post(secret) => {
                form.append_pair("client_id", &client_id).append_pair("client_secret", &secret.resolve()?);
            }
            ClientAuth::PrivateKeyJwt { file } => {
                let assertion = jwt::client_assertion(file, &client_id, url.as_str(), &self.world)
                    .map_err(|why| format!("private_key_file {}: {why}", file.display()))?;
                form.append_pair("client_id", &client_id)
                    .append_pair("client_assertion_type", JWT_BEARER)
                    .append_pair("client_assertion", &assertion);
            }
        }
        let mut request = Request::new(Method::POST, url);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        *request.body_mut() = Some(form.finish().into());
        Ok(request)
    }

    /// Reads the body of an answer, unless it is too long.
    async fn read(&self, mut answer: Response) -> Result<Vec<u8>, AuthError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|why| self.unreachable(why.into()))? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(self.no_token(format!("its answer is longer than {LONGEST_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, why: reqwest_middleware::Error) -> AuthError {
        AuthError::Unreachable { endpoint: self.label.clone(), why: Arc::new(why) }
    }

    fn no_token(&self, why: String) -> AuthError {
        AuthError::NoToken { endpoint: self.label.clone(), why }
    }

    fn refused(&self, why: String) -> AuthError {
        AuthError::Refused { endpoint: self.label.clone(), why }
    }

    /// Returns what an answer that is not a success means. Only the error code of its body is shown: the rest may repeat what
    /// was sent.
    fn failure(&self, status: u16, answer: Option<TokenAnswer>) -> AuthError {
        let code = answer.and_then(|answer| answer.error).filter(|code| {
            code.len() <= 64
                && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        });
        match (status, code.as_deref()) {
            // RFC 6749 section 4.1.2.1 has these for situations in which a 5xx cannot be returned.
            (_, Some(code @ ("server_error" | "temporarily_unavailable" | "slow_down"))) => {
                self.no_token(format!("{code} (answered {status})"))
            }
            (408 | 425 | 429 | 500..=599, _) => self.no_token(format!("answered {status}")),
            (_, Some(code)) => self.refused(format!("{code} (answered {status})")),
            (_, None) => self.refused(format!("answered {status}")),
        }
    }

    fn granted(&self, answer: TokenAnswer) -> Result<Granted, AuthError> {
        if let Some(kind) = &answer.token_type
            && !kind.eq_ignore_ascii_case("bearer")
        {
            return Err(self.refused("its tokens are of another type than Bearer".to_owned()));
        }
        let header = bearer_header(&answer.access_token.unwrap_or_default())
            .map_err(|why| self.no_token(format!("the access_token of its answer {why}")))?;
        let seconds = answer.expires_in.as_ref().and_then(|seconds| match seconds {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        });
        let lifetime = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
        let lifetime = lifetime.unwrap_or(USUAL_LIFETIME).clamp(LIFETIMES.0, LIFETIMES.1);
        Ok(Granted { header, lifetime })
    }
}

impl TokenSource for TokenEndpoint {
    async fn ask(&self) -> Result<Granted, AuthError> {
        let request = self.request().map_err(|why| AuthError::Secret(format!("auth: {why}")))?;
        let answer = self.transport.send(request).await.map_err(|why| self.unreachable(why))?;
        let status = answer.status();
        let body = self.read(answer).await?;
        let answer = serde_json::from_slice::<TokenAnswer>(&body).ok();
        match answer {
            Some(answer) if status.is_success() && answer.error.is_none() => self.granted(answer),
            None if status.is_success() => Err(self.no_token("its answer is not a JSON object".to_owned())),
            // Some answer 200 with an error in it.
            answer => Err(self.failure(status.as_u16(), answer)),
        }
    }
}
