//! Checks whether the endpoint is reachable, when a sink opens.

use std::time::Duration;

use reqwest::{Client, Url};
use tracing::{info, warn};

use super::{Causes, excerpt, exponential_backoff, jitter};
use crate::Error;

/// How long [`check_connectivity_with_retry`] continues. It is independent of the retries of requests, so that open can wait
/// longer for a starting server than a batch does.
#[derive(Debug, Clone)]
pub struct ConnectivityConfig {
    /// The number of attempts, including the first one; at least one is made.
    pub max_open_retries: u32,
    /// The longest wait between two attempts.
    pub open_retry_max_delay: Duration,
    /// The wait that [`exponential_backoff`] begins with.
    pub retry_delay: Duration,
}

/// Sends one GET to `url`.
///
/// # Errors
/// [`Error::Connection`] unless the answer is a 2xx; its text begins with `connector_label`.
pub async fn check_connectivity(client: &Client, url: Url, connector_label: &str) -> Result<(), Error> {
    // A url can contain a secret.
    let answer = client.get(url).send().await.map_err(|error| {
        Error::Connection(format!("{connector_label} health check failed: {}", Causes(&error.without_url())))
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let excerpt = excerpt(answer).await;
    Err(Error::Connection(format!("{connector_label} health check returned status {status}: {excerpt}")))
}

/// Repeats [`check_connectivity`] until it succeeds, with growing waits.
///
/// # Errors
/// That of the last attempt.
pub async fn check_connectivity_with_retry(
    client: &Client,
    url: Url,
    connector_label: &str,
    connector_id: u32,
    cfg: &ConnectivityConfig,
) -> Result<(), Error> {
    let attempts = cfg.max_open_retries.max(1);
    let mut attempt = 1;
    loop {
        let Err(error) = check_connectivity(client, url.clone(), connector_label).await else {
            if attempt > 1 {
                info!("{connector_label} (connector {connector_id}): connected at attempt {attempt}");
            }
            return Ok(());
        };
        if attempt == attempts {
            return Err(error);
        }
        let delay = jitter(exponential_backoff(cfg.retry_delay, attempt - 1, cfg.open_retry_max_delay));
        warn!(
            "{connector_label} (connector {connector_id}): attempt {attempt} of {attempts} to connect failed, the next one \
             is in {delay:?}: {error}"
        );
        tokio::time::sleep(delay).await;
        attempt += 1;
    }
}
