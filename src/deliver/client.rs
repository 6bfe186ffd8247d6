//! The client of one connector, which is made anew when its files change or its connections are too old.

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
    config::{ClientConfig, FileStamp, TlsFiles, is_loopback},
    telemetry::{EndpointMeter, Reload},
};

/// How long the files are not looked at again: a request a microsecond must not ask the disk each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sends requests. Each is one attempt, in a span of its own where somebody listens.
pub(super) struct Client {
    config: ClientConfig,
    target: Target,
    /// What requests pass on their way, the innermost last.
    middleware: Vec<Arc<dyn Middleware>>,
    /// What new requests go over. Those in flight keep what they began with.
    current: RwLock<Arc<Current>>,
    /// Whether `current` is ever replaced.
    renews: bool,
    meter: Arc<EndpointMeter>,
    /// When the files were last looked at; `None` asks for a look now.
    looked: Mutex<Option<Instant>>,
}

struct Current {
    pools: Pools,
    made: Instant,
    stamps: Vec<FileStamp>,
    under_way: AtomicUsize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `url`, whose requests pass `auth`.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used, or there are no certificates to check those of an https endpoint by.
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
        tell_end(&files, meter);
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
        let current = Current { pools, made: Instant::now(), stamps, under_way: AtomicUsize::new(0) };
        Ok(Self {
            config: config.clone(),
            target,
            middleware,
            current: RwLock::new(Arc::new(current)),
            renews,
            meter: meter.clone(),
            looked: Mutex::new(Some(Instant::now())),
        })
    }

    /// A client for a token endpoint, with the proxy, the TLS and the timeouts of all requests. What it gets are credentials, which
    /// follow no redirect.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(super) fn of_token_endpoint(config: &ClientConfig, url: &Url) -> Result<Box<dyn Transport>, String> {
        let config = ClientConfig {
            follow_redirects: false,
            // That is known of the endpoint of messages alone.
            http2_prior_knowledge: false,
            ..config.clone()
        };
        Ok(Box::new(Self::new(&config, url, None, &Arc::default())?))
    }

    /// Sends a request, over a new connection if it is to be `fresh`. Says whether it may have gone over
    /// one that was there before: nobody tells, so that it is only sure of one that no other request
    /// can have made or given back meanwhile.
    pub(super) async fn execute(&self, request: Request, fresh: bool) -> (Result<Response, Error>, bool) {
        if self.renews {
            self.renew();
        }
        let current = self.current();
        let under_way = UnderWay::new(&current.under_way);
        let outcome = if fresh {
            (current.pools.fresh.execute(request).await, false)
        } else {
            let begun = current.pools.connections.begun();
            let outcome = current.pools.pooled.execute(request).await;
            let reused = !under_way.is_alone() || current.pools.connections.begun() == begun;
            (outcome, reused)
        };
        if self.renews && matches!(&outcome.0, Err(why) if FaultKind::of(why) == FaultKind::Certificate) {
            // Whoever mends it is waited for.
            *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }

    /// Makes the client anew, if its files changed (at most once a second) or its connections are too old. Where that fails, the
    /// last good one stays in use.
    fn renew(&self) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        let now = Instant::now();
        let current = self.current();
        let age = self.config.max_connection_age;
        let is_old = !age.is_zero() && now.saturating_duration_since(current.made) >= age;
        let looks = looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN);
        if looks && !current.stamps.is_empty() {
            *looked = Some(now);
            let stamps = stamps(&self.config);
            if stamps != current.stamps {
                self.read_again(&current, stamps, now);
                return;
            }
        }
        if is_old {
            match current.pools.anew(&self.config, self.target, &self.middleware, None) {
                Ok(pools) => {
                    debug!("the connections are as old as they may be: new ones are made");
                    let stamps = current.stamps.clone();
                    self.replace(Current { pools, made: now, stamps, under_way: AtomicUsize::new(0) });
                }
                Err(why) => warn!("the connections are old, and stay in use: {why}"),
            }
        }
    }

    fn read_again(&self, current: &Current, stamps: Vec<FileStamp>, now: Instant) {
        let files = self.config.tls.read_files().map_err(|problems| {
            let (key, why) = &problems[0];
            format!("tls.{key}: {why}")
        });
        let made = files
            .inspect(|files| tell_end(files, &self.meter))
            .and_then(|files| current.pools.anew(&self.config, self.target, &self.middleware, Some(files)));
        self.meter.reloaded(Reload::Tls, made.is_ok());
        let (pools, made) = match made {
            Ok(pools) => {
                info!("a file of [tls] or [proxy] changed: new connections go by its new content");
                (pools, now)
            }
            Err(why) => {
                warn!(
                    "a file of [tls] or [proxy] changed and cannot be used, so its old content stays in use: {why}"
                );
                (current.pools.clone(), current.made)
            }
        };
        self.replace(Current { pools, made, stamps, under_way: AtomicUsize::new(0) });
    }
}

#[async_trait]
impl Transport for Client {
    /// A token is asked for so seldom that a connection that was kept would be closed by then.
    async fn send(&self, request: Request) -> Result<Response, Error> {
        self.execute(request, true).await.0
    }
}

/// Tells when the client certificate ends, where there is one.
fn tell_end(files: &TlsFiles, meter: &EndpointMeter) {
    let certificate = files.identity.as_ref().and_then(|(certificates, _)| certificates.first());
    if let Some(at) = certificate.and_then(|certificate| expiry::ends_at(certificate)) {
        meter.certificate_ends(at);
    }
}

fn stamps(config: &ClientConfig) -> Vec<FileStamp> {
    config.tls.file_stamps().chain(config.proxy.file_stamps()).collect()
}

/// A request on its way.
struct UnderWay<'c>(&'c AtomicUsize, usize);

impl<'c> UnderWay<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        Self(count, count.fetch_add(1, Relaxed))
    }

    /// Whether there was no other when it began, nor is there now.
    fn is_alone(&self) -> bool {
        self.1 == 0 && self.0.load(Relaxed) == 1
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
