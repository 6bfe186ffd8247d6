//! Why there is no answer.

use std::{error::Error as StdError, fmt, io};

use reqwest::StatusCode;

use super::{connect::Superseded, header_timeout::HeaderTimeout, tls_remedy};
use crate::{
    auth::AuthError,
    causes::{causes, chain},
    machine,
    mask::Masks,
    world::{NetworkFault, NetworkFaultKind},
};

const PROXY_REMEDY: &str =
    "the proxy wants a user and password: proxy.username and proxy.password must be those that it knows";

/// A fault of an attempt, as the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    kind: FaultKind,
    /// The chain of causes, without the URL.
    cause: String,
    /// What somebody must do about it, if it does not resolve itself.
    remedy: Option<&'static str>,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(super) enum FaultKind {
    /// No connection could be established.
    Connect,
    /// TLS broke.
    Tls,
    /// One side does not accept the other's certificate, or lacks one.
    #[strum(to_string = "tls")]
    Certificate,
    /// The proxy does not let us through without other credentials.
    Proxy,
    /// The endpoint closed or reset the connection.
    Closed,
    /// The endpoint, or the connection to it, says that it has not begun to process the request.
    Unprocessed,
    /// `timeout` or `connect_timeout` ran out.
    Timeout,
    /// `response_header_timeout` ran out.
    #[strum(to_string = "response_header_timeout")]
    HeaderTimeout,
    /// Any other fault of the transport.
    Transport,
    /// This machine has no descriptor, thread, memory map or port left.
    Shortage,
    /// There is no token at present.
    Token,
    /// There are no credentials until somebody fixes that.
    Credentials,
    /// The request cannot be sent, however often.
    Request,
}

impl Fault {
    pub(super) fn of(error: &reqwest_middleware::Error) -> Self {
        let kind = FaultKind::of(error);
        let (cause, remedy) = match kind {
            // The errors around it only add whose certificate it is.
            FaultKind::Certificate => {
                let (cause, remedy) = causes(error)
                    .find_map(|cause| Some((cause.to_string(), tls_remedy::of(cause.downcast_ref()?))))
                    .unwrap_or_default();
                (of_auth(error).map_or_else(|| cause.clone(), |why| format!("{why}: {cause}")), remedy)
            }
            FaultKind::Proxy => (chain(error), Some(PROXY_REMEDY)),
            FaultKind::Credentials if matches!(of_auth(error), Some(AuthError::Secret(_))) => {
                (chain(error), Some("give the secret that [auth] names"))
            }
            _ => (chain(error), None),
        };
        Self { kind, cause, remedy }
    }

    /// A fault of the connection that is reported as an answer to its request.
    pub(super) fn answered(status: StatusCode, body: &str) -> Option<Self> {
        let (kind, cause, remedy) = match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                (FaultKind::Proxy, "407 Proxy Authentication Required", PROXY_REMEDY)
            }
            // nginx: it makes the connection and refuses each request on it.
            StatusCode::BAD_REQUEST if body.contains("No required SSL certificate was sent") => (
                FaultKind::Certificate,
                "400 No required SSL certificate was sent",
                "the endpoint asks for a certificate of this client: give tls.client_cert_file and tls.client_key_file",
            ),
            StatusCode::BAD_REQUEST if body.contains("The SSL certificate error") => (
                FaultKind::Certificate,
                "400 The SSL certificate error",
                "the endpoint does not accept the certificate in tls.client_cert_file: it has expired, or is of an authority \
                 that the endpoint does not trust",
            ),
            _ => return None,
        };
        Some(Self { kind, cause: format!("answered {cause}"), remedy: Some(remedy) })
    }

    /// What somebody must do about it, if it does not resolve itself.
    pub(super) fn remedy(&self) -> Option<&'static str> {
        self.remedy
    }

    /// Returns the kind of fault, in a word.
    pub(super) fn kind(&self) -> String {
        self.kind.to_string()
    }

    /// Returns the fault with secrets masked.
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
        match error {
            reqwest_middleware::Error::Reqwest(error) => Self::of_client(error),
            reqwest_middleware::Error::Middleware(why) => {
                if why.is::<HeaderTimeout>() {
                    return Self::HeaderTimeout;
                }
                let of_auth = || why.downcast_ref::<AuthError>().map(Self::of_auth);
                let of_network = why.downcast_ref::<NetworkFault>().map(Self::of_simulated);
                of_network.or_else(of_auth).unwrap_or(Self::Request)
            }
        }
    }

    fn of_client(error: &reqwest::Error) -> Self {
        if error.is_builder() || error.is_redirect() {
            Self::Request
        } else if causes(error).any(|cause| cause.downcast_ref().is_some_and(machine::is_short)) {
            Self::Shortage
        } else if error.is_timeout() {
            Self::Timeout
        } else if causes(error).any(is_certificate) {
            Self::Certificate
        } else if causes(error).any(is_unprocessed) {
            Self::Unprocessed
        } else if causes(error).any(<dyn StdError>::is::<rustls::Error>) {
            Self::Tls
        } else if error.is_connect() && causes(error).any(is_proxy_refusal) {
            Self::Proxy
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
    fn of_auth(error: &AuthError) -> Self {
        match error {
            // A token request can also fail because of a shortage on this machine or a lack of trust, like any other.
            AuthError::Unreachable { why, .. } => match Self::of(why) {
                kind @ (Self::Shortage | Self::Certificate | Self::Proxy) => kind,
                _ => Self::Token,
            },
            AuthError::NoToken { .. } => Self::Token,
            AuthError::Refused { .. } | AuthError::Secret(_) => Self::Credentials,
        }
    }

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

fn of_auth(error: &reqwest_middleware::Error) -> Option<&AuthError> {
    match error {
        reqwest_middleware::Error::Middleware(why) => why.downcast_ref(),
        reqwest_middleware::Error::Reqwest(_) => None,
    }
}

fn is_certificate(cause: &(dyn StdError + 'static)) -> bool {
    cause.downcast_ref().is_some_and(|error| tls_remedy::of(error).is_some())
}

/// Its type is private.
fn is_proxy_refusal(cause: &(dyn StdError + 'static)) -> bool {
    cause.to_string().ends_with("proxy authorization required")
}

/// Whether the request was not processed, so that it is safe to resend: its stream is beyond the last one that a GOAWAY
/// promises to finish (RFC 9113 section 6.8), it was refused with `REFUSED_STREAM` (section 8.7), or its connection was gone
/// before it was written.
fn is_unprocessed(cause: &(dyn StdError + 'static)) -> bool {
    let refused = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        // h2 fails a stream with the server's GOAWAY only if it is beyond that one.
        let unprocessed = error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // An endpoint that asks for calm is not asked again at once.
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
        // It does not name the inner error as a cause.
        || cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io).is_some_and(lost)
}
