//! One attempt: a request goes out, an answer or a fault comes back.

use std::{fmt, time::Duration};

use reqwest::{Request, Response, StatusCode};
use reqwest_middleware::ClientWithMiddleware;
use tracing::debug;

/// How much of an answer is read beyond what is kept, so that its connection can be used again.
/// Past that, a new connection is cheaper than the rest of the answer.
const DRAIN_LIMIT: usize = 1024 * 1024;

/// An endpoint's answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The start of its body, for people to read.
    pub(super) excerpt: String,
    /// What it asks for with `Retry-After`.
    pub(super) retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// The chain of causes, without the URL.
    pub(super) cause: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(super) enum FaultKind {
    /// No connection came about.
    Connect,
    /// No trust came about.
    Tls,
    /// The endpoint closed or reset the connection.
    Reset,
    /// `timeout` or `connect_timeout` ran out.
    Timeout,
    /// Anything else on the way.
    Transport,
    /// The request cannot be sent, however often.
    Request,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.cause)
    }
}

/// Sends `request` once and reads its answer, of which `keep` says how many bytes are kept.
pub(super) async fn attempt(
    client: &ClientWithMiddleware,
    request: Request,
    keep: impl Fn(StatusCode) -> usize,
) -> Result<Answer, Fault> {
    let response = client.execute(request).await.map_err(|why| Fault::from(&why))?;
    let status = response.status();
    let retry_after = super::retry_after::retry_after(response.headers(), std::time::SystemTime::now());
    Ok(Answer { status, excerpt: read(response, keep(status)).await, retry_after })
}

/// Reads an answer's body as far as is worth it, and keeps its start.
///
/// The status has been received, so what happens to the body changes nothing for the messages.
async fn read(mut response: Response, keep: usize) -> String {
    let mut kept = Vec::new();
    let mut drained = 0;
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let more = chunk.len().min(keep - kept.len());
                kept.extend_from_slice(&chunk[..more]);
                drained += chunk.len() - more;
                if drained > DRAIN_LIMIT {
                    break;
                }
            }
            Ok(None) => {
                hand_back().await;
                break;
            }
            Err(why) => {
                debug!("the answer's body broke off: {}", chain(&why));
                break;
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Lets the connection go back to the pool, which takes its own task and that of the pool one turn
/// each; a request made before would find the pool empty and connect anew.
async fn hand_back() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

impl From<&reqwest_middleware::Error> for Fault {
    fn from(error: &reqwest_middleware::Error) -> Self {
        let reqwest_middleware::Error::Reqwest(error) = error else {
            return Self { kind: FaultKind::Request, cause: chain(error) };
        };
        let io =
            causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        let kind = if error.is_builder() || error.is_redirect() {
            FaultKind::Request
        } else if error.is_timeout() {
            FaultKind::Timeout
        } else if causes(error).any(is_tls) {
            FaultKind::Tls
        } else if error.is_connect() {
            FaultKind::Connect
        } else {
            match io {
                Some(
                    std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::ConnectionAborted
                    | std::io::ErrorKind::BrokenPipe
                    | std::io::ErrorKind::UnexpectedEof,
                ) => FaultKind::Reset,
                _ => FaultKind::Transport,
            }
        };
        Self { kind, cause: chain(error) }
    }
}

/// rustls errors travel inside of `io::Error`, which does not name them as a cause.
fn is_tls(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<rustls::Error>()
        || cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// An error and what caused it, in one line, each said once. URLs are left out: they can hold secrets.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        // reqwest puts the URL into its own words only; what lies below says what happened.
        let words = match cause.downcast_ref::<reqwest::Error>() {
            Some(error) if error.url().is_some() => words_without_url(error),
            _ => cause.to_string(),
        };
        if !words.is_empty() && !line.contains(&words) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&words);
        }
    }
    line
}

fn words_without_url(error: &reqwest::Error) -> String {
    let words = error.to_string();
    words.split(" for url (").next().unwrap_or_default().to_owned()
}

fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
