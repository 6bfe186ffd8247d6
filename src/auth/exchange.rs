//! What schemes need of requests and answers.

use std::fmt;

use async_trait::async_trait;
use reqwest::{Body, Request, Response, StatusCode};

/// Sends requests to a token endpoint.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// Sends a request without adding credentials.
    ///
    /// # Errors
    /// There is no answer.
    async fn send(&self, request: Request) -> reqwest_middleware::Result<Response>;
}

/// Marks an answer that refused the credentials of a request, if the next attempt has new ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewed;

/// The bytes of a request's body.
pub(super) fn body(request: &Request) -> &[u8] {
    request.body().and_then(Body::as_bytes).unwrap_or_default()
}

/// Whether an answer says that credentials are missing, wrong or expired (RFC 9110 section 15.5.2, RFC 6585 section 6).
pub(super) fn wants_authentication(answer: &Response) -> bool {
    matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::NETWORK_AUTHENTICATION_REQUIRED)
}
