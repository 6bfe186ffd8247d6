//! From the JSON of `[plugin_config]` to values that every later stage can trust.
//!
//! Checking needs no network, so `iggy-http-sink check` and `open` share it. All problems are
//! found in one pass. A wrong value never falls back to a default in silence.

mod delivery;
pub(crate) mod headers;
mod key;
mod problem;
mod reader;
mod secret;
mod units;

use std::{cell::RefCell, collections::BTreeSet, num::NonZeroUsize, path::PathBuf, time::Duration};

use reqwest::header::HeaderName;
use serde_json::Value;
use strum::{Display, EnumString, VariantNames};

pub use key::KeyTemplate;
pub use problem::{Problem, Problems};
use reader::Reader;
pub(crate) use secret::FileStamp;
pub use secret::Text;

/// The table that the keys stand in, as the first part of every path.
const TABLE: &str = "plugin_config";

/// Keys of other connectors' configurations that are accepted and mean nothing here.
const IGNORED: &[&str] = &["format"];

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where requests go.
    pub endpoint: EndpointConfig,
    /// What bodies look like.
    pub body: BodyConfig,
    /// Which answers count as delivered.
    pub success_status_codes: BTreeSet<u16>,
    /// When and how often a request is sent again.
    pub retry: RetryConfig,
    /// How connections are made and kept.
    pub client: ClientConfig,
    /// How many requests are under way at once.
    pub concurrency: Concurrency,
    /// What is kept in order.
    pub ordering: Ordering,
    /// When requests to a failing endpoint stop.
    pub circuit_breaker: CircuitBreakerConfig,
    /// How much may be sent a second.
    pub rate_limit: RateLimitConfig,
    /// Where messages go that cannot be delivered, if anywhere.
    pub dead_letter: Option<DeadLetterConfig>,
    /// The most bytes kept of an answer, for the log.
    pub max_response_bytes: usize,
    /// The method of the request that `open` sends first, if it does.
    pub health_check: Option<Method>,
    /// How long `close` may take.
    pub close_timeout: Duration,
    /// Whether each request and answer is logged at debug.
    pub verbose_logging: bool,
    /// What is allowed but deserves a word at every open.
    pub warnings: Vec<String>,
}

/// Where requests go, and with what.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// An `http` or `https` URL.
    pub url: Text,
    /// The method of each request.
    pub method: Method,
    /// Headers of each request, `Content-Type` among them where it is configured.
    pub headers: Vec<(HeaderName, Text)>,
    /// The header that holds the same key for the same messages, however often they are sent.
    pub idempotency_header: Option<HeaderName>,
    /// The header that tells how often a request was sent before.
    pub retry_count_header: Option<HeaderName>,
}

/// What bodies look like.
#[derive(Debug, Clone)]
pub struct BodyConfig {
    /// How messages become bodies.
    pub mode: BatchMode,
    /// Whether each payload comes in an envelope with `metadata`.
    pub include_metadata: bool,
    /// Whether the envelope holds `iggy_checksum`.
    pub include_checksum: bool,
    /// Whether the envelope holds `iggy_origin_timestamp`.
    pub include_origin_timestamp: bool,
    /// The most bytes of one body; `usize::MAX` where there is no limit.
    pub max_bytes: usize,
    /// The most messages of one body, if there is a limit.
    pub max_messages: Option<NonZeroUsize>,
}

/// When and how often a request is sent again.
#[derive(Debug, Clone)]
pub struct RetryConfig {
    /// Retries of one request beyond its first attempt.
    pub max_retries: u32,
    /// The wait before the first retry; at most [`max_delay`](Self::max_delay).
    pub delay: Duration,
    /// What each further wait is multiplied by; at least 1.
    pub multiplier: u32,
    /// The longest wait between two attempts.
    pub max_delay: Duration,
    /// How waits are spread.
    pub jitter: Jitter,
    /// How long after its acceptance by `consume` a message may still be waited for.
    pub max_duration: Duration,
    /// The most a server may ask for with `Retry-After`.
    pub max_retry_after: Duration,
    /// The answers that are worth another attempt.
    pub status_codes: BTreeSet<u16>,
    /// The answers that are waited out until the deadline, whatever [`max_retries`](Self::max_retries) says.
    pub hold_status_codes: BTreeSet<u16>,
    /// The answers that say that some message of a body is bad, but not which.
    pub isolate_status_codes: BTreeSet<u16>,
}

/// How many requests are under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Always so many, as far as there are lanes for them.
    Fixed(NonZeroUsize),
    /// As many as the endpoint takes well.
    Adaptive {
        /// Never more than this.
        max: NonZeroUsize,
    },
}

impl Concurrency {
    /// The most requests that can be under way.
    pub fn max(self) -> NonZeroUsize {
        match self {
            Self::Fixed(max) | Self::Adaptive { max } => max,
        }
    }
}

/// What is kept in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordering {
    /// The messages of each partition.
    Partition,
    /// The messages with the same key.
    Key(KeyTemplate),
    /// Nothing.
    None,
}

/// When requests to a failing endpoint stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreakerConfig {
    /// Transient failures in a row that open it; 0: it never opens.
    pub failure_threshold: u32,
    /// How long it stays open before a probe.
    pub cool_down: Duration,
}

/// How much may be sent a second; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RateLimitConfig {
    /// Requests, repetitions included.
    pub requests_per_second: Option<f64>,
    /// Messages.
    pub messages_per_second: Option<f64>,
    /// Bytes of bodies.
    pub bytes_per_second: Option<f64>,
}

/// Where messages go that cannot be delivered.
#[derive(Debug, Clone)]
pub enum DeadLetterConfig {
    /// Into NDJSON files in this folder.
    Path {
        /// The folder.
        path: PathBuf,
        /// The most bytes of all files together.
        max_bytes: u64,
        /// The size at which a file is ended and the next begun.
        segment_bytes: u64,
    },
    /// To another endpoint, as NDJSON.
    Url(Text),
}

/// How waits between attempts are spread, so that senders do not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum Jitter {
    /// Anywhere from zero to the full wait.
    Full,
    /// Anywhere from half of `retry_delay` to the full wait.
    Bounded,
    /// The full wait.
    None,
}

/// How connections are made and kept.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The time one attempt may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// The time connecting may take.
    pub connect_timeout: Duration,
    /// Idle connections kept for each host.
    pub max_connections: usize,
    /// How long a connection is kept without use.
    pub pool_idle_timeout: Duration,
    /// The interval of TCP keepalive probes; zero turns them off.
    pub tcp_keepalive: Duration,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether certificates go unchecked.
    pub accept_invalid_certs: bool,
}

/// A request method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of RFC 9110")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

/// How messages become bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum BatchMode {
    /// One envelope a request.
    Individual,
    /// One envelope a line.
    #[strum(to_string = "nd_json", serialize = "ndjson")]
    NdJson,
    /// One array of envelopes a request.
    JsonArray,
    /// One payload a request, as it is.
    Raw,
}

impl BatchMode {
    /// The media type of the bodies.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Individual | Self::JsonArray => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Raw => "application/octet-stream",
        }
    }

    /// Whether a body can hold more than one message.
    pub fn batches(self) -> bool {
        matches!(self, Self::NdJson | Self::JsonArray)
    }
}

impl Config {
    /// Checks the JSON of `[plugin_config]`, with the runtime's environment overrides as flat keys in it.
    ///
    /// # Errors
    /// Every problem at once, each with its path.
    pub fn from_json(json: &Value) -> Result<Self, Problems> {
        let problems = RefCell::new(Vec::new());
        let table = match json {
            Value::Object(table) => table.clone(),
            Value::Null => serde_json::Map::new(),
            other => {
                let message = format!("{other} is not a table: write [{TABLE}] with one line a key");
                problems.borrow_mut().push(Problem { path: TABLE.to_owned(), message });
                serde_json::Map::new()
            }
        };
        let (config, _) = Self::read(Reader::new(TABLE, table, &problems));
        Problems::or_none(problems.into_inner(), config)
    }

    /// The names of all keys and tables of `[plugin_config]`.
    pub fn keys() -> Vec<&'static str> {
        let problems = RefCell::default();
        Self::read(Reader::new(TABLE, serde_json::Map::new(), &problems)).1
    }

    /// The configuration, and the keys that there are.
    fn read(mut keys: Reader<'_>) -> (Self, Vec<&'static str>) {
        let mut warnings = Vec::new();
        let url = read_url(&mut keys);
        let method = keys.choice("method", Method::Post);
        let body = read_body(&mut keys);
        let success_status_codes = keys.status_codes("success_status_codes", false, &[200, 201, 202, 204]);
        let retry = read_retry(&mut keys);
        let client = read_client(&mut keys);
        let max_response_bytes =
            usize::try_from(keys.size("max_response_bytes", 65536)).unwrap_or(usize::MAX);
        let health_check_enabled = keys.boolean("health_check_enabled", false);
        let health_check_method = keys.choice("health_check_method", Method::Head);
        let close_timeout = keys.positive_duration("close_timeout", Duration::from_secs(10));
        let verbose_logging = keys.boolean("verbose_logging", false);
        let concurrency = delivery::read_concurrency(&mut keys);
        let ordering = delivery::read_ordering(&mut keys);
        let idempotency_header = headers::read_name(&mut keys, "idempotency_header", "Idempotency-Key");
        let retry_count_header = headers::read_name(&mut keys, "retry_count_header", "X-Retry-Count");
        let circuit_breaker = delivery::read_circuit_breaker(&mut keys);
        let rate_limit = delivery::read_rate_limit(&mut keys);
        let dead_letter = delivery::read_dead_letter(&mut keys);
        let headers = headers::read(&mut keys);
        let known = keys.finish(IGNORED);

        if client.accept_invalid_certs {
            warnings.push(
                "tls_danger_accept_invalid_certs is on: anyone on the way can read and change what is sent"
                    .to_owned(),
            );
        }
        if matches!(method, Method::Get | Method::Head) {
            warnings.push(format!("method {method} is sent with a body: many servers ignore or refuse it"));
        }
        let config = Self {
            endpoint: EndpointConfig { url, method, headers, idempotency_header, retry_count_header },
            body,
            success_status_codes,
            retry,
            client,
            concurrency,
            ordering,
            circuit_breaker,
            rate_limit,
            dead_letter,
            max_response_bytes,
            health_check: health_check_enabled.then_some(health_check_method),
            close_timeout,
            verbose_logging,
            warnings,
        };
        (config, known)
    }
}

fn read_url(keys: &mut Reader<'_>) -> Text {
    let hint = "the endpoint to send to, such as \"https://example.com/ingest\"";
    keys.required_text("url", hint, checked_url)
}

/// # Errors
/// What is wrong with a URL, with the URL as configured.
fn checked_url(text: &Text) -> Result<(), String> {
    let url = endpoint_url(&text.resolve()?);
    url.map(drop).map_err(|why| format!("\"{}\" {why}", without_userinfo(&text.to_string())))
}

/// A URL as configured, with user and password replaced by `***`: it can be written in a log.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Reads an endpoint's URL.
///
/// # Errors
/// What is wrong with it, without the URL itself, which may hold a secret.
pub(crate) fn endpoint_url(url: &str) -> Result<reqwest::Url, String> {
    if url.trim().is_empty() {
        return Err(
            "is empty: write the endpoint to send to, such as \"https://example.com/ingest\"".to_owned()
        );
    }
    let parsed = reqwest::Url::parse(url)
        .map_err(|why| format!("is not a URL ({why}): write one such as \"https://example.com/ingest\""))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        scheme => Err(format!("has the scheme \"{scheme}\": only http and https are allowed")),
    }
}

fn read_body(keys: &mut Reader<'_>) -> BodyConfig {
    let max_bytes = keys.size("max_payload_size_bytes", 10_485_760);
    BodyConfig {
        mode: keys.choice("batch_mode", BatchMode::Individual),
        include_metadata: keys.boolean("include_metadata", true),
        include_checksum: keys.boolean("include_checksum", false),
        include_origin_timestamp: keys.boolean("include_origin_timestamp", false),
        max_bytes: match max_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        },
        max_messages: NonZeroUsize::new(keys.integer("max_batch_messages", 0..=usize::MAX, 0)),
    }
}

fn read_retry(keys: &mut Reader<'_>) -> RetryConfig {
    let retry = RetryConfig {
        max_retries: keys.integer("max_retries", 0..=u32::MAX, 3),
        delay: keys.duration("retry_delay", Duration::from_secs(1)),
        multiplier: keys.integer("retry_backoff_multiplier", 1..=u32::MAX, 2),
        max_delay: keys.duration("max_retry_delay", Duration::from_secs(30)),
        jitter: keys.choice("retry_jitter", Jitter::Full),
        max_duration: keys.duration("max_retry_duration", Duration::from_mins(5)),
        max_retry_after: keys.duration("max_retry_after", Duration::from_mins(5)),
        status_codes: keys.status_codes("retry_status_codes", true, &retryable_by_default()),
        hold_status_codes: keys.status_codes("hold_status_codes", true, &[]),
        isolate_status_codes: keys.status_codes("isolate_status_codes", true, &[400, 422]),
    };
    if retry.delay > retry.max_delay {
        keys.problem(
            "retry_delay",
            format!(
                "{} is above max_retry_delay, {}: lower it, or raise max_retry_delay",
                humantime::format_duration(retry.delay),
                humantime::format_duration(retry.max_delay)
            ),
        );
    }
    retry
}

/// 408, 425, 429 and every 5xx but 501 and 505, which no repetition can mend (RFC 9110, 15.6).
fn retryable_by_default() -> Vec<u16> {
    [408, 425, 429].into_iter().chain((500..=599).filter(|code| ![501, 505].contains(code))).collect()
}

fn read_client(keys: &mut Reader<'_>) -> ClientConfig {
    ClientConfig {
        timeout: keys.positive_duration("timeout", Duration::from_secs(30)),
        connect_timeout: keys.positive_duration("connect_timeout", Duration::from_secs(10)),
        max_connections: keys.integer("max_connections", 0..=usize::MAX, 10),
        pool_idle_timeout: keys.duration("pool_idle_timeout", Duration::from_secs(90)),
        tcp_keepalive: keys.duration("tcp_keepalive", Duration::from_secs(30)),
        follow_redirects: keys.boolean("follow_redirects", false),
        accept_invalid_certs: keys.boolean("tls_danger_accept_invalid_certs", false),
    }
}
