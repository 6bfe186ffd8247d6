//! The metrics of one connector, by the names, labels and units of docs/operate.md.
//!
//! Label sets are bounded: they contain nothing of a message but the names of its stream and topic, of which there are as
//! many as the configuration subscribes to; beyond a limit they are [`OTHER`].

use std::{borrow::Cow, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Stands for all values beyond those that a label has room for.
pub(crate) const OTHER: &str = "other";

/// The upper bounds of the buckets of a request's duration, in seconds.
const DURATIONS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

type Float = Gauge<f64, AtomicU64>;
type Seconds = Counter<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MessageLabels {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DeadLetterLabels {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndpointLabels {
    pub(crate) endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusLabels {
    pub(crate) endpoint: String,
    pub(crate) status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabels {
    pub(crate) endpoint: String,
    pub(crate) cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BreakerLabels {
    pub(crate) endpoint: String,
    pub(crate) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BlockedLabels {
    pub(crate) cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LaneLabels {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabels {
    pub(crate) stream: String,
    pub(crate) topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReloadLabels {
    pub(crate) endpoint: String,
    pub(crate) what: &'static str,
    pub(crate) result: &'static str,
}

/// Handles to all metrics of a connector. Cloning it is cheap.
///
/// Delivery feeds the counters and the histogram; gauges are set on request.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) messages: Family<MessageLabels, Counter>,
    pub(crate) dead_letters: Family<DeadLetterLabels, Counter>,
    pub(crate) requests: Family<StatusLabels, Counter>,
    pub(crate) request_bytes: Family<EndpointLabels, Counter>,
    pub(crate) retries: Family<CauseLabels, Counter>,
    pub(crate) request_duration: Family<EndpointLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Family<EndpointLabels, Gauge>,
    pub(crate) waiting: Family<EndpointLabels, Gauge>,
    pub(crate) breaker: Family<BreakerLabels, Gauge>,
    pub(crate) pauses: Family<EndpointLabels, Counter>,
    pub(crate) paused: Family<EndpointLabels, Float>,
    pub(crate) failing: Family<EndpointLabels, Float>,
    pub(crate) last_success: Family<EndpointLabels, Float>,
    pub(crate) splits: Family<EndpointLabels, Counter>,
    pub(crate) isolated: Family<EndpointLabels, Counter>,
    pub(crate) reloads: Family<ReloadLabels, Counter>,
    pub(crate) certificate: Family<EndpointLabels, Float>,
    pub(crate) shed: Family<TopicLabels, Counter>,
    pub(crate) merges: Counter,
    pub(crate) dead_letter_bytes: Gauge,
    pub(crate) dead_letter_max_bytes: Gauge,
    pub(crate) consume_calls: Gauge,
    pub(crate) consume_blocked: Family<BlockedLabels, Seconds>,
    pub(crate) spool_bytes: Gauge,
    pub(crate) spool_max_bytes: Gauge,
    pub(crate) spool_messages: Family<LaneLabels, Gauge>,
    pub(crate) spool_oldest: Family<LaneLabels, Float>,
    pub(crate) spool_full: Seconds,
    pub(crate) ready: Gauge,
}

/// The registry of one connector.
#[derive(Debug)]
pub(crate) struct MetricsRegistry(Registry);

impl MetricsRegistry {
    /// All metrics, each with the label `connector`.
    pub(crate) fn of(metrics: &Metrics, connector: &str) -> Self {
        let labels = [(Cow::Borrowed("connector"), Cow::Owned(connector.to_owned()))];
        let mut registry = Registry::with_prefix_and_labels("http_sink", labels.into_iter());
        metrics.register_messages(&mut registry);
        metrics.register_requests(&mut registry);
        metrics.register_endpoints(&mut registry);
        metrics.register_stores(&mut registry);
        Self(registry)
    }

    /// The metrics in the text format of `OpenMetrics`, without its end.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut text, &self.0);
        text
    }
}

impl Metrics {
    fn register_messages(&self, to: &mut Registry) {
        to.register(
            "messages",
            "Messages that were delivered, became dead letters, or failed",
            self.messages.clone(),
        );
        to.register(
            "dead_letters",
            "Messages that became dead letters, by reason",
            self.dead_letters.clone(),
        );
        to.register("consume_calls", "Calls to consume that have not returned", self.consume_calls.clone());
        to.register_with_unit(
            "consume_blocked",
            "Time spent in consume, including calls that have not returned, by what they wait for",
            Unit::Seconds,
            self.consume_blocked.clone(),
        );
        to.register("ready", "1 if /ready answers 200, 0 if not", self.ready.clone());
    }

    fn register_requests(&self, to: &mut Registry) {
        to.register(
            "requests",
            "Finished attempts, by the status of the answer or the kind of fault",
            self.requests.clone(),
        );
        to.register_with_unit(
            "request_body",
            "Size of the request bodies sent",
            Unit::Bytes,
            self.request_bytes.clone(),
        );
        to.register("retries", "Retries, by the status or fault of the attempt before", self.retries.clone());
        to.register_with_unit(
            "request_duration",
            "Time from the start of an attempt to the end of its answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        to.register("requests_in_flight", "Requests without an answer yet", self.in_flight.clone());
        to.register(
            "requests_waiting",
            "Requests waiting for a slot, the circuit breaker, a pause or the rate limit",
            self.waiting.clone(),
        );
        to.register("splits", "Bodies split in half because the endpoint answered 413", self.splits.clone());
        to.register(
            "isolated_messages",
            "Messages found to be the reason why the endpoint refused a body",
            self.isolated.clone(),
        );
    }

    fn register_endpoints(&self, to: &mut Registry) {
        to.register("breaker_state", "1 for the current state of the circuit breaker", self.breaker.clone());
        to.register("pauses", "Answers that asked for a pause with Retry-After", self.pauses.clone());
        to.register_with_unit(
            "paused",
            "Rest of the current pause; infinite for a pause by an operator",
            Unit::Seconds,
            self.paused.clone(),
        );
        to.register_with_unit(
            "failing",
            "Time since the first of the current run of failures; 0 after a success",
            Unit::Seconds,
            self.failing.clone(),
        );
        to.register_with_unit(
            "last_success_timestamp",
            "Time of the last successful request, since the Unix epoch; missing before the first",
            Unit::Seconds,
            self.last_success.clone(),
        );
        to.register(
            "reloads",
            "Renewals of tokens, secrets and the files of [tls] and [proxy], by result",
            self.reloads.clone(),
        );
        to.register_with_unit(
            "certificate_expiry_timestamp",
            "Time when the client certificate of [tls] expires, since the Unix epoch; missing without one",
            Unit::Seconds,
            self.certificate.clone(),
        );
    }

    fn register_stores(&self, to: &mut Registry) {
        to.register_with_unit("spool", "Size of the spool on disk", Unit::Bytes, self.spool_bytes.clone());
        to.register_with_unit(
            "spool_max",
            "Maximum size of the spool on disk; 0 without a spool",
            Unit::Bytes,
            self.spool_max_bytes.clone(),
        );
        to.register("spool_messages", "Messages waiting in the spool", self.spool_messages.clone());
        to.register_with_unit(
            "spool_oldest_age",
            "Time since the oldest waiting message was accepted",
            Unit::Seconds,
            self.spool_oldest.clone(),
        );
        to.register_with_unit(
            "spool_full",
            "Time that batches waited for space in the spool",
            Unit::Seconds,
            self.spool_full.clone(),
        );
        to.register("shed_messages", "Messages refused by a full spool", self.shed.clone());
        to.register("merges", "Stored batches sent together with the one before them", self.merges.clone());
        to.register_with_unit(
            "dead_letter",
            "Size of the dead letters on disk",
            Unit::Bytes,
            self.dead_letter_bytes.clone(),
        );
        to.register_with_unit(
            "dead_letter_max",
            "Maximum size of the dead letters on disk; 0 without a limit or a folder",
            Unit::Bytes,
            self.dead_letter_max_bytes.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            request_duration: Family::new_with_constructor(durations),
            messages: Family::default(),
            dead_letters: Family::default(),
            requests: Family::default(),
            request_bytes: Family::default(),
            retries: Family::default(),
            in_flight: Family::default(),
            waiting: Family::default(),
            breaker: Family::default(),
            pauses: Family::default(),
            paused: Family::default(),
            failing: Family::default(),
            last_success: Family::default(),
            splits: Family::default(),
            isolated: Family::default(),
            reloads: Family::default(),
            certificate: Family::default(),
            shed: Family::default(),
            merges: Counter::default(),
            dead_letter_bytes: Gauge::default(),
            dead_letter_max_bytes: Gauge::default(),
            consume_calls: Gauge::default(),
            consume_blocked: Family::default(),
            spool_bytes: Gauge::default(),
            spool_max_bytes: Gauge::default(),
            spool_messages: Family::default(),
            spool_oldest: Family::default(),
            spool_full: Seconds::default(),
            ready: Gauge::default(),
        }
    }
}

/// The histogram of durations.
fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

#[cfg(test)]
mod tests;
