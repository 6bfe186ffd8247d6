//! A configuration once it is checked: values that every later stage can trust.

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
    /// How many requests are under way at once.
    pub concurrency: Concurrency,
    /// What is kept in order.
    pub ordering: Ordering,
    /// When requests to a failing endpoint stop.
    pub circuit_breaker: CircuitBreakerConfig,
    /// How much may be sent a second.
    pub rate_limit: RateLimitConfig,
    /// Where batches are kept until they are delivered; without it, consume waits for their delivery.
    pub spool: Option<SpoolConfig>,
    /// How long a body waits for more messages, from when its first one was accepted; zero without a spool.
    pub linger: Duration,
    /// Where messages go that cannot be delivered, if anywhere.
    pub dead_letter: Option<DeadLetterConfig>,
    /// Where the connector shows what it does, if anywhere.
    pub status: Option<StatusConfig>,
    /// Where spans of attempts go.
    pub tracing: Option<TracingConfig>,
    /// Where answers say whether messages were taken, if their status does not say it all.
    pub response: Option<Arc<VerdictOf>>,
    /// The most bytes kept of an answer, for the log.
    pub max_response_bytes: usize,
    /// Whether and how `open` asks the endpoint first.
    pub health_check: Option<HealthCheckConfig>,
    /// How long `close` may take.
    pub close_timeout: Duration,
    /// Whether each request and answer is logged at debug.
    pub verbose_logging: bool,
    /// What is allowed, but may be a mistake; logged at every open.
    pub warnings: Vec<String>,
    /// Whether messages that no route matches go to [`endpoint`](Self::endpoint).
    pub has_url: bool,
    /// Other endpoints or requests for some topics; the first that matches is taken.
    pub routes: Vec<Route>,
}

/// Where the messages of some topics go, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// The streams that it is for.
    pub stream: Glob,
    /// The topics of these streams.
    pub topic: Glob,
    /// Its own keys, and those of the connector where it has none.
    pub config: Config,
}

impl Route {
    /// Whether messages of a topic take it.
    pub fn matches(&self, stream: &str, topic: &str) -> bool {
        self.stream.matches(stream) && self.topic.matches(topic)
    }
}

impl Config {
    /// What applies to a topic: the first route that matches it, else the keys of the connector; `None` where that has no
    /// `url`.
    pub fn route(&self, stream: &str, topic: &str) -> Option<&Self> {
        let route = self.routes.iter().find(|route| route.matches(stream, topic));
        route.map(|route| &route.config).or_else(|| self.has_url.then_some(self))
    }

    /// What there is to send messages to: each route, and at last the connector where it has a `url`.
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
    /// Headers of each request, `Content-Type` among them where it is configured.
    pub headers: Vec<(HeaderName, Text)>,
    /// The header that holds the same key for the same messages, however often they are sent.
    pub idempotency_header: Option<HeaderName>,
    /// The header with the number of times a request was sent before.
    pub retry_count_header: Option<HeaderName>,
    /// How requests prove who sends them, if they do.
    pub auth: Option<AuthConfig>,
    /// Whether they may do so where others can read it.
    pub allow_insecure_credentials: bool,
}

impl fmt::Debug for EndpointConfig {
    /// Of a URL no more is shown than of one in a log.
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
    /// The most bytes of one body; `usize::MAX` where there is no limit.
    pub max_bytes: usize,
    /// The most messages of one body, if there is a limit.
    pub max_messages: Option<NonZeroUsize>,
    /// Where requests depend on their messages, what of them does.
    pub target: Option<Arc<TargetTemplate>>,
    /// What bodies look like, where that is not what the mode says.
    pub form: Option<Arc<Form>>,
    /// How bodies are compressed, if at all.
    pub compression: Option<Compression>,
    /// The method of a request for a message without a payload, which then is one of its own, without a body; `None` where such
    /// a message is as any other.
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
    /// Always this many, as far as there are lanes for them.
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
    Endpoint(Box<DeadLetterEndpoint>),
}

/// Another endpoint for messages that cannot be delivered.
#[derive(Clone)]
pub struct DeadLetterEndpoint {
    /// An `http` or `https` URL.
    pub url: Text,
    /// Headers of each request.
    pub headers: Vec<(HeaderName, Text)>,
    /// How requests prove who sends them, if they do.
    pub auth: Option<AuthConfig>,
}

impl fmt::Debug for DeadLetterEndpoint {
    /// Without what may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterEndpoint")
            .field("url", &shown_url(&self.url))
            .field("headers", &self.headers)
            .field("auth", &self.auth)
            .finish()
    }
}

/// Where a connector shows what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusConfig {
    /// The address to listen on; loopback where there is no token.
    pub address: SocketAddr,
    /// What requests must bring; without it, nothing can be changed.
    pub token: Option<Text>,
}

/// Where spans of attempts go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingConfig {
    /// Where a collector takes them, as OTLP over HTTP.
    pub url: Url,
}

/// Where batches are kept until they are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The folder; of this connector alone.
    pub path: PathBuf,
    /// The most bytes on disk.
    pub max_bytes: u64,
    /// What becomes of a batch for which there is no room.
    pub when_full: WhenFull,
    /// How long a batch may stay unsynced after consume returned; `None`: consume waits for it.
    pub sync: Option<Duration>,
}

/// What becomes of a batch for which a spool has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum WhenFull {
    /// It waits.
    Block,
    /// It goes to the dead letters.
    DeadLetter,
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
