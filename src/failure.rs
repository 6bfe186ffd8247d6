//! Why a message was not delivered.

use std::fmt;

use iggy_connector_sdk::shown;

use crate::payload::Refusal;

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// The status of the last answer, if there was one.
    pub(crate) status: Option<u16>,
    /// The endpoint's own words, or what happened instead of an answer.
    pub(crate) detail: String,
    /// How often it was sent.
    pub(crate) attempts: u32,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Reason {
    /// Its payload or headers are invalid; it was not sent.
    Undecodable,
    /// It lacks a field for a placeholder of the request, or has one that does not fit there; it was not sent.
    Unrenderable,
    /// Its body is over the limit even alone; it was not sent.
    TooLarge,
    /// No route matches its topic, and the connector has no `url`.
    NoRoute,
    /// The endpoint refused it for good.
    Rejected,
    /// It was refused together with others, most of which proved bad, and was not sent alone.
    NotProbed,
    /// No retries were left.
    RetriesExhausted,
    /// `max_retry_duration` or `close_timeout` left no time for another attempt.
    DeadlineExceeded,
    /// The breaker was open, and no time was left to wait for it.
    CircuitOpen,
    /// An operator gave it up.
    GivenUp,
    /// The connector was closed while it was in flight.
    Closed,
    /// The spool had no space for it.
    NotStored,
    /// The sink itself failed.
    Internal,
}

impl Failure {
    /// The failure of a message that no route matches.
    pub(crate) fn no_route() -> Self {
        let detail = "no route matches its stream and topic, and the connector has no url".to_owned();
        Self { reason: Reason::NoRoute, status: None, detail, attempts: 0 }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Undecodable(_) => Reason::Undecodable,
            Refusal::Unrenderable(_) => Reason::Unrenderable,
            Refusal::TooLarge { .. } => Reason::TooLarge,
        };
        Self { reason, status: None, detail: refusal.to_string(), attempts: 0 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(status) = self.status {
            write!(f, ", status {status}")?;
        }
        if self.attempts > 0 {
            write!(f, " after {} attempt{}", self.attempts, if self.attempts == 1 { "" } else { "s" })?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", shown(&self.detail, 500))?;
        }
        Ok(())
    }
}
