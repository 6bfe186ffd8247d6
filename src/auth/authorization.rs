//! A header `Authorization` that is the same for all requests.

use async_trait::async_trait;
use http::Extensions;
use reqwest::{
    Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use reqwest_middleware::{Middleware, Next, Result};

use super::{Echo, rotating::Rotating};

/// Sends the header.
#[derive(Debug)]
pub(super) struct Authorization(pub(super) Rotating<HeaderValue>);

#[async_trait]
impl Middleware for Authorization {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let header = self.0.current();
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::clone(&header));
        let mut answer = self.0.answered(&header, next.run(request, extensions).await)?;
        Echo::note(&mut answer, &[&header]);
        Ok(answer)
    }
}
