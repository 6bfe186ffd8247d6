//! Why there is no answer.

use std::{error::Error as StdError, fmt, io};

use iggy_connector_sdk::shown;

use super::connect::Superseded;
use crate::{
    machine,
    mask::Masks,
    world::{NetworkFault, NetworkFaultKind},
};

/// The most bytes of a chain of causes.
const LONGEST: usize = 1000;

/// A fault on the way, as the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    kind: FaultKind,
    /// The chain of causes, without the URL.
    cause: String,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(super) enum FaultKind {
    /// No connection came about.
    Connect,
    /// No trust came about.
    Tls,
    /// The endpoint closed or reset the connection.
    Closed,
    /// The endpoint, or the connection to it, says that it has not begun to process the request.
    Unprocessed,
    /// `timeout` or `connect_timeout` ran out.
    Timeout,
    /// Anything else on the way.
    Transport,
    /// This machine has no descriptor, thread, memory map or port left.
    Shortage,
    /// The request cannot be sent, however often.
    Request,
}

impl Fault {
    pub(super) fn of(error: &reqwest_middleware::Error) -> Self {
        Self { kind: FaultKind::of(error), cause: chain(error) }
    }

    /// The same without secrets in its words.
    pub(super) fn masked(self, masks: &Masks) -> Self {
        Self { cause: masks.apply(&self.cause).into_owned(), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.cause)
    }
}

impl FaultKind {
    pub(super) fn of(error: &reqwest_middleware::Error) -> Self {
        let error = match error {
            reqwest_middleware::Error::Reqwest(error) => error,
            reqwest_middleware::Error::Middleware(why) => {
                return why.downcast_ref::<NetworkFault>().map_or(Self::Request, Self::of_simulated);
            }
        };
        if error.is_builder() || error.is_redirect() {
            Self::Request
        } else if causes(error).any(|cause| cause.downcast_ref().is_some_and(machine::is_short)) {
            Self::Shortage
        } else if error.is_timeout() {
            Self::Timeout
        } else if causes(error).any(is_unprocessed) {
            Self::Unprocessed
        } else if causes(error).any(is_tls) {
            Self::Tls
        } else if error.is_connect() {
            Self::Connect
        } else if causes(error).any(is_closed) {
            Self::Closed
        } else {
            Self::Transport
        }
    }
}

impl FaultKind {
    fn of_simulated(fault: &NetworkFault) -> Self {
        match fault.kind {
            NetworkFaultKind::Connect => Self::Connect,
            NetworkFaultKind::Tls => Self::Tls,
            NetworkFaultKind::Closed => Self::Closed,
            NetworkFaultKind::Timeout => Self::Timeout,
            NetworkFaultKind::Unprocessed => Self::Unprocessed,
            NetworkFaultKind::Shortage => Self::Shortage,
            NetworkFaultKind::Transport => Self::Transport,
        }
    }
}

/// rustls errors travel inside of `io::Error`, which does not name them as a cause.
fn is_tls(cause: &(dyn StdError + 'static)) -> bool {
    cause.is::<rustls::Error>()
        || cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>)
}

/// Whether the request was not processed, so that it is safe to send it again: its stream lies beyond the last one that a
/// GOAWAY promises to finish (RFC 9113 section 6.8), it was refused with `REFUSED_STREAM` (section 8.7), or its connection
/// was gone before it was written.
fn is_unprocessed(cause: &(dyn StdError + 'static)) -> bool {
    let refused = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        // h2 fails a stream with the server's GOAWAY only if it lies beyond that one.
        let unprocessed = error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // Who asks for calm is not to be asked again at once.
        error.is_remote() && unprocessed && error.reason() != Some(h2::Reason::ENHANCE_YOUR_CALM)
    });
    refused
        || cause.is::<Superseded>()
        || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}

fn is_closed(cause: &(dyn StdError + 'static)) -> bool {
    let lost = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
        )
    };
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
        || cause.downcast_ref::<io::Error>().is_some_and(lost)
        // It does not name what lies in it as a cause.
        || cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io).is_some_and(lost)
}

/// An error and what caused it, in one line, each said once. URLs are left out: they can hold secrets.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let mut words = cause.to_string();
        // reqwest ends its own words with the URL; what lies below says what happened.
        if let Some(end) = words.find(" for url (") {
            words.truncate(end);
        }
        if !words.is_empty() && !line.contains(&words) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&words);
        }
    }
    // A certificate names itself as it likes, and a server gives its own reasons.
    shown(&line, LONGEST).to_string()
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
