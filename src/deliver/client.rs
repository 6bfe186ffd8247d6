//! The pooled client of one connector.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use reqwest::{
    Request, Response, Url,
    redirect::{Action, Attempt, Policy},
};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware};
use reqwest_tracing::TracingMiddleware;
use tracing::{Level, span_enabled};

use super::{connect::Connections, fault::chain, resolve::Resolver};
use crate::{
    auth::Transport,
    config::{ClientConfig, is_loopback},
};

/// As many hops as browsers and reqwest itself follow at most.
const MAX_REDIRECTS: usize = 10;

/// Sends requests. Each is one attempt, in a span of its own where somebody listens.
#[derive(Debug)]
pub(super) struct Client {
    pooled: Sender,
    /// Makes a connection for each request.
    fresh: Sender,
    connections: Connections,
    under_way: AtomicUsize,
}

impl Client {
    /// A client for `url`, whose requests pass `auth`.
    ///
    /// # Errors
    /// The TLS roots of the system cannot be used.
    pub(super) fn new(
        config: &ClientConfig,
        url: &Url,
        auth: Option<&Arc<dyn Middleware>>,
    ) -> Result<Self, String> {
        let connections = Connections::pooled();
        let sender = |idle: usize, connections: Connections| {
            Ok::<_, String>(Sender::new(client(config, url, idle, connections)?, auth))
        };
        let (pooled, fresh) = (
            sender(config.max_connections, connections.clone())?,
            sender(0, Connections::of_single_requests())?,
        );
        Ok(Self { pooled, fresh, connections, under_way: AtomicUsize::new(0) })
    }

    /// A client for a token endpoint. What it gets are credentials, which follow no redirect.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(super) fn of_token_endpoint(config: &ClientConfig, url: &Url) -> Result<Box<dyn Transport>, String> {
        let config = ClientConfig { follow_redirects: false, ..config.clone() };
        Ok(Box::new(Self::new(&config, url, None)?))
    }

    /// Sends a request, over a new connection if it is to be `fresh`. Says whether it may have gone over
    /// one that was there before: nobody tells, so that it is only sure of one that no other request
    /// can have made or given back meanwhile.
    pub(super) async fn execute(&self, request: Request, fresh: bool) -> (Result<Response, Error>, bool) {
        let under_way = UnderWay::new(&self.under_way);
        if fresh {
            return (self.fresh.execute(request).await, false);
        }
        let begun = self.connections.begun();
        let outcome = self.pooled.execute(request).await;
        let reused = !under_way.is_alone() || self.connections.begun() == begun;
        (outcome, reused)
    }
}

#[async_trait]
impl Transport for Client {
    /// A token is asked for so seldom that a connection that was kept would be closed by then.
    async fn send(&self, request: Request) -> Result<Response, Error> {
        self.execute(request, true).await.0
    }
}

fn client(
    config: &ClientConfig,
    url: &Url,
    idle: usize,
    connections: Connections,
) -> Result<reqwest::Client, String> {
    // Another sink of this process may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let keepalive = Some(config.tcp_keepalive).filter(|interval| !interval.is_zero());
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("iggy-http-sink/", env!("CARGO_PKG_VERSION")))
        .timeout(config.timeout)
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(config.pool_idle_timeout)
        .tcp_keepalive(keepalive)
        .tcp_nodelay(true)
        .dns_resolver(Resolver)
        .redirect(if config.follow_redirects { Policy::custom(follow) } else { Policy::none() })
        .referer(false)
        // Retries are made in one place, where they are counted.
        .retry(reqwest::retry::never())
        .connector_layer(connections)
        .tls_danger_accept_invalid_certs(config.accept_invalid_certs);
    if is_loopback(url) {
        // A proxy that the environment names would look for the endpoint on itself.
        client = client.no_proxy();
    }
    client.build().map_err(|why| format!("the HTTP client cannot be built: {}", chain(&why)))
}

/// A client whose requests are spans where they are listened to: making one that nobody sees would cost as much as a
/// tenth of a small request. Without [auth](crate::auth) no middleware is passed then.
#[derive(Debug)]
struct Sender {
    bare: reqwest::Client,
    /// `None` where requests need no credentials.
    signed: Option<ClientWithMiddleware>,
    traced: ClientWithMiddleware,
}

impl Sender {
    fn new(client: reqwest::Client, auth: Option<&Arc<dyn Middleware>>) -> Self {
        let mut traced = ClientBuilder::new(client.clone()).with(TracingMiddleware::default());
        if let Some(auth) = auth {
            // Innermost, so that no span sees a credential.
            traced = traced.with_arc(auth.clone());
        }
        let signed = auth.map(|auth| ClientBuilder::new(client.clone()).with_arc(auth.clone()).build());
        Self { bare: client, signed, traced: traced.build() }
    }

    async fn execute(&self, request: Request) -> Result<Response, Error> {
        // As the middleware names it.
        if span_enabled!(target: "reqwest_tracing::reqwest_otel_span_builder", Level::INFO) {
            self.traced.execute(request).await
        } else if let Some(signed) = &self.signed {
            signed.execute(request).await
        } else {
            self.bare.execute(request).await.map_err(Error::Reqwest)
        }
    }
}

/// Follows only redirects that keep the method and the body, within the host that was configured.
/// Any other ends as the answer it is, so that an empty GET to somewhere else never counts as delivery.
fn follow(attempt: Attempt<'_>) -> Action {
    let keeps_the_body = matches!(attempt.status().as_u16(), 307 | 308);
    let configured = attempt.previous().first();
    let same_host = configured.is_some_and(|from| from.host_str() == attempt.url().host_str());
    let downgrade =
        configured.is_some_and(|from| from.scheme() == "https" && attempt.url().scheme() != "https");
    if !keeps_the_body || !same_host || downgrade {
        attempt.stop()
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;

    /// Listens to spans of requests, and notes the names of the fields that are recorded in them later.
    #[derive(Default)]
    struct Listener {
        spans: Arc<Mutex<Vec<&'static str>>>,
        recorded: Arc<Mutex<Vec<&'static str>>>,
    }

    struct Names<'l>(&'l Mutex<Vec<&'static str>>);

    impl Visit for Names<'_> {
        fn record_debug(&mut self, field: &Field, _: &dyn std::fmt::Debug) {
            self.0.lock().expect("nobody panics").push(field.name());
        }
    }

    impl Subscriber for Listener {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_span() && metadata.target().starts_with("reqwest_tracing")
        }

        fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
            self.spans.lock().expect("nobody panics").push(attributes.metadata().name());
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, values: &span::Record<'_>) {
            values.record(&mut Names(&self.recorded));
        }

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_request_is_a_span_where_somebody_listens() {
        let listener = Listener::default();
        let (spans, recorded) = (listener.spans.clone(), listener.recorded.clone());
        tracing::subscriber::with_default(listener, || {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Sender::new(reqwest::Client::builder().no_proxy().build().expect("a client"), None);
            // Nobody listens there: it is the port that is never given out.
            let url = Url::parse("http://127.0.0.1:0/").expect("a URL");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime
                .expect("a runtime")
                .block_on(client.execute(Request::new(reqwest::Method::POST, url)));
            outcome.expect_err("there is no endpoint");
        });
        assert_eq!(*spans.lock().expect("nobody panics"), ["HTTP request"]);
        assert!(recorded.lock().expect("nobody panics").contains(&"otel.status_code"));
    }
}
