//! The pooled client of one connector.

use reqwest::redirect::{Attempt, Policy};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_tracing::TracingMiddleware;

use crate::config::ClientConfig;

/// As many hops as browsers and reqwest itself follow at most.
const MAX_REDIRECTS: usize = 10;

/// Builds the client. Each request it executes is one attempt, in a span of its own.
///
/// # Errors
/// The TLS roots of the system cannot be used.
pub(super) fn build(config: &ClientConfig) -> Result<ClientWithMiddleware, String> {
    // Another sink of this process may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let keepalive = Some(config.tcp_keepalive).filter(|interval| !interval.is_zero());
    let client = reqwest::Client::builder()
        .user_agent(concat!("iggy-http-sink/", env!("CARGO_PKG_VERSION")))
        .timeout(config.timeout)
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(config.max_connections)
        .pool_idle_timeout(config.pool_idle_timeout)
        .tcp_keepalive(keepalive)
        .tcp_nodelay(true)
        .redirect(if config.follow_redirects { Policy::custom(follow) } else { Policy::none() })
        .referer(false)
        .tls_danger_accept_invalid_certs(config.accept_invalid_certs)
        .build()
        .map_err(|why| format!("the HTTP client cannot be built: {}", super::attempt::chain(&why)))?;
    Ok(ClientBuilder::new(client).with(TracingMiddleware::default()).build())
}

/// Follows only redirects that keep the method and the body, within the host that was configured.
/// Any other ends as the answer it is, so that an empty GET to somewhere else never counts as delivery.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let keeps_the_body = matches!(attempt.status().as_u16(), 307 | 308);
    let configured = attempt.previous().first();
    let same_host = configured.is_some_and(|from| from.host_str() == attempt.url().host_str());
    let downgrade =
        configured.is_some_and(|from| from.scheme() == "https" && attempt.url().scheme() != "https");
    if !keeps_the_body || !same_host || downgrade {
        attempt.stop()
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}
