//! A connector on a status server: its report, and the actions of an operator.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use iggy_connector_sdk::shown;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    lanes,
    letters::Letters,
    report::{ConnectorReport, DeadLetterReport, EndpointReport, HostReport, SpoolReport, in_words, time_of},
};
use crate::{
    batch::LONGEST_NAME,
    dead_letter::Selection,
    deliver::{BreakerState, Delivery, GateState},
    pipeline::Pipeline,
    settle::DeadLetters,
    spool::Spool,
    telemetry::{
        BreakerLabels, EndpointLabels, Health, INTERVAL, Interval, LaneLabels, Metrics, MetricsRegistry,
        OTHER,
    },
};

/// How many lanes have their own metrics; all others are summed up as one.
const LANES: usize = 500;
/// An endpoint that accepted something this recently counts as `delivering`, even if nothing is in flight.
const LATELY: Duration = Duration::from_secs(10);
/// The number of intervals for rates: one minute.
const MINUTE: usize = 12;
/// After this many failures in a row, nothing gets through: transient ones, and any kind. A body that is searched for bad
/// messages is refused several times in a row, although the rest of it is delivered.
const TRANSIENT: u64 = 3;
const FAILURES: u64 = 20;

/// An open connector.
#[derive(Debug)]
pub(crate) struct Board {
    connector: u32,
    pipeline: Arc<Pipeline>,
    spool: Option<Arc<Spool>>,
    registry: Option<MetricsRegistry>,
    /// The dead letters, if they are in a folder.
    letters: Option<Arc<Letters>>,
}

/// An action of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Action {
    /// Ends all present waits.
    Retry,
    /// Sends nothing until it is resumed.
    Pause,
    /// Continues to send.
    Resume,
}

impl Board {
    pub(crate) fn new(connector: u32, pipeline: Arc<Pipeline>, spool: Option<Arc<Spool>>) -> Self {
        let registry =
            pipeline.counters.metrics().map(|metrics| MetricsRegistry::of(metrics, &connector.to_string()));
        let folder = pipeline.dead_letters.as_ref().and_then(DeadLetters::folder);
        let letters = folder.map(|path| Arc::new(Letters::new(connector, path.to_owned())));
        Self { connector, pipeline, spool, registry, letters }
    }

    /// Performs an action, and logs it.
    pub(super) fn act(&self, action: Action) {
        let each = |act: fn(&Delivery)| self.endpoints().for_each(act);
        let did = match action {
            Action::Retry => {
                each(Delivery::retry_now);
                "ends all waits: what is waiting is sent now"
            }
            Action::Pause => {
                each(Delivery::pause);
                "pauses delivery, until it is resumed or the connector is opened again"
            }
            Action::Resume => {
                each(Delivery::resume);
                "resumes delivery"
            }
        };
        let labels: Vec<&str> = self.endpoints().map(Delivery::label).collect();
        info!("connector {}: an operator {did} ({})", self.connector, labels.join(", "));
    }

    /// Returns the dead letters, if they are in a folder.
    pub(super) fn letters(&self) -> Option<Arc<Letters>> {
        self.letters.clone()
    }

    /// Begins to send dead letters again.
    ///
    /// # Errors
    /// There are none in a folder, or a replay is in progress.
    pub(super) fn replay(&self, selection: Selection) -> io::Result<()> {
        match &self.letters {
            Some(letters) => letters.replay(selection, self.pipeline.clone()),
            None => Err(io::Error::other("the dead letters are in no folder")),
        }
    }

    /// Returns the number of the first file of dead letters that is not complete yet.
    pub(super) fn end_segment(&self) -> u64 {
        self.pipeline.dead_letters.as_ref().and_then(DeadLetters::end_segment).unwrap_or_default()
    }

    /// Gives up the body with this number, which waits for a retry: once an attempt in flight has ended, its messages become
    /// dead letters, or fail without them. Returns whether it was still waiting.
    pub(super) fn give_up(&self, number: u64) -> bool {
        let Some(head) = self.pipeline.counters.head(number) else { return false };
        if head.is_given_up() {
            return true;
        }
        let [stream, topic] = [&head.of.stream, &head.of.topic].map(|name| shown(name, LONGEST_NAME));
        let report = lanes::report(&head);
        warn!(
            "connector {}: an operator gives up {} of stream {stream}, topic {topic}, partition {}: {}",
            self.connector,
            report.in_words(),
            report.partition,
            report.why
        );
        head.give_up();
        true
    }

    /// Returns the current metrics, in the text format of `OpenMetrics`, without its end.
    pub(super) fn metrics(&self) -> String {
        let (Some(metrics), Some(registry)) = (self.pipeline.counters.metrics(), &self.registry) else {
            return String::new();
        };
        for delivery in self.endpoints() {
            write_endpoint(metrics, delivery.label(), &delivery.state(), &delivery.meter().health());
        }
        let room = self.pipeline.dead_letters.as_ref().and_then(DeadLetters::room);
        let (bytes, max_bytes) = room.unwrap_or_default();
        metrics.dead_letter_bytes.set(gauge(bytes));
        metrics.dead_letter_max_bytes.set(if max_bytes == u64::MAX { 0 } else { gauge(max_bytes) });
        if let Some(spool) = &self.spool {
            write_spool(metrics, spool);
        }
        metrics.ready.set(i64::from(self.report().ready));
        registry.encode()
    }

    /// The report.
    pub(super) fn report(&self) -> ConnectorReport {
        let counters = &self.pipeline.counters;
        let endpoints: Vec<EndpointReport> = self.endpoints().map(endpoint).collect();
        let spool = self.spool.as_ref().map(|spool| {
            let usage = spool.usage();
            SpoolReport {
                messages: usage.messages,
                bytes: usage.bytes,
                max_bytes: usage.max_bytes,
                waited_for_room_seconds: usage.waited.as_secs(),
            }
        });
        let room = self.pipeline.dead_letters.as_ref().and_then(DeadLetters::room);
        let dead_letters = self.pipeline.dead_letters.as_ref().map(|_| DeadLetterReport {
            bytes: room.map(|(bytes, _)| bytes),
            max_bytes: room.map(|(_, max)| max).filter(|max| *max != u64::MAX),
            by_reason: counters.dead_letters(),
            in_folder: self.letters.is_some(),
            replay: self.letters.as_ref().and_then(|letters| letters.replayed()),
        });
        let mut reasons: Vec<String> =
            endpoints.iter().flat_map(|endpoint| endpoint.not_ready.clone()).collect();
        if self.pipeline.is_closing() {
            reasons.push("the connector is being closed".to_owned());
        }
        let outcomes = counters.outcomes();
        ConnectorReport {
            connector: self.connector,
            state: if self.pipeline.is_closing() { "closing" } else { "open" },
            ready: reasons.is_empty(),
            reasons,
            delivered: outcomes.delivered,
            dead_lettered: outcomes.dead_lettered,
            failed: outcomes.failed,
            endpoints,
            lanes: lanes::lanes(&self.pipeline, self.spool.as_deref()),
            spool,
            dead_letters,
        }
    }

    /// Returns the report for a host; its failures are those since the last report.
    pub(crate) fn host_report(&self) -> HostReport {
        let counters = &self.pipeline.counters;
        let (requests, retries, bytes) = counters.requests();
        let (failures, failures_left_out) = counters.take_failures();
        let waiting = counters.held().messages();
        HostReport {
            connector: self.report(),
            requests,
            retries,
            bytes,
            waiting,
            failures,
            failures_left_out,
        }
    }

    /// One route to each endpoint.
    fn endpoints(&self) -> impl Iterator<Item = &Delivery> {
        self.pipeline.routes().endpoints().iter().map(|delivery| &**delivery)
    }
}

fn endpoint(delivery: &Delivery) -> EndpointReport {
    let (gate, meter) = (delivery.state(), delivery.meter());
    let (health, past) = (meter.health(), meter.past());
    let (state, until) = state(&gate, &health);
    let minute = sum(&past[past.len().saturating_sub(MINUTE)..]);
    let seconds = INTERVAL.as_secs_f64() * past.len().clamp(1, MINUTE) as f64;
    let mean = minute.took.checked_div(u32::try_from(minute.requests).unwrap_or(u32::MAX));
    EndpointReport {
        endpoint: delivery.label().to_owned(),
        state,
        until: until.map(time_of).map(in_words),
        in_flight: gate.in_flight,
        limit: gate.limit,
        waiting: gate.waiting,
        requests_per_second: minute.requests as f64 / seconds,
        failures_per_second: minute.failures as f64 / seconds,
        messages_per_second: minute.messages as f64 / seconds,
        mean_seconds: mean.map(|mean| mean.as_secs_f64()),
        longest_seconds: minute.longest.as_secs_f64(),
        failures_in_a_row: health.failures,
        failing_since: health.failing_since.map(in_words),
        last_error_at: health.last_error.as_ref().map(|(at, _)| in_words(*at)),
        last_error: health.last_error.as_ref().map(|(_, words)| words.clone()),
        last_success: health.last_success.map(in_words),
        not_ready: not_ready(delivery.label(), &gate, &health),
        past,
    }
}

/// Returns the state of the endpoint, and until when, if that is known.
fn state(gate: &GateState, health: &Health) -> (&'static str, Option<Instant>) {
    let lately = health.last_success.and_then(|at| at.elapsed().ok()).is_some_and(|ago| ago < LATELY);
    match gate.breaker {
        _ if gate.held => ("paused", None),
        BreakerState::Open(until) => ("breaker_open", Some(until)),
        BreakerState::HalfOpen => ("breaker_open", None),
        BreakerState::Closed if gate.paused_until.is_some() => ("paused", gate.paused_until),
        BreakerState::Closed if health.transient > 0 => ("retrying", None),
        BreakerState::Closed if gate.in_flight > 0 || lately => ("delivering", None),
        BreakerState::Closed => ("idle", None),
    }
}

/// Returns why nothing gets through, if that is so.
fn not_ready(label: &str, gate: &GateState, health: &Health) -> Vec<String> {
    let mut reasons = Vec::new();
    let last = health.last_error.as_ref().map(|(_, words)| format!(": {words}")).unwrap_or_default();
    let since = health.failing_since.map(|at| format!(" since {}", in_words(at))).unwrap_or_default();
    if gate.held {
        reasons.push(format!("{label} is paused by an operator"));
    }
    if gate.breaker != BreakerState::Closed {
        reasons.push(format!("the circuit breaker of {label} is open, after failures{since}{last}"));
    } else if let Some(until) = gate.paused_until {
        reasons.push(format!("{label} asked for a pause until {}{last}", in_words(time_of(until))));
    } else if health.transient >= TRANSIENT || health.failures >= FAILURES {
        reasons.push(format!("{label} has failed {} times in a row{since}{last}", health.failures));
    }
    reasons
}

fn sum(intervals: &[Interval]) -> Interval {
    intervals.iter().fold(Interval::default(), |sum, interval| Interval {
        requests: sum.requests + interval.requests,
        failures: sum.failures + interval.failures,
        messages: sum.messages + interval.messages,
        took: sum.took + interval.took,
        longest: sum.longest.max(interval.longest),
    })
}

fn write_endpoint(metrics: &Metrics, label: &str, gate: &GateState, health: &Health) {
    let labels = EndpointLabels { endpoint: label.to_owned() };
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    metrics.in_flight.get_or_create(&labels).set(count(gate.in_flight));
    metrics.waiting.get_or_create(&labels).set(count(gate.waiting));
    let state = match gate.breaker {
        BreakerState::Closed => "closed",
        BreakerState::Open(_) => "open",
        BreakerState::HalfOpen => "half_open",
    };
    for other in ["closed", "open", "half_open"] {
        let labels = BreakerLabels { endpoint: label.to_owned(), state: other };
        metrics.breaker.get_or_create(&labels).set(i64::from(other == state));
    }
    let left =
        gate.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    metrics.paused.get_or_create(&labels).set(if gate.held { f64::INFINITY } else { left.as_secs_f64() });
    let since = health.failing_since.and_then(|since| since.elapsed().ok()).unwrap_or_default();
    metrics.failing.get_or_create(&labels).set(since.as_secs_f64());
    if let Some(success) = health.last_success.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        metrics.last_success.get_or_create(&labels).set(success.as_secs_f64());
    }
}

fn write_spool(metrics: &Metrics, spool: &Spool) {
    let usage = spool.usage();
    metrics.spool_bytes.set(gauge(usage.bytes));
    metrics.spool_max_bytes.set(gauge(usage.max_bytes));
    metrics.spool_full.inc_by((usage.waited.as_secs_f64() - metrics.spool_full.get()).max(0.0));
    // Lanes that are now empty are left out.
    metrics.spool_messages.clear();
    metrics.spool_oldest.clear();
    let mut held = spool.held();
    // Those that have waited longest have their own samples.
    held.sort_by_key(|held| std::cmp::Reverse(held.oldest));
    for (number, held) in held.into_iter().enumerate() {
        let labels = if number < LANES {
            let partition = if held.lane.is_of_several() {
                "several".to_owned()
            } else {
                held.lane.partition().to_string()
            };
            LaneLabels {
                stream: held.lane.stream().to_owned(),
                topic: held.lane.topic().to_owned(),
                partition,
            }
        } else {
            LaneLabels { stream: OTHER.to_owned(), topic: OTHER.to_owned(), partition: OTHER.to_owned() }
        };
        metrics.spool_messages.get_or_create(&labels).inc_by(gauge(held.messages));
        if let Some(age) = held.oldest {
            let oldest = metrics.spool_oldest.get_or_create(&labels);
            oldest.set(oldest.get().max(age.as_secs_f64()));
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
