//! The pooled HTTP clients that send requests, built from the configuration.

use std::sync::Arc;

use reqwest::{Proxy, Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware};
use reqwest_tracing::TracingMiddleware;
use tracing::{Level, span_enabled};

use super::{connect::Connections, resolve::Resolver, tls};
use crate::{
    causes::chain,
    config::{ClientConfig, ProxyConfig, TlsFiles},
};

/// The `User-Agent` of requests.
pub(crate) const USER_AGENT: &str = concat!("iggy-http-sink/", env!("CARGO_PKG_VERSION"));

/// The properties of the endpoint that matter to a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) loopback: bool,
}

/// Two clients with the same TLS.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    pub(crate) pooled: Sender,
    /// Opens a connection for each request.
    pub(crate) fresh: Sender,
    /// Those of `pooled`.
    pub(super) connections: Connections,
    tls: rustls::ClientConfig,
}

impl Pools {
    /// # Errors
    /// What of the configuration cannot be used.
    pub(crate) fn new(
        config: &ClientConfig,
        target: Target,
        middleware: &[Arc<dyn Middleware>],
        files: TlsFiles,
    ) -> Result<Self, String> {
        Self::with(config, target, middleware, tls::tls(config, files, target.https)?, Connections::pooled())
    }

    /// The same without its connections, and with the content of other files if given.
    ///
    /// # Errors
    /// What of the configuration cannot be used.
    pub(crate) fn anew(
        &self,
        config: &ClientConfig,
        target: Target,
        middleware: &[Arc<dyn Middleware>],
        files: Option<TlsFiles>,
    ) -> Result<Self, String> {
        let tls = match files {
            None => self.tls.clone(),
            Some(files) => tls::tls(config, files, target.https)?,
        };
        Self::with(config, target, middleware, tls, self.connections.anew())
    }

    fn with(
        config: &ClientConfig,
        target: Target,
        middleware: &[Arc<dyn Middleware>],
        tls: rustls::ClientConfig,
        connections: Connections,
    ) -> Result<Self, String> {
        let sender = |idle, connections| {
            Ok::<_, String>(Sender::new(client(config, target, &tls, idle, connections)?, middleware))
        };
        Ok(Self {
            pooled: sender(config.max_connections, connections.clone())?,
            fresh: sender(0, Connections::of_single_requests())?,
            connections,
            tls,
        })
    }
}

fn client(
    config: &ClientConfig,
    target: Target,
    tls: &rustls::ClientConfig,
    idle: usize,
    connections: Connections,
) -> Result<reqwest::Client, String> {
    let keepalive = Some(config.tcp_keepalive).filter(|interval| !interval.is_zero());
    let mut client = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .timeout(config.timeout)
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(config.pool_idle_timeout)
        .tcp_keepalive(keepalive)
        .tcp_nodelay(true)
        .dns_resolver(Resolver)
        // They are followed where each hop is signed.
        .redirect(reqwest::redirect::Policy::none())
        // Retries are made by the loop in `send.rs`, where they are counted.
        .retry(reqwest::retry::never())
        .connector_layer(connections)
        .tls_backend_preconfigured(tls.clone());
    if config.http2_prior_knowledge {
        client = client.http2_prior_knowledge();
    }
    if let Some(proxy) = proxy(&config.proxy)? {
        client = client.proxy(proxy);
    } else if target.loopback || !config.proxy.from_environment || config.proxy.url.is_some() {
        // A proxy from the environment would look for a loopback endpoint on its own machine.
        client = client.no_proxy();
    }
    client.build().map_err(|why| format!("the HTTP client cannot be built: {}", chain(&why)))
}

/// # Errors
/// Its secrets cannot be read.
fn proxy(config: &ProxyConfig) -> Result<Option<Proxy>, String> {
    // For reqwest, `*` matches no address.
    let everything = config.no_proxy.iter().any(|entry| entry == "*");
    let Some(url) = config.url.as_ref().filter(|_| !everything) else { return Ok(None) };
    let resolve =
        |key: &str, text: &crate::config::Text| text.resolve().map_err(|why| format!("proxy.{key}: {why}"));
    let url = resolve("url", url)?;
    // The error text may contain part of a secret.
    let mut proxy = Proxy::all(url).map_err(|_| "proxy.url is not the URL of a proxy".to_owned())?;
    if let Some(username) = &config.username {
        let password = config.password.as_ref().map(|text| resolve("password", text)).transpose()?;
        proxy = proxy.basic_auth(&resolve("username", username)?, &password.unwrap_or_default());
    }
    if !config.no_proxy.is_empty() {
        proxy = proxy.no_proxy(reqwest::NoProxy::from_string(&config.no_proxy.join(",")));
    }
    Ok(Some(proxy))
}

/// A client whose requests are spans if somebody subscribes to them: creating one that nobody sees would cost a tenth of a
/// small request. Without middleware, the plain client is used.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    bare: reqwest::Client,
    /// `None` if there is no middleware.
    wrapped: Option<ClientWithMiddleware>,
    traced: ClientWithMiddleware,
}

impl Sender {
    fn new(client: reqwest::Client, middleware: &[Arc<dyn Middleware>]) -> Self {
        let with = |builder: ClientBuilder| {
            middleware.iter().cloned().fold(builder, ClientBuilder::with_arc).build()
        };
        // Outermost, so that no span sees a credential.
        let traced = with(ClientBuilder::new(client.clone()).with(TracingMiddleware::default()));
        let wrapped = (!middleware.is_empty()).then(|| with(ClientBuilder::new(client.clone())));
        Self { bare: client, wrapped, traced }
    }

    pub(crate) async fn execute(&self, request: Request) -> Result<Response, Error> {
        // As the middleware names it.
        if span_enabled!(target: "reqwest_tracing::reqwest_otel_span_builder", Level::INFO) {
            self.traced.execute(request).await
        } else if let Some(wrapped) = &self.wrapped {
            wrapped.execute(request).await
        } else {
            self.bare.execute(request).await.map_err(Error::Reqwest)
        }
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
    use crate::config::Config;

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
            let config =
                Config::from_json(&serde_json::json!({ "url": "http://127.0.0.1:0/" })).expect("it is right");
            let target = Target { https: false, loopback: true };
            let client =
                Pools::new(&config.client, target, &[], TlsFiles::default()).expect("a client").pooled;
            // Nobody listens there: it is the port that is never given out.
            let url = reqwest::Url::parse("http://127.0.0.1:0/").expect("a URL");
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
