//! A key in a header or in the query.

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Request, Response, header::HeaderValue};
use reqwest_middleware::{Middleware, Next, Result};

use super::{Echo, rotating::Rotating};
use crate::config::{ApiKeyLocation, Secret, auth::sensitive};

/// Sends a key.
#[derive(Debug)]
pub(super) struct ApiKey {
    location: ApiKeyLocation,
    key: Rotating<Key>,
}

struct Key {
    text: String,
    header: HeaderValue,
}

impl ApiKey {
    pub(super) fn new(location: &ApiKeyLocation, value: &Secret) -> std::result::Result<Self, String> {
        let (texts, value) = (vec![value.text().clone()], value.clone());
        let key = Rotating::new(texts, move || {
            let text = value.resolve()?;
            let header =
                sensitive(&text).ok_or("value holds a control character, such as a line break: remove it")?;
            Ok(Key { text, header })
        })?;
        Ok(Self { location: location.clone(), key })
    }
}

#[async_trait]
impl Middleware for ApiKey {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let key = self.key.current();
        match &self.location {
            ApiKeyLocation::Header(name) => {
                request.headers_mut().insert(name, key.header.clone());
            }
            ApiKeyLocation::Query(name) => {
                // The target of a redirect may contain it already.
                if !request.url().query_pairs().any(|pair| pair == (name.into(), (&*key.text).into())) {
                    request.url_mut().query_pairs_mut().append_pair(name, &key.text);
                }
            }
        }
        let mut answer = self.key.answered(&key, next.run(request, extensions).await)?;
        Echo::note(&mut answer, &[&key.header]);
        Ok(answer)
    }
}
