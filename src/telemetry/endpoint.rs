//! The meter of one endpoint: how its requests end, how long they take, and its last error.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use super::{
    metrics::{CauseLabels, EndpointLabels, Metrics, OTHER, ReloadLabels, StatusLabels},
    recent::{Interval, Recent},
};

/// The statuses that have their own counters: those of HTTP.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=599;

/// The meter of an endpoint; it does nothing if nobody can read it.
#[derive(Debug, Default)]
pub(crate) struct EndpointMeter(Option<Box<Observed>>);

#[derive(Debug)]
struct Observed {
    label: String,
    metrics: Metrics,
    /// By status, resolved when one first occurs.
    statuses: Vec<OnceLock<Counter>>,
    duration: Histogram,
    body_bytes: Counter,
    recent: Mutex<Recent>,
    /// Whether there are failures that a success would end.
    is_failing: AtomicBool,
    health: Mutex<Health>,
}

/// The health of an endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// When the first of the failures in a row happened.
    pub(crate) failing_since: Option<SystemTime>,
    /// Attempts in a row without a success.
    pub(crate) failures: u64,
    /// The transient ones of them.
    pub(crate) transient: u64,
    /// When an attempt failed last, and how, in the endpoint's words.
    pub(crate) last_error: Option<(SystemTime, String)>,
    /// When something was delivered last.
    pub(crate) last_success: Option<SystemTime>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttemptEnd<'a> {
    pub(crate) verdict: Verdict,
    /// The status of the answer; `Err` with the kind of fault if there is none.
    pub(crate) status: Result<u16, &'a str>,
    pub(crate) took: Duration,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Whether the endpoint asked for a pause.
    pub(crate) asked: bool,
}

/// What the end of an attempt says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It accepted the request.
    Success,
    /// It failed in a transient way.
    Transient,
    /// It refused it for good.
    Refused,
    /// Nothing.
    Nothing,
}

/// What is reloaded or requested while the connector is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// A file with a secret.
    Secret,
    /// A file of `[tls]` or `[proxy]`.
    Tls,
    /// A token.
    Token,
}

impl EndpointMeter {
    pub(super) fn new(label: &str, metrics: &Metrics) -> Self {
        let labels = EndpointLabels { endpoint: label.to_owned() };
        Self(Some(Box::new(Observed {
            label: label.to_owned(),
            metrics: metrics.clone(),
            statuses: STATUSES.map(|_| OnceLock::new()).collect(),
            duration: metrics.request_duration.get_or_create_owned(&labels),
            body_bytes: metrics.request_bytes.get_or_create_owned(&labels),
            recent: Mutex::new(Recent::new()),
            is_failing: AtomicBool::new(false),
            health: Mutex::default(),
        })))
    }

    /// The endpoint, as it may be shown.
    pub(super) fn label(&self) -> &str {
        self.0.as_ref().map_or("", |observed| &observed.label)
    }

    /// Whether anybody can read it.
    pub(crate) fn is_observed(&self) -> bool {
        self.0.is_some()
    }

    /// Records a retry, after an attempt that ended with this status or fault.
    pub(crate) fn retry(&self, cause: impl FnOnce() -> String) {
        if let Some(observed) = &self.0 {
            let labels = CauseLabels { endpoint: observed.label.clone(), cause: cause() };
            observed.metrics.retries.get_or_create(&labels).inc();
        }
    }

    /// Records that an attempt ended; `words` say how, for people.
    pub(crate) fn ended(&self, end: AttemptEnd<'_>, words: impl FnOnce() -> String) {
        let Some(observed) = &self.0 else { return };
        observed.count(end.status);
        observed.duration.observe(end.took.as_secs_f64());
        observed.body_bytes.inc_by(end.bytes as u64);
        if end.asked {
            observed.metrics.pauses.get_or_create(&observed.labels()).inc();
        }
        {
            let mut recent = lock(&observed.recent);
            let interval = recent.now();
            interval.requests += 1;
            interval.took += end.took;
            interval.longest = interval.longest.max(end.took);
            if end.verdict == Verdict::Success {
                interval.messages += end.messages as u64;
            } else {
                interval.failures += 1;
            }
        }
        let mut health = lock(&observed.health);
        match end.verdict {
            Verdict::Success => {
                health.last_success = Some(SystemTime::now());
                if observed.is_failing.swap(false, Relaxed) {
                    (health.failing_since, health.failures, health.transient) = (None, 0, 0);
                }
            }
            Verdict::Transient | Verdict::Refused => {
                let now = SystemTime::now();
                observed.is_failing.store(true, Relaxed);
                health.failing_since.get_or_insert(now);
                health.failures += 1;
                if end.verdict == Verdict::Transient {
                    health.transient += 1;
                }
                health.last_error = Some((now, words()));
            }
            Verdict::Nothing => {}
        }
    }

    /// Records that the close of the connector aborted an attempt.
    pub(crate) fn cut_off(&self) {
        if let Some(observed) = &self.0 {
            observed.count(Err("cut_off"));
        }
    }

    /// Records that a body was halved because it was too large.
    pub(crate) fn split(&self) {
        if let Some(observed) = &self.0 {
            observed.metrics.splits.get_or_create(&observed.labels()).inc();
        }
    }

    /// Records that a message proved to be the reason why its body was refused.
    pub(crate) fn isolated(&self) {
        if let Some(observed) = &self.0 {
            observed.metrics.isolated.get_or_create(&observed.labels()).inc();
        }
    }

    /// Records that something was reloaded or requested, or that this failed.
    pub(crate) fn reloaded(&self, what: Reload, is_good: bool) {
        if let Some(observed) = &self.0 {
            let what = match what {
                Reload::Secret => "secret",
                Reload::Tls => "tls",
                Reload::Token => "token",
            };
            let result = if is_good { "success" } else { "failure" };
            let labels = ReloadLabels { endpoint: observed.label.clone(), what, result };
            observed.metrics.reloads.get_or_create(&labels).inc();
        }
    }

    /// Records when the client certificate for it expires.
    pub(crate) fn certificate_ends(&self, at: SystemTime) {
        if let Some(observed) = &self.0 {
            let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            observed.metrics.certificate.get_or_create(&observed.labels()).set(since_epoch.as_secs_f64());
        }
    }

    /// Returns its health.
    pub(crate) fn health(&self) -> Health {
        self.0.as_ref().map(|observed| lock(&observed.health).clone()).unwrap_or_default()
    }

    /// Returns its activity in the last minutes, oldest first.
    pub(crate) fn past(&self) -> Vec<Interval> {
        self.0.as_ref().map(|observed| lock(&observed.recent).past()).unwrap_or_default()
    }
}

impl Observed {
    fn labels(&self) -> EndpointLabels {
        EndpointLabels { endpoint: self.label.clone() }
    }

    fn count(&self, status: Result<u16, &str>) {
        let counter = |status: &str| {
            let labels = StatusLabels { endpoint: self.label.clone(), status: status.to_owned() };
            self.metrics.requests.get_or_create_owned(&labels)
        };
        match status {
            Ok(code) => match self.statuses.get(usize::from(code.wrapping_sub(*STATUSES.start()))) {
                Some(known) => drop(known.get_or_init(|| counter(&code.to_string())).inc()),
                None => drop(counter(OTHER).inc()),
            },
            Err(fault) => drop(counter(fault).inc()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::MetricsRegistry;

    fn end(verdict: Verdict, status: Result<u16, &str>) -> AttemptEnd<'_> {
        let took = Duration::from_millis(20);
        AttemptEnd { verdict, status, took, messages: 2, bytes: 10, asked: status == Ok(429) }
    }

    #[test]
    fn a_success_ends_failures_in_a_row() {
        let metrics = Metrics::default();
        let meter = EndpointMeter::new("http://e:1", &metrics);
        for status in [Ok(503), Ok(429), Err("connect")] {
            meter.retry(|| "503".to_owned());
            meter.ended(end(Verdict::Transient, status), || format!("{status:?}"));
        }
        let health = meter.health();
        assert_eq!((health.failures, health.transient), (3, 3));
        assert!(health.failing_since <= health.last_error.as_ref().map(|(at, _)| *at));
        assert_eq!(health.last_error.expect("it failed").1, "Err(\"connect\")");
        meter.ended(end(Verdict::Success, Ok(200)), String::new);
        meter.ended(end(Verdict::Success, Ok(999)), String::new);
        let health = meter.health();
        assert_eq!((health.failures, health.failing_since), (0, None));
        assert!(health.last_error.is_some() && health.last_success.is_some());
        let text = MetricsRegistry::of(&metrics, "1").encode();
        for line in [
            r#"http_sink_requests_total{connector="1",endpoint="http://e:1",status="503"} 1"#,
            r#"http_sink_requests_total{connector="1",endpoint="http://e:1",status="connect"} 1"#,
            r#"http_sink_requests_total{connector="1",endpoint="http://e:1",status="other"} 1"#,
            r#"http_sink_retries_total{connector="1",endpoint="http://e:1",cause="503"} 3"#,
            r#"http_sink_pauses_total{connector="1",endpoint="http://e:1"} 1"#,
            r#"http_sink_request_duration_seconds_count{connector="1",endpoint="http://e:1"} 5"#,
            r#"http_sink_request_body_bytes_total{connector="1",endpoint="http://e:1"} 50"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
