//! How requests authenticate: one file per scheme, each a middleware.
//!
//! They run for each attempt and each hop of a redirect, so that each has a fresh time and token; middleware after them does
//! not change the request.

mod api_key;
mod authorization;
mod basic;
mod bearer;
mod echo;
mod error;
mod exchange;
mod hmac;
mod jwt;
mod oauth2;
mod rotating;
mod sigv4;
mod token;
mod token_endpoint;
mod webhook;

use std::{sync::Arc, time::Duration};

use reqwest::Url;
use reqwest_middleware::Middleware;

pub use self::exchange::Transport;
pub(crate) use self::{echo::Echo, error::AuthError, exchange::Renewed};
use self::{token::TokenSource, token_endpoint::TokenEndpoint};
use crate::{
    config::{AuthConfig, OAuth2Config},
    world::World,
};

/// Creates the middleware of a scheme. `transport` creates the transport to a token endpoint.
///
/// # Errors
/// A secret has become unreadable or invalid since the configuration was checked, or there is no transport.
pub fn middleware(
    config: &AuthConfig,
    world: &World,
    transport: impl FnOnce(&Url) -> Result<Box<dyn Transport>, String>,
) -> Result<Arc<dyn Middleware>, String> {
    let middleware: Result<Arc<dyn Middleware>, String> = match config {
        AuthConfig::Basic { username, password } => {
            basic::basic(username, password).map(|basic| Arc::new(basic) as _)
        }
        AuthConfig::Bearer { token } => bearer::bearer(token).map(|bearer| Arc::new(bearer) as _),
        AuthConfig::ApiKey { location, value } => {
            api_key::ApiKey::new(location, value).map(|key| Arc::new(key) as _)
        }
        AuthConfig::OAuth2ClientCredentials(config) => {
            oauth2::OAuth2::new(config, world, transport).map(|oauth2| Arc::new(oauth2) as _)
        }
        AuthConfig::AwsSigV4(config) => sigv4::SigV4::new(config, world).map(|signer| Arc::new(signer) as _),
        AuthConfig::WebhookSignature { secrets } => {
            webhook::WebhookSignature::new(secrets, world).map(|signer| Arc::new(signer) as _)
        }
        AuthConfig::Hmac(config) => hmac::Hmac::new(config, world).map(|signer| Arc::new(signer) as _),
    };
    middleware.map_err(|why| format!("auth: {why}"))
}

/// Asks for a token, which is not kept. Returns the token endpoint and the lifetime.
///
/// # Errors
/// There is none.
pub(crate) async fn try_token(
    config: &OAuth2Config,
    world: &World,
    transport: impl FnOnce(&Url) -> Result<Box<dyn Transport>, String>,
) -> Result<(String, Duration), AuthError> {
    let endpoint = TokenEndpoint::new(config, world, transport).map_err(AuthError::Secret)?;
    let granted = endpoint.ask().await?;
    Ok((endpoint.label().to_owned(), granted.lifetime))
}
