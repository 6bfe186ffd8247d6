//! The report of a connector, which is the format of `/api/status` and the basis of the page.

use std::{collections::BTreeMap, time::SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use super::letters::ReplayReport;
use crate::telemetry::{FailedRange, Interval};

/// `/api/status`.
#[derive(Debug, Serialize)]
pub(super) struct StatusReport {
    /// Whether something gets through in every connector.
    pub(super) ready: bool,
    /// The reasons if not, each with its connector.
    pub(super) reasons: Vec<String>,
    pub(super) connectors: Vec<ConnectorReport>,
}

/// The report of a connector for a host.
#[derive(Debug, Serialize)]
pub(crate) struct HostReport {
    #[serde(flatten)]
    pub(super) connector: ConnectorReport,
    pub(super) requests: u64,
    pub(super) retries: u64,
    /// The bytes of all bodies that were sent.
    pub(super) bytes: u64,
    /// Messages that the connector holds: in calls of consume, or in the spool.
    pub(super) waiting: u64,
    pub(crate) failures: Vec<FailedRange>,
    /// How many failed messages are not included.
    pub(super) failures_left_out: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ConnectorReport {
    pub(super) connector: u32,
    /// `opening`, `open` or `closing`.
    pub(super) state: &'static str,
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    /// Messages since the connector was opened.
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
    pub(super) failed: u64,
    pub(super) endpoints: Vec<EndpointReport>,
    /// Waiting lanes first, the oldest first: lanes of the spool that hold messages or, without one, partitions with messages
    /// in calls of consume.
    pub(super) lanes: Vec<LaneReport>,
    pub(super) spool: Option<SpoolReport>,
    pub(super) dead_letters: Option<DeadLetterReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct EndpointReport {
    /// Scheme, host and port.
    pub(super) endpoint: String,
    /// `delivering`, `retrying`, `paused`, `breaker_open` or `idle`.
    pub(super) state: &'static str,
    /// Until when it is paused or the breaker is open; RFC 3339.
    pub(super) until: Option<String>,
    pub(super) in_flight: usize,
    /// The present limit of requests in flight.
    pub(super) limit: usize,
    pub(super) waiting: usize,
    /// The rate of the last minute.
    pub(super) requests_per_second: f64,
    pub(super) failures_per_second: f64,
    pub(super) messages_per_second: f64,
    pub(super) mean_seconds: Option<f64>,
    pub(super) longest_seconds: f64,
    pub(super) failures_in_a_row: u64,
    pub(super) failing_since: Option<String>,
    pub(super) last_error_at: Option<String>,
    /// The last error, in the endpoint's words.
    pub(super) last_error: Option<String>,
    pub(super) last_success: Option<String>,
    #[serde(skip)]
    pub(super) not_ready: Vec<String>,
    #[serde(skip)]
    pub(super) past: Vec<Interval>,
}

#[derive(Debug, Serialize)]
pub(super) struct SpoolReport {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) waited_for_room_seconds: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct LaneReport {
    pub(super) stream: String,
    pub(super) topic: String,
    /// `null` for batches that may hold several.
    pub(super) partition: Option<u32>,
    pub(super) messages: u64,
    /// `null` without a spool.
    pub(super) bytes: Option<u64>,
    pub(super) oldest_seconds: Option<u64>,
    /// Why its first messages wait; `null` if they are being sent.
    pub(super) waits: Option<String>,
    /// When they are sent again; RFC 3339.
    pub(super) until: Option<String>,
    /// Bodies that have failed and will be sent again, oldest first: one with a strict order, several with order by key or
    /// none.
    pub(super) heads: Vec<HeadReport>,
    /// How many more there are.
    pub(super) heads_left_out: usize,
}

/// A body that has failed and will be sent again.
#[derive(Debug, Serialize)]
pub(super) struct HeadReport {
    /// Its number, for giving it up.
    pub(super) head: u64,
    pub(super) partition: u32,
    pub(super) first_offset: u64,
    pub(super) last_offset: u64,
    pub(super) messages: usize,
    pub(super) attempts: u32,
    /// When the first of them failed; RFC 3339.
    pub(super) since: String,
    /// How the last of them ended.
    pub(super) why: String,
    /// RFC 3339; in the past while one is in flight, or waits for the endpoint.
    pub(super) next_attempt: String,
    /// Whether an operator gave it up, and an attempt is still in flight.
    pub(super) given_up: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct DeadLetterReport {
    /// `null` if they go to an endpoint.
    pub(super) bytes: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    /// Since the connector was opened.
    pub(super) by_reason: BTreeMap<String, u64>,
    /// Whether they can be read here.
    #[serde(skip)]
    pub(super) in_folder: bool,
    /// The progress or result of the last replay that an operator started here.
    pub(super) replay: Option<ReplayReport>,
}

impl ConnectorReport {
    /// The report of a connector that is being opened.
    pub(super) fn opening(connector: u32) -> Self {
        Self {
            connector,
            state: "opening",
            ready: false,
            reasons: vec!["the connector is being opened".to_owned()],
            delivered: 0,
            dead_lettered: 0,
            failed: 0,
            endpoints: Vec::new(),
            lanes: Vec::new(),
            spool: None,
            dead_letters: None,
        }
    }
}

impl HeadReport {
    /// Describes its messages, for people. There may be other messages between its first and its last.
    pub(super) fn in_words(&self) -> String {
        let Self { messages, first_offset, last_offset, .. } = self;
        if *messages == 1 {
            format!("offset {first_offset}")
        } else {
            format!("{messages} messages, offsets {first_offset} to {last_offset}")
        }
    }
}

impl StatusReport {
    pub(super) fn of(connectors: Vec<ConnectorReport>) -> Self {
        let reasons: Vec<String> = connectors
            .iter()
            .flat_map(|of| {
                of.reasons.iter().map(move |reason| format!("connector {}: {reason}", of.connector))
            })
            .collect();
        Self { ready: reasons.is_empty(), reasons, connectors }
    }
}

/// Returns the time of day at a nearby moment.
pub(super) fn time_of(moment: Instant) -> SystemTime {
    let now = Instant::now();
    SystemTime::now() + moment.saturating_duration_since(now) - now.saturating_duration_since(moment)
}

pub(super) fn in_words(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
