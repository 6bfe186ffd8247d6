//! From bodies to an outcome for each of their messages.
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
mod endpoint;
mod expiry;
mod fault;
mod gate;
mod header_timeout;
mod health;
mod items;
mod network;
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
mod shortage;
mod size;
mod slots;
mod spans;
mod tls;
mod trust;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use self::{backoff::Backoff, classify::Classifier, endpoint::Endpoint, network::Network, trust::Trust};
pub(crate) use self::{
    deadline::Deadline,
    endpoint::Endpoints,
    gate::{BreakerState, GateState, Origin},
    outcome::Outcome,
    parts::{Parts, Settled},
    pool::{Pools, Target, USER_AGENT},
    request::RequestTemplate,
    retry::{Parked, RetryState},
};
use crate::{
    auth::Transport,
    config::{ClientConfig, Config},
    otlp::Tracer,
    request::VerdictOf,
    telemetry::{Counters, EndpointMeter},
    world::World,
};

/// How often something that goes on is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// What sends spans to `url`, with the certificates and the proxy of a connector.
///
/// # Errors
/// The client cannot be built.
pub(crate) fn transport_of_spans(
    config: &ClientConfig,
    url: &reqwest::Url,
) -> Result<Box<dyn Transport>, String> {
    client::Client::of_token_endpoint(config, url)
}

/// Everything one connector needs to bring bodies to its endpoint.
#[derive(Debug)]
pub(crate) struct Delivery {
    client: Network,
    template: RequestTemplate,
    classifier: Classifier,
    backoff: Backoff,
    max_retries: u32,
    endpoint: Arc<Endpoint>,
    trust: Trust,
    max_response_bytes: usize,
    response: Option<Arc<VerdictOf>>,
    unreadable_logged: Mutex<Option<Instant>>,
    verbose: bool,
    counters: Arc<Counters>,
    tracer: Option<Arc<Tracer>>,
}

impl Delivery {
    /// # Errors
    /// The client cannot be built, or a secret went missing since the configuration was checked.
    pub(crate) fn new(config: &Config, counters: Arc<Counters>, world: &World) -> Result<Self, String> {
        Self::to(config, &mut Endpoints::default(), counters, None, world)
    }

    /// The same, beside others that may go to the same endpoint.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn to(
        config: &Config,
        endpoints: &mut Endpoints,
        counters: Arc<Counters>,
        tracer: Option<Arc<Tracer>>,
        world: &World,
    ) -> Result<Self, String> {
        let template = RequestTemplate::new(config)?;
        let origin = template.url().origin().ascii_serialization();
        let endpoint = endpoints.of(origin, template.label(), config, &counters);
        Ok(Self {
            client: Network::new(
                &config.client,
                &template.url(),
                config.endpoint.auth.as_ref(),
                &endpoint.meter,
                world,
            )?,
            classifier: Classifier::new(config),
            backoff: Backoff::new(&config.retry, world.clone()),
            max_retries: config.retry.max_retries,
            endpoint,
            trust: Trust::default(),
            max_response_bytes: config.max_response_bytes,
            response: config.response.clone(),
            unreadable_logged: Mutex::default(),
            verbose: config.verbose_logging,
            counters,
            tracer,
            template,
        })
    }

    /// The endpoint, as it may be shown.
    pub(crate) fn label(&self) -> &str {
        &self.endpoint.label
    }

    /// Whether the other goes to the same endpoint.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint)
    }

    /// How the gate of the endpoint stands.
    pub(crate) fn state(&self) -> GateState {
        self.endpoint.gate.state()
    }

    /// Ends all waits of now, for another attempt.
    pub(crate) fn retry_now(&self) {
        self.endpoint.gate.retry_now();
    }

    /// Sends nothing until [`Self::resume`], except the last attempts of messages whose deadline has passed.
    pub(crate) fn pause(&self) {
        self.endpoint.gate.pause();
    }

    /// Ends [`Self::pause`].
    pub(crate) fn resume(&self) {
        self.endpoint.gate.resume();
    }

    /// What is known of how requests end.
    pub(crate) fn meter(&self) -> &EndpointMeter {
        &self.endpoint.meter
    }
}
