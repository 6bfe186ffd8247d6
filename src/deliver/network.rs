//! Sends requests over the real network, or into a simulated one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use reqwest::{Request, Response, Url};
use reqwest_middleware::Error;

use super::client::Client;
use crate::{
    auth::{self, Transport},
    config::{AuthConfig, ClientConfig},
    telemetry::{EndpointMeter, Reload},
    world::{NetworkFault, NetworkFaultKind, Reply, Simulation, World},
};

/// The network of one connector.
#[derive(Debug)]
pub(super) struct Network {
    kind: Kind,
    world: World,
}

#[derive(Debug)]
enum Kind {
    Real(Box<Client>),
    Simulated { simulation: Arc<dyn Simulation>, timeout: Duration },
}

/// Counts the results of token requests.
#[derive(Debug)]
struct CountsTokens {
    inner: Box<dyn Transport>,
    meter: Arc<EndpointMeter>,
}

#[async_trait]
impl Transport for CountsTokens {
    async fn send(&self, request: Request) -> Result<Response, Error> {
        let answered = self.inner.send(request).await;
        let is_good = answered.as_ref().is_ok_and(|answer| answer.status().is_success());
        self.meter.reloaded(Reload::Token, is_good);
        answered
    }
}

impl Network {
    /// Creates the network towards `url`; if there is `auth`, requests get credentials.
    ///
    /// # Errors
    /// Those of [`Client::new`], or a secret of `auth` cannot be read.
    pub(super) fn new(
        config: &ClientConfig,
        url: &Url,
        auth: Option<&AuthConfig>,
        meter: &Arc<EndpointMeter>,
        world: &World,
    ) -> Result<Self, String> {
        let token_client = |url: &Url| {
            let inner = Client::of_token_endpoint(config, url)?;
            Ok(Box::new(CountsTokens { inner, meter: meter.clone() }) as Box<dyn Transport>)
        };
        let auth = auth.map(|auth| auth::middleware(auth, world, token_client)).transpose()?;
        let kind = match world.simulation() {
            None => Kind::Real(Box::new(Client::new(config, url, auth.as_ref(), meter)?)),
            Some(_) if auth.is_some() => {
                return Err("auth: a simulated network takes no credentials".to_owned());
            }
            Some(simulation) => Kind::Simulated { simulation: simulation.clone(), timeout: config.timeout },
        };
        Ok(Self { kind, world: world.clone() })
    }

    /// Sends a request, over a new connection if `fresh`. Also returns whether it may have used one that existed before.
    pub(super) async fn execute(&self, request: Request, fresh: bool) -> (Result<Response, Error>, bool) {
        match &self.kind {
            Kind::Real(client) => client.execute(request, fresh).await,
            Kind::Simulated { simulation, timeout } => {
                let reply = tokio::time::timeout(*timeout, simulation.send(request)).await;
                let Reply { outcome, reused } = reply.unwrap_or_else(|_| {
                    let detail = "operation timed out".to_owned();
                    Reply {
                        outcome: Err(NetworkFault { kind: NetworkFaultKind::Timeout, detail }),
                        reused: false,
                    }
                });
                (outcome.map_err(Error::middleware), reused && !fresh)
            }
        }
    }

    /// The time of day.
    pub(super) fn now(&self) -> SystemTime {
        self.world.now()
    }
}
