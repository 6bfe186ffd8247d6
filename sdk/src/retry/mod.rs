//! Retries for HTTP sinks: waits, a circuit breaker, a retrying client, a check at open.
//!
//! The names and signatures are those that sinks of the connectors runtime already use. Needs the feature `retry`.

mod backoff;
mod breaker;
mod client;
mod connectivity;

pub use backoff::{exponential_backoff, jitter, parse_duration};
pub use breaker::CircuitBreaker;
pub use client::{HttpRetryMiddleware, build_retry_client, is_transient_status, parse_retry_after};
pub use connectivity::{ConnectivityConfig, check_connectivity, check_connectivity_with_retry};

use std::error::Error;
use std::fmt::{self, Write};

/// The maximum of an answer that a log line or an error shows, in bytes.
const EXCERPT: usize = 1024;

/// Reads the beginning of an answer's body, for a log line, and no more, so it returns soon, whatever the server sends.
async fn excerpt(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() <= EXCERPT {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            // What was received before the connection broke says more than that it broke.
            Ok(None) | Err(_) => break,
        }
    }
    crate::shown(&String::from_utf8_lossy(&bytes), EXCERPT).to_string()
}

/// An error with its causes: the top error of a client only says that a request failed.
struct Causes<'e>(&'e (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        let mut cause = Some(self.0);
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their source in their own text.
            if !shown.contains(&text) {
                if !shown.is_empty() {
                    shown.push_str(": ");
                }
                shown.write_str(&text)?;
            }
            cause = error.source();
        }
        f.write_str(&shown)
    }
}
