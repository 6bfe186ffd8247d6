//! A client that retries requests.

use std::time::Duration;

use http::{Extensions, StatusCode, header::RETRY_AFTER};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use tracing::warn;

use super::{Causes, excerpt, exponential_backoff, jitter};

/// The longest `Retry-After` that is obeyed: a server must not stop a sink for a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Whether a request with this answer should be retried: 429 and all 5xx.
pub fn is_transient_status(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// Parses a `Retry-After` in whole seconds; `None` for a date or anything else.
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Retries a request while its answer is [transient](is_transient_status) or missing.
///
/// Between attempts it waits for [`exponential_backoff`] with [`jitter`] or, after a 429 with a `Retry-After` in seconds, for
/// that time, up to five minutes. Any other answer, and the last one, is returned unchanged. A request whose body is a stream
/// cannot be sent again, so it gets one attempt.
#[derive(Debug, Clone)]
pub struct HttpRetryMiddleware {
    max_retries: u32,
    retry_delay: Duration,
    max_delay: Duration,
    log_prefix: &'static str,
}

impl HttpRetryMiddleware {
    /// `max_retries` counts attempts, including the first one; `log_prefix` names the connector in WARN lines.
    pub fn new(
        max_retries: u32,
        retry_delay: Duration,
        max_delay: Duration,
        log_prefix: &'static str,
    ) -> Self {
        Self { max_retries, retry_delay, max_delay, log_prefix }
    }

    fn backoff(&self, attempts: u32) -> Duration {
        jitter(exponential_backoff(self.retry_delay, attempts - 1, self.max_delay))
    }
}

#[async_trait::async_trait]
impl Middleware for HttpRetryMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let mut request = request;
        let mut attempt = 1;
        loop {
            let again = if attempt < self.max_retries { request.try_clone() } else { None };
            let end = next.clone().run(request, extensions).await;
            let transient = end.as_ref().map_or(true, |answer| is_transient_status(answer.status()));
            let Some(again) = again.filter(|_| transient) else {
                return end;
            };
            let (delay, reason) = match end {
                Ok(answer) => {
                    let delay = asked_for(&answer).unwrap_or_else(|| self.backoff(attempt));
                    (delay, format!("{}: {}", answer.status(), excerpt(answer).await))
                }
                // A url can contain a secret.
                Err(error) => (self.backoff(attempt), Causes(&error.without_url()).to_string()),
            };
            warn!(
                "{}: attempt {attempt} of {} failed, the next one is in {delay:?}: {reason}",
                self.log_prefix, self.max_retries
            );
            tokio::time::sleep(delay).await;
            request = again;
            attempt += 1;
        }
    }
}

fn asked_for(answer: &Response) -> Option<Duration> {
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let asked = parse_retry_after(answer.headers().get(RETRY_AFTER)?.to_str().ok()?)?;
    Some(asked.min(LONGEST_RETRY_AFTER))
}

/// Builds a client with [`HttpRetryMiddleware`], which gets the other arguments.
pub fn build_retry_client(
    client: reqwest::Client,
    max_retries: u32,
    retry_delay: Duration,
    max_delay: Duration,
    log_prefix: &'static str,
) -> ClientWithMiddleware {
    let retry = HttpRetryMiddleware::new(max_retries, retry_delay, max_delay, log_prefix);
    ClientBuilder::new(client).with(retry).build()
}
