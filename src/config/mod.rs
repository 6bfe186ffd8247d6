//! Turns the JSON of `[plugin_config]` into values that every later stage can trust.
//!
//! Checking needs no network, so `iggy-http-sink check` and `open` share it. All problems are found in one pass. A wrong
//! value never silently becomes a default.

pub(crate) mod auth;
mod body;
mod checked;
mod client;
mod connection;
mod declared;
mod delivery;
mod glob;
pub(crate) mod header;
mod headers;
mod keys;
mod lists;
mod meaning;
mod overrides;
mod preset;
mod problem;
mod query;
mod reader;
mod reference;
mod request;
mod retry;
mod routes;
mod starter;
mod status;
mod tracing;
mod transport;
mod typo;
mod units;
mod url;

use std::{cell::RefCell, time::Duration};

use reqwest::header::HeaderName;
use serde_json::Value;

use auth::Destination;
pub(crate) use auth::take_userinfo;
pub use auth::{
    ApiKeyLocation, AuthConfig, AwsKeys, AwsSigV4Config, ClientAuth, HmacAlgorithm, HmacConfig, HmacEncoding,
    OAuth2Config, Secret, SignedTemplate,
};
pub use checked::{
    BatchMode, BodyConfig, CircuitBreakerConfig, Compression, Concurrency, Config, DeadLetterConfig,
    DeadLetterEndpoint, EndpointConfig, Jitter, RateLimitConfig, RetryConfig, Route, SpoolConfig,
    StatusConfig, TracingConfig, WhenFull,
};
pub use connection::{
    ClientConfig, HealthCheckConfig, HealthCheckMethod, Method, ProxyConfig, TlsConfig, TlsVersion,
};
pub use declared::{Declared, Shape};
pub use glob::Glob;
pub use preset::Preset;
use problem::TABLE;
pub use problem::{Problem, Problems, shown_name, shown_value};
use reader::Reader;
use routes::Scope;
pub use starter::Starter;
pub(crate) use transport::TlsFiles;
pub use typo::nearest;
pub(crate) use url::{endpoint_url, is_loopback, shown_url};

pub use crate::{request::Ordering, secret::Text};

/// Keys of other connectors' configurations that are accepted and ignored.
const IGNORED: &[&str] = &["format"];

impl Config {
    /// Checks the JSON of `[plugin_config]`, with the runtime's environment overrides as flat keys in it.
    ///
    /// # Errors
    /// Every problem at once, each with its path.
    pub fn from_json(json: &Value) -> Result<Self, Problems> {
        let (problems, declared) = (RefCell::new(Vec::new()), RefCell::default());
        let mut table = match json {
            Value::Object(table) => table.clone(),
            Value::Null => serde_json::Map::new(),
            other => {
                let message = format!(
                    "is {}, and not a table: write [{TABLE}] with one line a key",
                    problem::kind(other)
                );
                problems.borrow_mut().push(Problem { path: TABLE.to_owned(), message });
                serde_json::Map::new()
            }
        };
        let mut of_keys = overrides::warnings(&table);
        of_keys.extend(headers::warnings(&table));
        let given = table.clone();
        let of_url = routes::apply_preset(&mut table).err();
        let keys = Reader::new(TABLE, table, &problems, &declared);
        if let Some(message) = of_url {
            keys.problem("url", message);
        }
        let (mut config, _) = Self::read(keys, Scope::Connector);
        routes::read(&given, &mut config, &problems);
        config.warnings.extend(of_keys);
        Problems::or_none(problems.into_inner(), config)
    }

    /// Returns the folders that this process could not write to, which would make `open` fail, whatever else is wrong.
    /// Nothing is created.
    pub fn unusable_folders(json: &serde_json::Map<String, Value>) -> Vec<Problem> {
        let (problems, declared) = (RefCell::default(), RefCell::default());
        let keys = Reader::new(TABLE, json.clone(), &problems, &declared);
        let (config, _) = Self::read(keys, Scope::Connector);
        delivery::unusable_folders(config.spool.as_ref(), config.dead_letter.as_ref())
    }

    /// Reads the configuration. Also returns the declared keys.
    fn read(mut keys: Reader<'_>, scope: Scope) -> (Self, Vec<&'static str>) {
        let mut warnings = Vec::new();
        let has_url = scope.needs_url(&mut keys) || keys.gives("url");
        let url = if has_url { url::read_url(&mut keys) } else { Text::default() };
        // Its defaults were added to the table before.
        let _: Option<Preset> = keys.optional_choice("preset");
        let method = keys.choice("method", Method::Post);
        let mut body = body::read(&mut keys);
        body.form = request::read_form(&mut keys, body.mode);
        let status_lists = retry::StatusLists::given(&keys);
        let success_status_codes = keys.status_codes("success_status_codes", false, &[200, 201, 202, 204]);
        let spool = delivery::read_spool(&mut keys);
        let spooled = spool.is_some() || scope == Scope::Route { spooled: true };
        let linger = delivery::read_linger(&mut keys, spooled, body.mode);
        let retry = retry::read(&mut keys, spooled);
        warnings.extend(status_lists.overlaps(&success_status_codes, &retry));
        let concurrency = delivery::read_concurrency(&mut keys);
        let mut client = client::read(&mut keys, concurrency);
        let max_response_bytes = client::read_max_response_bytes(&mut keys);
        let health_check = client::read_health_check(&mut keys);
        let close_timeout = keys.positive_duration("close_timeout", Duration::from_secs(10));
        let verbose_logging = keys.boolean("verbose_logging", false);
        let ordering = delivery::read_ordering(&mut keys);
        let own_headers = headers::read_own(&mut keys);
        let forwarded = headers::read_forwarded(&mut keys);
        let circuit_breaker = delivery::read_circuit_breaker(&mut keys);
        let rate_limit = delivery::read_rate_limit(&mut keys);
        let dead_letter = delivery::read_dead_letter(&mut keys);
        delivery::check_folders(&keys, spool.as_ref(), dead_letter.as_ref());
        client.tls = transport::read_tls(&mut keys);
        client.proxy = transport::read_proxy(&mut keys);
        let status = status::read(&mut keys);
        let tracing = tracing::read(&mut keys);
        delivery::check_when_full(&keys, spool.as_ref(), dead_letter.as_ref());
        let response = request::read_response(&mut keys);
        let of_items = response.as_ref().is_some_and(|response| response.items.is_some());
        let max_response_bytes =
            max_response_bytes.unwrap_or(if of_items { 16 << 20 } else { client::MAX_RESPONSE_BYTES });
        let endpoint = read_endpoint(&mut keys, url, method, own_headers);
        headers::check_forwarded(&keys, &endpoint, &forwarded);
        let forwarded = forwarded.into_iter().map(|(_, header)| header).collect();
        body.target = request::read_target(&keys, &endpoint, forwarded, &ordering, body.form.as_deref());
        request::check_compression(&keys, &endpoint, body.compression);
        for destination in destinations(&endpoint, dead_letter.as_ref()) {
            warnings.extend(auth::check(&keys, &destination));
        }
        let known = keys.finish(IGNORED);

        let mut config = Self {
            endpoint,
            body,
            success_status_codes,
            retry,
            client,
            concurrency,
            ordering,
            circuit_breaker,
            rate_limit,
            spool,
            linger,
            dead_letter,
            status,
            tracing,
            response,
            max_response_bytes,
            health_check,
            close_timeout,
            verbose_logging,
            warnings: Vec::new(),
            has_url,
            routes: Vec::new(),
        };
        warnings.extend(config.usual_warnings(spooled));
        config.warnings = warnings;
        (config, known)
    }

    /// Returns warnings about combinations of keys that are allowed, but may be a mistake.
    fn usual_warnings(&self, spooled: bool) -> Vec<String> {
        let mut warnings = self.client.warnings();
        warnings.extend(self.status.as_ref().and_then(status::warning));
        warnings.extend(delivery::unused_concurrency(self.concurrency, &self.ordering, spooled));
        let breaker = &self.circuit_breaker;
        if breaker.failure_threshold > 0 && self.retry.max_duration <= breaker.cool_down {
            warnings.push(
                "max_retry_duration is not above circuit_breaker.cool_down: while the breaker is open, messages \
                 are given up as soon as they arrive"
                    .to_owned(),
            );
        }
        if self.spool.is_some() && self.dead_letter.is_none() {
            warnings.push(
                "[spool] without [dead_letter]: consume has returned long before a message is refused for good, so that \
                 it is only logged as failed"
                    .to_owned(),
            );
        }
        let method = self.endpoint.method;
        if matches!(method, Method::Get | Method::Head) {
            warnings.push(format!("method {method} is sent with a body: many servers ignore or refuse it"));
        }
        warnings
    }
}

fn read_endpoint(
    keys: &mut Reader<'_>,
    url: Text,
    method: Method,
    (idempotency_header, retry_count_header): (Option<HeaderName>, Option<HeaderName>),
) -> EndpointConfig {
    EndpointConfig {
        url,
        method,
        idempotency_header,
        retry_count_header,
        allow_insecure_credentials: keys.boolean("allow_insecure_credentials", false),
        auth: auth::read(keys),
        headers: headers::read(keys),
    }
}

/// The destinations of requests: for messages, and for dead letters that do not go to files.
fn destinations<'c>(
    endpoint: &'c EndpointConfig,
    dead_letter: Option<&'c DeadLetterConfig>,
) -> Vec<Destination<'c>> {
    let messages = Destination {
        table: "",
        url: &endpoint.url,
        headers: &endpoint.headers,
        auth: endpoint.auth.as_ref(),
        own_headers: [
            ("idempotency_header", endpoint.idempotency_header.as_ref()),
            ("retry_count_header", endpoint.retry_count_header.as_ref()),
        ],
        allow_insecure_credentials: endpoint.allow_insecure_credentials,
    };
    let letters = match dead_letter {
        Some(DeadLetterConfig::Endpoint(letters)) => Some(Destination {
            table: "dead_letter.",
            url: &letters.url,
            headers: &letters.headers,
            auth: letters.auth.as_ref(),
            ..messages
        }),
        _ => None,
    };
    [Some(messages), letters].into_iter().flatten().collect()
}
