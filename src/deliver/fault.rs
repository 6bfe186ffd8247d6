//! Why there is no answer.

use std::{error::Error as StdError, fmt, io};

use crate::world::{NetworkFault, NetworkFaultKind};

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
    /// `timeout` or `connect_timeout` ran out.
    Timeout,
    /// Anything else on the way.
    Transport,
    /// The request cannot be sent, however often.
    Request,
}

impl Fault {
    pub(super) fn of(error: &reqwest_middleware::Error) -> Self {
        Self { kind: FaultKind::of(error), cause: chain(error) }
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
        } else if error.is_timeout() {
            Self::Timeout
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

fn is_closed(cause: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    cause
        .downcast_ref::<hyper::Error>()
        .is_some_and(|error| error.is_incomplete_message() || error.is_canceled())
        || cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            )
        })
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
    line
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
