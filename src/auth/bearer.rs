//! A token (RFC 6750).

use async_trait::async_trait;
use http::Extensions;
use reqwest::{
    Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use reqwest_middleware::{Middleware, Next, Result};

use super::{Echo, rotating::Rotating};
use crate::config::{Secret, auth::bearer_header};

/// Sends a token in `Authorization`.
#[derive(Debug)]
pub(super) struct Bearer {
    header: Rotating<HeaderValue>,
}

impl Bearer {
    pub(super) fn new(token: &Secret) -> std::result::Result<Self, String> {
        let (texts, token) = (vec![token.text().clone()], token.clone());
        let header = Rotating::new(texts, move || {
            bearer_header(&token.resolve()?).map_err(|why| format!("token {why}"))
        })?;
        Ok(Self { header })
    }
}

#[async_trait]
impl Middleware for Bearer {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let header = self.header.current();
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::clone(&header));
        let mut answer = self.header.answered(&header, next.run(request, extensions).await)?;
        Echo::note(&mut answer, &[&header]);
        Ok(answer)
    }
}
