//! The checked configuration: values that every later stage can trust.

use std::{
    collections::BTreeSet, fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration,
};

use reqwest::{Url, header::HeaderName};
use strum::{Display, EnumString, VariantNames};

use super::{AuthConfig, ClientConfig, Glob, HealthCheckConfig, Method, Text, shown_url};
use crate::request::{Form, Ordering, TargetTemplate, VerdictOf};

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
    /// How many requests are in flight at once.
    pub concurrency: Concurrency,
    /// What is kept in order.
    pub ordering: Ordering,
    /// When requests to a failing endpoint stop.
    pub circuit_breaker: CircuitBreakerConfig,
    /// How much may be sent per second.
    pub rate_limit: RateLimitConfig,
    /// Where batches are kept until they are delivered; without it, consume waits for their delivery.
    pub spool: Option<SpoolConfig>,
    /// How long a body waits for more messages, from when its first one was accepted; zero without a spool.
    pub linger: Duration,
    /// Where messages that cannot be delivered are kept, if anywhere.
    pub dead_letter: Option<DeadLetterConfig>,
    /// The address of the status page, if there is one.
    pub status: Option<StatusConfig>,
    /// Where spans of attempts go.
    pub tracing: Option<TracingConfig>,
    /// Where answers say whether messages were accepted, if their status does not decide.
    pub response: Option<Arc<VerdictOf>>,
    /// The maximum that is read of an answer into memory, in bytes.
    pub max_response_bytes: usize,
    /// Whether and how `open` checks the endpoint.
    pub health_check: Option<HealthCheckConfig>,
    /// How long `close` may take.
    pub close_timeout: Duration,
    /// Whether each request and answer is logged at debug.
    pub verbose_logging: bool,
    /// Warnings about values that are allowed, but may be a mistake; logged at every open.
    pub warnings: Vec<String>,
    /// Whether messages that no route matches go to [`endpoint`](Self::endpoint).
    pub has_url: bool,
    /// Other endpoints or requests for some topics; the first match is used.
    pub routes: Vec<Route>,
}

/// Where the messages of some topics go, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// The streams that it is for.
    pub stream: Glob,
    /// The topics of these streams.
    pub topic: Glob,
    /// Its own keys, completed by those of the connector.
    pub config: Config,
}

impl Route {
    /// Whether it matches a topic.
    pub fn matches(&self, stream: &str, topic: &str) -> bool {
        self.stream.matches(stream) && self.topic.matches(topic)
    }
}

impl Config {
    /// Returns what applies to a topic: the first route that matches it, else the keys of the connector; `None` if that has
    /// no `url`.
    pub fn route(&self, stream: &str, topic: &str) -> Option<&Self> {
        let route = self.routes.iter().find(|route| route.matches(stream, topic));
        route.map(|route| &route.config).or_else(|| self.has_url.then_some(self))
    }

    /// Iterates over all destinations: each route, and finally the connector if it has a `url`.
    pub fn destinations(&self) -> impl Iterator<Item = &Self> {
        self.routes.iter().map(|route| &route.config).chain(self.has_url.then_some(self))
    }
}

/// Where requests go, and with what.
#[derive(Clone)]
pub struct EndpointConfig {
    /// An `http` or `https` URL.
    pub url: Text,
    /// The method of each request.
    pub method: Method,
    /// Headers of each request, including `Content-Type` if it is configured.
    pub headers: Vec<(HeaderName, Text)>,
    /// The header that holds the same key for the same messages, however often they are sent.
    pub idempotency_header: Option<HeaderName>,
    /// The header with the number of times a request was sent before.
    pub retry_count_header: Option<HeaderName>,
    /// How requests authenticate, if they do.
    pub auth: Option<AuthConfig>,
    /// Whether credentials may be sent where others can read them.
    pub allow_insecure_credentials: bool,
}

impl fmt::Debug for EndpointConfig {
    /// Shows no more of a URL than the log does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("url", &shown_url(&self.url))
            .field("method", &self.method)
            .field("headers", &self.headers)
            .field("idempotency_header", &self.idempotency_header)
            .field("retry_count_header", &self.retry_count_header)
            .field("auth", &self.auth)
            .field("allow_insecure_credentials", &self.allow_insecure_credentials)
            .finish()
    }
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
    /// The maximum size of one body, in bytes; `usize::MAX` if there is no limit.
    pub max_bytes: usize,
    /// The maximum number of messages in one body, if there is a limit.
    pub max_messages: Option<NonZeroUsize>,
    /// The parts of requests that depend on their messages, if any.
    pub target: Option<Arc<TargetTemplate>>,
    /// The format of bodies, if it is not that of the mode.
    pub form: Option<Arc<Form>>,
    /// How bodies are compressed, if at all.
    pub compression: Option<Compression>,
    /// The method for a message without a payload, which is then a request of its own, without a body; `None` if such a
    /// message is treated like any other.
    pub tombstone_method: Option<Method>,
}

impl BodyConfig {
    /// The media type of the bodies.
    pub fn content_type(&self) -> &'static str {
        let of_form = self.form.as_ref().and_then(|form| form.format.content_type());
        of_form.unwrap_or(self.mode.content_type())
    }
}

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip {
        /// 1 to 9.
        level: u32,
    },
    /// RFC 8878.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

/// When and how often a request is sent again.
#[derive(Debug, Clone)]
pub struct RetryConfig {
    /// Retries of one request beyond its first attempt.
    pub max_retries: u32,
    /// The wait before the first retry; at most [`max_delay`](Self::max_delay).
    pub delay: Duration,
    /// The factor from each wait to the next; at least 1.
    pub multiplier: u32,
    /// The longest wait between two attempts.
    pub max_delay: Duration,
    /// How waits are randomized.
    pub jitter: Jitter,
    /// How long after its acceptance by `consume` a message may be retried.
    pub max_duration: Duration,
    /// The longest pause that a server may ask for with `Retry-After`.
    pub max_retry_after: Duration,
    /// The answers that are retried.
    pub status_codes: BTreeSet<u16>,
    /// The answers that are retried until the deadline, whatever [`max_retries`](Self::max_retries) is.
    pub hold_status_codes: BTreeSet<u16>,
    /// The answers that say that some message of a body is bad, but not which.
    pub isolate_status_codes: BTreeSet<u16>,
}

/// How many requests are in flight at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Always this many, if there are enough lanes.
    Fixed(NonZeroUsize),
    /// As many as the endpoint can take.
    Adaptive {
        /// Never more than this.
        max: NonZeroUsize,
    },
}

impl Concurrency {
    /// The maximum number of requests in flight.
    pub fn max(self) -> NonZeroUsize {
        match self {
            Self::Fixed(max) | Self::Adaptive { max } => max,
        }
    }
}

/// When requests to a failing endpoint stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreakerConfig {
    /// Transient failures in a row that open it; 0: it never opens.
    pub failure_threshold: u32,
    /// The longest wait between two probes.
    pub cool_down: Duration,
}

/// How much may be sent per second; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RateLimitConfig {
    /// Requests, including retries.
    pub requests_per_second: Option<f64>,
    /// Messages.
    pub messages_per_second: Option<f64>,
    /// Bytes of bodies.
    pub bytes_per_second: Option<f64>,
}

/// Where messages that cannot be delivered are kept.
#[derive(Debug, Clone)]
pub enum DeadLetterConfig {
    /// Into NDJSON files in this folder.
    Path {
        /// The folder.
        path: PathBuf,
        /// The maximum total size of all files, in bytes.
        max_bytes: u64,
        /// The size at which a file is ended and the next begun.
        segment_bytes: u64,
    },
    /// To another endpoint, as NDJSON.
    Endpoint(Box<DeadLetterEndpoint>),
}

/// Another endpoint for messages that cannot be delivered.
#[derive(Clone)]
pub struct DeadLetterEndpoint {
    /// An `http` or `https` URL.
    pub url: Text,
    /// Headers of each request.
    pub headers: Vec<(HeaderName, Text)>,
    /// How requests authenticate, if they do.
    pub auth: Option<AuthConfig>,
}

impl fmt::Debug for DeadLetterEndpoint {
    /// Without parts that may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterEndpoint")
            .field("url", &shown_url(&self.url))
            .field("headers", &self.headers)
            .field("auth", &self.auth)
            .finish()
    }
}

/// The status page of a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusConfig {
    /// The address to listen on; loopback if there is no token.
    pub address: SocketAddr,
    /// The token that requests must carry; without one, nothing can be changed.
    pub token: Option<Text>,
}

/// Where spans of attempts go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingConfig {
    /// The URL of a collector for OTLP over HTTP.
    pub url: Url,
}

/// Where batches are kept until they are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The folder, used by this connector alone.
    pub path: PathBuf,
    /// The maximum size on disk, in bytes.
    pub max_bytes: u64,
    /// What happens to a batch for which there is no space.
    pub when_full: WhenFull,
    /// How long a batch may stay unsynced after consume returned; `None`: consume waits for it.
    pub sync: Option<Duration>,
}

/// What happens to a batch for which a spool has no space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum WhenFull {
    /// It waits.
    Block,
    /// It becomes dead letters.
    DeadLetter,
}

/// How waits between attempts are randomized, so that senders do not all return at once.
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

/// How messages become bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum BatchMode {
    /// One envelope per request.
    Individual,
    /// One envelope per line.
    #[strum(to_string = "nd_json", serialize = "ndjson")]
    NdJson,
    /// One array of envelopes per request.
    JsonArray,
    /// One unchanged payload per request.
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
