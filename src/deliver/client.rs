//! The pooled client of one connector.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use reqwest::{
    Request, Response, Url,
    redirect::{Action, Attempt, Policy},
};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error};
use reqwest_tracing::TracingMiddleware;
use tracing::{Level, span_enabled};
use url::Host;

use super::{connect::Connections, fault::chain, resolve::Resolver};
use crate::config::ClientConfig;

/// As many hops as browsers and reqwest itself follow at most.
const MAX_REDIRECTS: usize = 10;

/// Sends requests. Each is one attempt, in a span of its own where somebody listens.
#[derive(Debug)]
pub(super) struct Client {
    pooled: Traced,
    /// Makes a connection for each request.
    fresh: Traced,
    connections: Connections,
    under_way: AtomicUsize,
}

impl Client {
    /// A client for `url`.
    ///
    /// # Errors
    /// The TLS roots of the system cannot be used.
    pub(super) fn new(config: &ClientConfig, url: &Url) -> Result<Self, String> {
        // Another sink of this process may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connections = Connections::pooled();
        let keepalive = Some(config.tcp_keepalive).filter(|interval| !interval.is_zero());
        let client = |idle: usize, connections: Connections| {
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
            let client =
                client.build().map_err(|why| format!("the HTTP client cannot be built: {}", chain(&why)))?;
            Ok::<_, String>(Traced::new(client))
        };
        let (pooled, fresh) = (
            client(config.max_connections, connections.clone())?,
            client(0, Connections::of_single_requests())?,
        );
        Ok(Self { pooled, fresh, connections, under_way: AtomicUsize::new(0) })
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

/// A client whose requests are spans where they are listened to: making one that nobody sees would cost as much as a
/// tenth of a small request.
#[derive(Debug)]
struct Traced {
    silent: reqwest::Client,
    traced: ClientWithMiddleware,
}

impl Traced {
    fn new(client: reqwest::Client) -> Self {
        let traced = ClientBuilder::new(client.clone()).with(TracingMiddleware::default()).build();
        Self { silent: client, traced }
    }

    async fn execute(&self, request: Request) -> Result<Response, Error> {
        // As the middleware names it.
        if span_enabled!(target: "reqwest_tracing::reqwest_otel_span_builder", Level::INFO) {
            self.traced.execute(request).await
        } else {
            self.silent.execute(request).await.map_err(Error::Reqwest)
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
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
            let client = Traced::new(reqwest::Client::builder().no_proxy().build().expect("a client"));
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
