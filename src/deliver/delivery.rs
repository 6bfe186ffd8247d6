//! What a connector needs to bring bodies to its endpoint.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::{
    backoff::Backoff,
    classify::Classifier,
    endpoint::{Endpoint, Endpoints},
    gate::GateState,
    network::Network,
    request::RequestTemplate,
    trust::Trust,
};
use crate::{
    config::Config,
    otlp::Tracer,
    request::VerdictOf,
    telemetry::{Counters, EndpointMeter},
    world::World,
};

/// Everything one connector needs to bring bodies to its endpoint.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(super) client: Network,
    pub(super) template: RequestTemplate,
    pub(super) classifier: Classifier,
    pub(super) backoff: Backoff,
    pub(super) max_retries: u32,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) trust: Trust,
    pub(super) max_response_bytes: usize,
    pub(super) response: Option<Arc<VerdictOf>>,
    pub(super) unreadable_logged: Mutex<Option<Instant>>,
    pub(super) verbose: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) tracer: Option<Arc<Tracer>>,
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
