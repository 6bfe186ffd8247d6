//! Builds requests from what all requests of a connector have in common and what each has of its own.

use std::{
    fmt, iter,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::{
    Body as RequestBody, Method, Request, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{attempt::Answer, fault::Fault};
use crate::{
    config::{
        self, AuthConfig, Compression, Config, EndpointConfig,
        auth::{WEBHOOK_ID, is_readable_on_the_way},
        endpoint_url,
        header::{header_value, header_value_of},
        shown_url, take_userinfo,
    },
    encode::Body,
    mask::Masks,
    request::{Pieces, Target, TargetTemplate},
    secret::FileStamp,
    telemetry::{EndpointMeter, Reload},
};

/// How often the files of secrets are checked for changes: with a request every microsecond, not each can ask the disk.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Builds requests. Secrets in files are read again when a file changes.
#[derive(Debug)]
pub(crate) struct RequestTemplate {
    endpoint: EndpointConfig,
    content_type: &'static str,
    target: Option<Arc<TargetTemplate>>,
    compression: Option<Compression>,
    tombstone_method: Option<config::Method>,
    /// Whether it was logged that the endpoint does not accept compressed bodies.
    compression_refusal_logged: AtomicBool,
    current: RwLock<Arc<Rendered>>,
    /// When the files were last checked; `None` asks for a check now.
    checked: Mutex<Option<Instant>>,
    /// The present secrets and former ones, which the endpoint may still echo.
    masks: Masks,
}

struct Rendered {
    url: Url,
    headers: HeaderMap,
    /// The placeholders that each body fills in.
    filled: Filled,
    stamps: Vec<FileStamp>,
}

/// The parts of requests that have placeholders.
#[derive(Clone, Default)]
struct Filled {
    url: Option<Pieces>,
    headers: Vec<(HeaderName, Pieces)>,
}

impl fmt::Debug for Rendered {
    /// Without the URL, which may contain secrets; headers hide theirs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl RequestTemplate {
    /// # Errors
    /// A secret that cannot be read, or that makes no URL or header.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let content_type = config.body.content_type();
        let target = config.body.target.clone();
        let rendered = render(&config.endpoint, content_type, target.as_deref(), stamps(&config.endpoint))?;
        let current = RwLock::new(Arc::new(rendered));
        let masks = Masks::default();
        masks.learn_endpoint(&config.endpoint);
        config.body.form.iter().flat_map(|form| &form.secrets).for_each(|secret| masks.learn(secret));
        let endpoint = config.endpoint.clone();
        Ok(Self {
            endpoint,
            content_type,
            target,
            compression: config.body.compression,
            tombstone_method: config.body.tombstone_method,
            compression_refusal_logged: AtomicBool::new(false),
            current,
            checked: Mutex::default(),
            masks,
        })
    }

    /// Re-reads secrets whose files changed, at most once a second. If that fails, the last good ones stay in use.
    pub(super) fn refresh(&self, meter: &EndpointMeter) {
        if self.current().stamps.is_empty() {
            return;
        }
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if checked.is_some_and(|at| now.saturating_duration_since(at) < CHECK_INTERVAL) {
            return;
        }
        *checked = Some(now);
        let stamps = stamps(&self.endpoint);
        if stamps == self.current().stamps {
            return;
        }
        let rendered = render(&self.endpoint, self.content_type, self.target.as_deref(), stamps.clone());
        let secrets = self.endpoint.auth.iter().flat_map(AuthConfig::secrets);
        let is_good = rendered.is_ok() && secrets.into_iter().all(|secret| secret.text().resolve().is_ok());
        meter.reloaded(Reload::Secret, is_good);
        match rendered {
            Ok(rendered) => {
                info!("a secret's file changed: its new content is used from now on");
                self.masks.learn_endpoint(&self.endpoint);
                self.replace(rendered);
            }
            Err(why) => {
                warn!("a secret's file changed and cannot be used, so its old content stays in use: {why}");
                let current = self.current();
                let (url, headers) = (current.url.clone(), current.headers.clone());
                self.replace(Rendered { url, headers, filled: current.filled.clone(), stamps });
            }
        }
    }

    /// Records that the endpoint refused the credentials: their files are checked before the next attempt.
    pub(super) fn refused(&self) {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The request for a body whose messages have this idempotency key, sent `retries` times before.
    pub(crate) fn request(
        &self,
        body: &Body,
        idempotency_key: Option<&HeaderValue>,
        retries: u32,
    ) -> Request {
        let current = self.current();
        let tombstone_method = self.tombstone_method.filter(|_| body.is_tombstone());
        let mut request = Request::new(self.method(body).into(), current.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&current.headers);
        current.filled.fill(body, self.target.as_deref(), idempotency_key, &mut request);
        let headers = request.headers_mut();
        if tombstone_method.is_some() {
            headers.remove(CONTENT_TYPE);
        } else if let Some(compression) = self.compression {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.coding()));
        }
        if let Some(trace) = body.trace() {
            trace.send(headers);
        }
        if let Some(key) = idempotency_key {
            // A header that the user configured under the same name takes precedence.
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
        if tombstone_method.is_none() {
            *request.body_mut() = Some(RequestBody::from(body.wire().clone()));
        }
        request
    }

    /// The method of the request for a body.
    pub(super) fn method(&self, body: &Body) -> config::Method {
        self.tombstone_method.filter(|_| body.is_tombstone()).unwrap_or(self.endpoint.method)
    }

    /// The idempotency key of a body, if its request has one.
    pub(crate) fn idempotency_key(&self, body: &Body) -> Option<HeaderValue> {
        let in_target = self.target.as_ref().is_some_and(|target| target.has_idempotency_key());
        if self.endpoint.idempotency_header.is_none() && !in_target && !self.signs_webhook_id() {
            return None;
        }
        HeaderValue::from_str(&body.idempotency_key()).ok()
    }

    fn signs_webhook_id(&self) -> bool {
        self.endpoint.auth.as_ref().is_some_and(AuthConfig::signs_webhook_id)
    }

    /// Logs, once until a body is accepted, that the endpoint does not accept compressed bodies.
    pub(super) fn watch_compression(&self, status: StatusCode) {
        let Some(compression) = self.compression else { return };
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            if !self.compression_refusal_logged.swap(true, Relaxed) {
                error!(
                    "{} answered {status}: it may not take bodies with Content-Encoding: {}. Write compression = \"none\" if so",
                    self.label(),
                    compression.coding()
                );
            }
        } else if status.is_success() {
            self.compression_refusal_logged.store(false, Relaxed);
        }
    }

    /// Builds a request without a body, to find out whether the endpoint is there.
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

    /// Masks secrets in an answer or a fault.
    pub(super) fn masked(&self, ended: Result<Answer, Fault>) -> Result<Answer, Fault> {
        match ended {
            Ok(answer) => Ok(Answer {
                excerpt: self.masks.apply(&answer.excerpt).into_owned(),
                whole: answer.whole.map(|whole| self.masks.apply(&whole).into_owned()),
                ..answer
            }),
            Err(fault) => Err(fault.masked(&self.masks)),
        }
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

impl Filled {
    /// Fills in the placeholders with the fields of a body's messages.
    fn fill(
        &self,
        body: &Body,
        target: Option<&TargetTemplate>,
        key: Option<&HeaderValue>,
        request: &mut Request,
    ) {
        let mut fields = body.target().into_iter().flat_map(Target::fields);
        let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
        if let Some(url) = &self.url
            // Fields are escaped and come after the authority, where every text makes a valid URL: this cannot fail.
            && let Ok(mut filled) = Url::parse(&url.fill(&mut fields, key))
            // User and password are in a header already.
            && take_userinfo(&mut filled).is_ok()
        {
            *request.url_mut() = filled;
        }
        for (name, value) in &self.headers {
            // Nor can this: every escaped text fits into a header.
            if let Ok(value) = header_value_of(&value.fill(&mut fields, key)) {
                request.headers_mut().insert(name.clone(), value);
            }
        }
        let Some(target) = target else { return };
        for (name, value) in target.forwarded(fields) {
            if let Ok(value) = header_value_of(value) {
                request.headers_mut().insert(name, value);
            }
        }
    }
}

fn stamps(endpoint: &EndpointConfig) -> Vec<FileStamp> {
    let headers = endpoint.headers.iter().flat_map(|(_, text)| text.file_stamps());
    let auth =
        endpoint.auth.iter().flat_map(AuthConfig::secrets).flat_map(|secret| secret.text().file_stamps());
    endpoint.url.file_stamps().chain(headers).chain(auth).collect()
}

fn render(
    endpoint: &EndpointConfig,
    content_type: &'static str,
    target: Option<&TargetTemplate>,
    stamps: Vec<FileStamp>,
) -> Result<Rendered, String> {
    let mut filled = Filled::default();
    let url = match target {
        None => endpoint.url.resolve()?,
        Some(target) => {
            let pieces = Pieces::of(&target.url)?;
            pieces.check_url().map_err(|why| format!("url {why}"))?;
            let url = pieces.without_fields();
            filled.url = Some(pieces).filter(|pieces| !pieces.is_literal());
            url
        }
    };
    let mut url = endpoint_url(&url).map_err(|why| format!("url {why}"))?;
    let basic = take_userinfo(&mut url).map_err(|why| format!("url {why}"))?;
    if endpoint.auth.is_some() {
        // It may come from a file that has changed since it was checked.
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
        if let Some((_, template)) =
            target.and_then(|target| target.headers.iter().find(|(other, _)| other == name))
        {
            let pieces = Pieces::of(template).map_err(|why| format!("headers.{name}: {why}"))?;
            let value = header_value_of(&pieces.fill(&mut iter::empty(), ""));
            let value = value.map_err(|why| format!("headers.{name}: {why}"))?;
            if pieces.is_literal() {
                headers.insert(name.clone(), value);
            } else {
                filled.headers.push((name.clone(), pieces));
            }
            continue;
        }
        headers.insert(name.clone(), header_value(text).map_err(|why| format!("headers.{name}: {why}"))?);
    }
    Ok(Rendered { url, headers, filled, stamps })
}

#[cfg(test)]
mod tests;
