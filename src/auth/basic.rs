//! User and password (RFC 7617).

use async_trait::async_trait;
use http::Extensions;
use reqwest::{
    Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use reqwest_middleware::{Middleware, Next, Result};

use super::{Echo, rotating::Rotating};
use crate::config::{Secret, auth::basic_header};

/// Sends user and password in `Authorization`.
#[derive(Debug)]
pub(super) struct Basic {
    header: Rotating<HeaderValue>,
}

impl Basic {
    pub(super) fn new(username: &Secret, password: &Secret) -> std::result::Result<Self, String> {
        let texts = vec![username.text().clone(), password.text().clone()];
        let (username, password) = (username.clone(), password.clone());
        let header = Rotating::new(texts, move || {
            basic_header(&username.resolve()?, &password.resolve()?).map_err(|why| format!("username {why}"))
        })?;
        Ok(Self { header })
    }
}

#[async_trait]
impl Middleware for Basic {
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
