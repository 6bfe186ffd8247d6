//! Delivers bodies, and finds an outcome for each of their messages.
//!
//! ```text
//! parts (halves of what is too large or has a bad message in it)
//!   -> send (the one retry loop) -> gate (breaker, pause, rate, slot) -> attempt -> client (redirect -> auth -> header timeout -> reqwest)
//! ```

mod adaptive;
mod attempt;
mod backoff;
mod breaker;
mod classify;
mod client;
mod connect;
mod deadline;
mod delivery;
mod endpoint;
mod expiry;
mod fault;
mod gate;
mod header_timeout;
mod health;
mod items;
mod network;
mod origin;
mod outage;
mod outcome;
mod parts;
mod pool;
mod rate;
pub mod reach;
mod redirect;
mod request;
mod resolve;
mod retry;
mod retry_after;
mod send;
mod sent;
mod shortage;
mod size;
mod slots;
mod spans;
mod tls;
mod tls_remedy;
mod trust;

pub(crate) use self::{
    deadline::Deadline,
    delivery::Delivery,
    endpoint::Endpoints,
    gate::{BreakerState, GateState},
    origin::Origin,
    outcome::Outcome,
    parts::{Parts, Settled},
    pool::{Pools, Target, USER_AGENT},
    request::RequestTemplate,
    retry::{Parked, RetryState},
};
use crate::{auth::Transport, config::ClientConfig};

/// Creates the transport that sends spans to `url`, with the certificates and the proxy of a connector.
///
/// # Errors
/// The client cannot be built.
pub(crate) fn transport_of_spans(
    config: &ClientConfig,
    url: &reqwest::Url,
) -> Result<Box<dyn Transport>, String> {
    client::Client::of_token_endpoint(config, url)
}
