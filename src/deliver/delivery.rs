//! Everything a connector needs to deliver bodies to an endpoint.

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

/// Delivers bodies to one endpoint.
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

    /// Like [`new`](Self::new), sharing state with others that have the same endpoint.
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

    /// Returns the endpoint, as it may be shown.
    pub(crate) fn label(&self) -> &str {
        &self.endpoint.label
    }

    /// Whether the other goes to the same endpoint.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint)
    }

    /// Returns the state of the endpoint's gate.
    pub(crate) fn state(&self) -> GateState {
        self.endpoint.gate.state()
    }

    /// Ends all present waits, so that another attempt follows.
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
