//! One attempt: a request goes out, an answer or a fault comes back.

use std::time::Duration;

use iggy_connector_sdk::shown;
use reqwest::{Request, Response, StatusCode};
use tracing::debug;

use super::{
    classify::{Class, Classifier},
    deadline::Deadline,
    fault::{Fault, FaultKind},
    network::Network,
    retry_after::retry_after,
};
use crate::{auth::Echo, causes::chain};

/// How much of an answer is read beyond what is kept, so that its connection can be reused.
/// Past that, a new connection is cheaper than the rest of the answer.
const DRAIN_LIMIT: usize = 1024 * 1024;

/// How often a request that the server did not process is resent at once. After that it counts as failed; otherwise a server
/// that always refuses would be asked as fast as it can refuse.
const MAX_RESENDS: u32 = 10;

/// How much of an answer a log line shows, in bytes.
pub(super) const SHOWN: usize = 200;

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) class: Class,
    pub(super) ended: Result<Answer, Fault>,
}

/// An endpoint's answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The start of its body, for people to read; empty if nobody needs it.
    pub(super) excerpt: String,
    /// The whole body, if it was requested and received in full.
    pub(super) whole: Option<String>,
    /// What it asks for with `Retry-After`.
    pub(super) retry_after: Option<Duration>,
}

/// What an attempt inherits from the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// Whether it uses a new connection, since the server had closed the one before.
    pub(super) fresh: bool,
    /// Whether it has other credentials than the one before, which was refused.
    pub(super) renewed: bool,
}

/// The maximum of an answer that is kept, in bytes: nobody reads more.
const EXCERPT_LIMIT: usize = 4096;

/// How much of an answer is kept, in bytes, by its class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    pub(super) of_success: usize,
    pub(super) of_others: usize,
    /// Whether the whole body of a success is needed, and up to how many bytes.
    pub(super) whole: Option<usize>,
}

/// Sends a request and reads its answer. Returns `None` if a close aborted it before there was one.
///
/// An HTTP/2 server that closes a connection refuses those requests on it that it has not begun to process. That says nothing
/// about the endpoint: such a request keeps its slot and is resent over another connection.
pub(super) async fn attempt(
    client: &Network,
    classifier: &Classifier,
    request: impl Fn() -> Request,
    how: How,
    keep: Keep,
    mut deadline: Deadline,
) -> Option<Attempt> {
    let mut refusals = 0;
    let (outcome, reused) = loop {
        let ended = tokio::select! {
            // Once closed, an attempt is not even begun.
            biased;
            () = deadline.closed() => return None,
            ended = client.execute(request(), how.fresh) => ended,
        };
        match &ended.0 {
            Err(why) if refusals < MAX_RESENDS && FaultKind::of(why) == FaultKind::Unprocessed => {
                refusals += 1;
            }
            _ => break ended,
        }
    };
    let class = classifier.classify(&outcome, reused, how.renewed);
    let ended = match outcome {
        Err(error) => Err(Fault::of(&error)),
        Ok(mut response) => {
            let status = response.status();
            let echo = response.extensions_mut().remove::<Echo>();
            let retry_after = retry_after(response.headers(), client.now());
            let echo = echo.unwrap_or_default();
            let of_class = if class == Class::Success { keep.of_success } else { keep.of_others };
            if let Some(most) = keep.whole.filter(|_| class == Class::Success) {
                let Read { text, complete } = read(response, most, most, deadline).await;
                let text = echo.mask(text);
                let excerpt = text[..text.floor_char_boundary(of_class)].to_owned();
                Ok(Answer { status, excerpt, whole: Some(text).filter(|_| complete), retry_after })
            } else {
                let read = read(response, of_class, EXCERPT_LIMIT, deadline).await;
                Ok(Answer { status, excerpt: echo.mask(read.text), whole: None, retry_after })
            }
        }
    };
    if let (Class::Permanent | Class::Isolate, Ok(answer)) = (class, &ended)
        && let Some(fault) = Fault::answered(answer.status, &answer.excerpt)
    {
        return Some(Attempt { class: Class::Hold, ended: Err(fault) });
    }
    Some(Attempt { class, ended })
}

/// The part of an answer's body that was read.
struct Read {
    text: String,
    /// Whether that is the whole body.
    complete: bool,
}

/// Reads an answer's body as far as is worthwhile, and keeps its start.
///
/// The status has been received, so a fault while reading the body does not change the outcome.
async fn read(mut response: Response, most: usize, kept_at_most: usize, mut deadline: Deadline) -> Read {
    let mut kept = Vec::new();
    let mut complete = false;
    let keep = most.min(kept_at_most);
    let limit = most - keep + DRAIN_LIMIT;
    let mut drained = 0;
    loop {
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk,
            () = deadline.closed() => break,
        };
        match chunk {
            Ok(Some(chunk)) => {
                let more = chunk.len().min(keep - kept.len());
                kept.extend_from_slice(&chunk[..more]);
                drained += chunk.len() - more;
                if drained > limit {
                    break;
                }
            }
            Ok(None) => {
                // An answer without a body has released its connection already.
                if !kept.is_empty() || drained > 0 {
                    hand_back().await;
                }
                complete = drained == 0;
                break;
            }
            Err(why) => {
                debug!("the answer's body broke off: {}", chain(&why));
                break;
            }
        }
    }
    Read { text: String::from_utf8_lossy(&kept).into_owned(), complete }
}

/// Lets the connection return to the pool, which takes one poll of its task and one of the pool's; a request made before that
/// would find the pool empty and open another connection.
async fn hand_back() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

/// Describes how an attempt ended, for the log.
pub(super) fn in_words(ended: &Result<Answer, Fault>) -> String {
    match ended {
        Ok(answer) => answered(answer.status, &answer.excerpt),
        Err(fault) => format!("no answer, {fault}"),
    }
}

/// An answer, for the log.
pub(super) fn answered(status: StatusCode, body: &str) -> String {
    let separator = if body.is_empty() { "" } else { ": " };
    format!("answered {status}{separator}{}", shown(body, SHOWN))
}
