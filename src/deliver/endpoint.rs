//! The state that all requests to one endpoint share, whatever their routes.

use std::sync::{Arc, Mutex};

use super::{gate::Gate, outage::Outages, size::LearnedSize};
use crate::{
    config::Config,
    telemetry::{Counters, EndpointMeter},
};

/// A scheme, a host and a port.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) gate: Gate,
    pub(super) size: Mutex<LearnedSize>,
    pub(super) meter: Arc<EndpointMeter>,
    pub(super) outages: Outages,
    pub(super) counters: Arc<Counters>,
    /// The endpoint, as it may be shown.
    pub(super) label: String,
}

/// The endpoints of a connector, by their origins.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(Vec<(String, Arc<Endpoint>)>);

impl Endpoints {
    /// Returns the endpoint with this origin, or creates it by the configuration, which is the same for all that share it.
    pub(super) fn of(
        &mut self,
        origin: String,
        label: String,
        config: &Config,
        counters: &Arc<Counters>,
    ) -> Arc<Endpoint> {
        if let Some((_, endpoint)) = self.0.iter().find(|(other, _)| *other == origin) {
            return endpoint.clone();
        }
        let endpoint = Arc::new(Endpoint {
            gate: Gate::new(config),
            size: Mutex::default(),
            meter: counters.endpoint(&label),
            outages: Outages::default(),
            counters: counters.clone(),
            label,
        });
        self.0.push((origin, endpoint.clone()));
        endpoint
    }
}
