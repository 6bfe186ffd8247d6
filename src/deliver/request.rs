//! What all requests of a connector have in common, and what each has of its own.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{
    Body as RequestBody, Method, Request, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    config::{
        AuthConfig, Config, EndpointConfig, FileStamp,
        auth::{WEBHOOK_ID, is_readable_on_the_way},
        endpoint_url,
        headers::header_value,
        shown_url, take_userinfo,
    },
    encode::Body,
};

/// How long the files of secrets are not looked at again: a request a microsecond must not ask the disk each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes requests. Secrets in files are read again when a file changes.
#[derive(Debug)]
pub(super) struct RequestTemplate {
    endpoint: EndpointConfig,
    content_type: &'static str,
    current: RwLock<Arc<Rendered>>,
    /// When the files were last looked at; `None` asks for a look now.
    looked: Mutex<Option<Instant>>,
}

struct Rendered {
    url: Url,
    headers: HeaderMap,
    stamps: Vec<FileStamp>,
}

impl fmt::Debug for Rendered {
    /// Without the URL, which has its secrets in place; headers hide theirs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl RequestTemplate {
    /// # Errors
    /// A secret that cannot be read, or that makes no URL or header.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let content_type = config.body.mode.content_type();
        let rendered = render(&config.endpoint, content_type, stamps(&config.endpoint))?;
        let current = RwLock::new(Arc::new(rendered));
        Ok(Self { endpoint: config.endpoint.clone(), content_type, current, looked: Mutex::default() })
    }

    /// Reads secrets again whose files changed, at most once a second. Where that fails, the last good ones stay in use.
    pub(super) fn refresh(&self) {
        if self.current().stamps.is_empty() {
            return;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_AGAIN) {
            return;
        }
        *looked = Some(now);
        let stamps = stamps(&self.endpoint);
        if stamps == self.current().stamps {
            return;
        }
        match render(&self.endpoint, self.content_type, stamps.clone()) {
            Ok(rendered) => {
                info!("a secret's file changed: its new content is used from now on");
                self.replace(rendered);
            }
            Err(why) => {
                warn!("a secret's file changed and cannot be used, so its old content stays in use: {why}");
                let current = self.current();
                self.replace(Rendered { url: current.url.clone(), headers: current.headers.clone(), stamps });
            }
        }
    }

    /// The endpoint refused the credentials: their files are looked at before the next attempt, however lately they were.
    pub(super) fn refused(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The request for a body whose messages have this idempotency key, sent `retries` times before.
    pub(super) fn request(
        &self,
        body: &Body,
        idempotency_key: Option<&HeaderValue>,
        retries: u32,
    ) -> Request {
        let current = self.current();
        let mut request = Request::new(self.endpoint.method.into(), current.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&current.headers);
        if let Some(key) = idempotency_key {
            // What the user configured under the same name stands.
            if let Some(name) = &self.endpoint.idempotency_header {
                headers.entry(name).or_insert_with(|| key.clone());
            }
            if self.signs_webhook_id() {
                headers.insert(WEBHOOK_ID, key.clone());
            }
        }
        if let Some(name) = self.endpoint.retry_count_header.as_ref().filter(|_| retries > 0) {
            headers.insert(name, retries.into());
        }
        *request.body_mut() = Some(RequestBody::from(body.bytes.clone()));
        request
    }

    /// The key of a body, where the endpoint is to be told.
    pub(super) fn idempotency_key(&self, body: &Body) -> Option<HeaderValue> {
        if self.endpoint.idempotency_header.is_none() && !self.signs_webhook_id() {
            return None;
        }
        HeaderValue::from_str(&body.idempotency_key()).ok()
    }

    fn signs_webhook_id(&self) -> bool {
        self.endpoint.auth.as_ref().is_some_and(AuthConfig::signs_webhook_id)
    }

    /// A request without a body, to see whether the endpoint is there.
    pub(super) fn probe(&self, method: Method) -> Request {
        let current = self.current();
        let mut request = Request::new(method, current.url.clone());
        request.headers_mut().clone_from(&current.headers);
        request.headers_mut().remove(CONTENT_TYPE);
        request
    }

    pub(super) fn url(&self) -> Url {
        self.current().url.clone()
    }

    /// The endpoint as it may be shown.
    pub(super) fn label(&self) -> String {
        shown_url(&self.endpoint.url)
    }

    fn current(&self) -> Arc<Rendered> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, rendered: Rendered) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rendered);
    }
}

fn stamps(endpoint: &EndpointConfig) -> Vec<FileStamp> {
    let headers = endpoint.headers.iter().flat_map(|(_, text)| text.file_stamps());
    endpoint.url.file_stamps().chain(headers).collect()
}

fn render(
    endpoint: &EndpointConfig,
    content_type: &'static str,
    stamps: Vec<FileStamp>,
) -> Result<Rendered, String> {
    let mut url = endpoint_url(&endpoint.url.resolve()?).map_err(|why| format!("url {why}"))?;
    let basic = take_userinfo(&mut url).map_err(|why| format!("url {why}"))?;
    if endpoint.auth.is_some() {
        // It may be of a file that changed since it was checked.
        if basic.is_some() {
            return Err("url holds a user or a password beside [auth]: remove one of them".to_owned());
        }
        if is_readable_on_the_way(&url) && !endpoint.allow_insecure_credentials {
            return Err(
                "url would send the credentials of [auth] over plain http to another machine".to_owned()
            );
        }
    }
    let mut headers = HeaderMap::with_capacity(endpoint.headers.len() + 4);
    if let Some(basic) = basic {
        headers.insert(AUTHORIZATION, basic);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, text) in &endpoint.headers {
        headers.insert(name.clone(), header_value(text).map_err(|why| format!("headers.{name}: {why}"))?);
    }
    Ok(Rendered { url, headers, stamps })
}
