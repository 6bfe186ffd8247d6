//! A token that a token endpoint grants for the credentials of a client (RFC 6749 section 4.4).

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Request, Response, Url, header::AUTHORIZATION};
use reqwest_middleware::{Error, Middleware, Next, Result};

use super::{
    Echo, Renewed, Transport, exchange::wants_authentication, token::TokenCache,
    token_endpoint::TokenEndpoint,
};
use crate::{config::OAuth2Config, world::World};

/// Sends a token in `Authorization`, and gets a new one when it expires or is refused.
#[derive(Debug)]
pub(super) struct OAuth2 {
    tokens: TokenCache<TokenEndpoint>,
}

impl OAuth2 {
    pub(super) fn new(
        config: &OAuth2Config,
        world: &World,
        transport: impl FnOnce(&Url) -> std::result::Result<Box<dyn Transport>, String>,
    ) -> std::result::Result<Self, String> {
        let endpoint = TokenEndpoint::new(config, world, transport)?;
        Ok(Self { tokens: TokenCache::new(endpoint, config.refresh_ahead) })
    }
}

#[async_trait]
impl Middleware for OAuth2 {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let token = self.tokens.token().await.map_err(Error::middleware)?;
        request.headers_mut().insert(AUTHORIZATION, token.header.clone());
        let mut answer = next.run(request, extensions).await?;
        Echo::note(&mut answer, &[&token.header]);
        if !wants_authentication(&answer) {
            token.accepted();
        } else if self.tokens.refused(&token) {
            answer.extensions_mut().insert(Renewed);
        }
        Ok(answer)
    }
}
