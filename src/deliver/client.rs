//! The client of one connector, which is rebuilt when its files change or its connections are too old.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Request, Response, Url};
use reqwest_middleware::{Error, Middleware};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    expiry,
    fault::FaultKind,
    header_timeout::LimitsHeader,
    pool::{Pools, Target},
    redirect::FollowsRedirects,
};
use crate::{
    auth::Transport,
    config::{ClientConfig, TlsFiles, is_loopback},
    secret::FileStamp,
    telemetry::{EndpointMeter, Reload},
};

/// How often files are checked for changes: with a request every microsecond, not each can ask the disk.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Sends requests. Each is one attempt, in a span of its own if somebody subscribes to spans.
pub(super) struct Client {
    config: ClientConfig,
    target: Target,
    /// The middleware that requests pass, the innermost last.
    middleware: Vec<Arc<dyn Middleware>>,
    /// The pools for new requests. Those in flight keep the pool they began with.
    current: RwLock<Arc<Current>>,
    /// Whether `current` is ever replaced.
    renews: bool,
    meter: Arc<EndpointMeter>,
    /// When the files were last checked; `None` asks for a check now.
    checked: Mutex<Option<Instant>>,
}

struct Current {
    pools: Pools,
    made: Instant,
    stamps: Vec<FileStamp>,
    in_flight: AtomicUsize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client for `url`, whose requests pass `auth`.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used, or there are no certificates to verify an https endpoint with.
    pub(super) fn new(
        config: &ClientConfig,
        url: &Url,
        auth: Option<&Arc<dyn Middleware>>,
        meter: &Arc<EndpointMeter>,
    ) -> Result<Self, String> {
        let stamps = stamps(config);
        let files = config.tls.read_files().map_err(|problems| {
            let problems: Vec<_> =
                problems.into_iter().map(|(key, why)| format!("tls.{key}: {why}")).collect();
            problems.join("; ")
        })?;
        record_expiry(&files, meter);
        let target = Target { https: url.scheme() == "https", loopback: is_loopback(url) };
        let mut middleware: Vec<Arc<dyn Middleware>> = Vec::new();
        if config.follow_redirects {
            middleware.push(Arc::new(FollowsRedirects { timeout: config.timeout }));
        }
        middleware.extend(auth.cloned());
        if !config.response_header_timeout.is_zero() {
            middleware.push(Arc::new(LimitsHeader { limit: config.response_header_timeout }));
        }
        let pools = Pools::new(config, target, &middleware, files)?;
        let renews = !stamps.is_empty() || !config.max_connection_age.is_zero();
        let current = Current { pools, made: Instant::now(), stamps, in_flight: AtomicUsize::new(0) };
        Ok(Self {
            config: config.clone(),
            target,
            middleware,
            current: RwLock::new(Arc::new(current)),
            renews,
            meter: meter.clone(),
            checked: Mutex::new(Some(Instant::now())),
        })
    }

    /// Creates a client for a token endpoint, with the proxy, TLS and timeouts of all requests. It sends credentials, so it
    /// follows no redirect.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(super) fn of_token_endpoint(config: &ClientConfig, url: &Url) -> Result<Box<dyn Transport>, String> {
        let config = ClientConfig {
            follow_redirects: false,
            // That is only known of the endpoint of messages.
            http2_prior_knowledge: false,
            ..config.clone()
        };
        Ok(Box::new(Self::new(&config, url, None, &Arc::default())?))
    }

    /// Sends a request, over a new connection if `fresh`. Also returns whether it may have used a pooled one: the pool does
    /// not say, so this is certain only while no other request can have opened or returned one.
    pub(super) async fn execute(&self, request: Request, fresh: bool) -> (Result<Response, Error>, bool) {
        if self.renews {
            self.renew();
        }
        let current = self.current();
        let in_flight = InFlight::new(&current.in_flight);
        let outcome = if fresh {
            (current.pools.fresh.execute(request).await, false)
        } else {
            let begun = current.pools.connections.begun();
            let outcome = current.pools.pooled.execute(request).await;
            let reused = !in_flight.is_alone() || current.pools.connections.begun() == begun;
            (outcome, reused)
        };
        if self.renews && matches!(&outcome.0, Err(why) if FaultKind::of(why) == FaultKind::Certificate) {
            // Somebody may have fixed it by the next attempt.
            *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }

    /// Rebuilds the client if its files changed (checked at most once a second) or its connections are too old. If that
    /// fails, the last good one stays in use.
    fn renew(&self) {
        let Ok(mut checked) = self.checked.try_lock() else { return };
        let now = Instant::now();
        let current = self.current();
        let age = self.config.max_connection_age;
        let is_old = !age.is_zero() && now.saturating_duration_since(current.made) >= age;
        let due = checked.is_none_or(|at| now.saturating_duration_since(at) >= CHECK_INTERVAL);
        if due && !current.stamps.is_empty() {
            *checked = Some(now);
            let stamps = stamps(&self.config);
            if stamps != current.stamps {
                self.read_again(&current, stamps, now);
                return;
            }
        }
        if is_old {
            match current.pools.anew(&self.config, self.target, &self.middleware, None) {
                Ok(pools) => {
                    debug!("the connections have reached their maximum age: new ones are opened");
                    let stamps = current.stamps.clone();
                    self.replace(Current { pools, made: now, stamps, in_flight: AtomicUsize::new(0) });
                }
                Err(why) => warn!("the connections have reached their maximum age, and stay in use: {why}"),
            }
        }
    }

    fn read_again(&self, current: &Current, stamps: Vec<FileStamp>, now: Instant) {
        let files = self.config.tls.read_files().map_err(|problems| {
            let (key, why) = &problems[0];
            format!("tls.{key}: {why}")
        });
        let made = files
            .inspect(|files| record_expiry(files, &self.meter))
            .and_then(|files| current.pools.anew(&self.config, self.target, &self.middleware, Some(files)));
        self.meter.reloaded(Reload::Tls, made.is_ok());
        let (pools, made) = match made {
            Ok(pools) => {
                info!("a file of [tls] or [proxy] changed: new connections use its new content");
                (pools, now)
            }
            Err(why) => {
                warn!(
                    "a file of [tls] or [proxy] changed and cannot be used, so its old content stays in use: {why}"
                );
                (current.pools.clone(), current.made)
            }
        };
        self.replace(Current { pools, made, stamps, in_flight: AtomicUsize::new(0) });
    }
}

#[async_trait]
impl Transport for Client {
    /// Tokens are requested so rarely that a kept connection would be closed by then.
    async fn send(&self, request: Request) -> Result<Response, Error> {
        self.execute(request, true).await.0
    }
}

/// Records when the client certificate expires, if there is one.
fn record_expiry(files: &TlsFiles, meter: &EndpointMeter) {
    let certificate = files.identity.as_ref().and_then(|(certificates, _)| certificates.first());
    if let Some(at) = certificate.and_then(|certificate| expiry::ends_at(certificate)) {
        meter.certificate_ends(at);
    }
}

fn stamps(config: &ClientConfig) -> Vec<FileStamp> {
    config.tls.file_stamps().chain(config.proxy.file_stamps()).collect()
}

/// A request in flight.
struct InFlight<'c>(&'c AtomicUsize, usize);

impl<'c> InFlight<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        Self(count, count.fetch_add(1, Relaxed))
    }

    /// Whether there was no other when it began, nor is there now.
    fn is_alone(&self) -> bool {
        self.1 == 0 && self.0.load(Relaxed) == 1
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
