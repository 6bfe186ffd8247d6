//! Classifies how an attempt ended: one enum, which retry, breaker, limiter and settlement match exhaustively.

use std::collections::BTreeSet;

use reqwest::Response;
use reqwest_middleware::Error;
use reqwest_retry::{Retryable, RetryableStrategy};

use super::fault::FaultKind;
use crate::{auth::Renewed, config::Config};

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The messages are delivered.
    Success,
    /// Another attempt may help.
    Retry,
    /// Another attempt may help, and so would fewer requests.
    Throttled,
    /// Another attempt may help: this one got no answer in time.
    TimedOut,
    /// The server had closed the pooled connection before the request reached it: the request is resent over another one.
    Stale,
    /// This machine had no descriptor, thread, memory map or port for it: that says nothing about the endpoint.
    Shortage,
    /// Retried until the deadline, because somebody will fix it: a held status code, or a certificate.
    Hold,
    /// The credentials were refused, and the next attempt has new ones.
    Reauthenticate,
    /// The body is too large, but its halves may not be.
    Split,
    /// Some message of the body is bad, but the endpoint does not say which.
    Isolate,
    /// No further attempt helps.
    Permanent,
}

impl Class {
    /// Whether the endpoint failed in a way that may resolve itself.
    pub(super) fn is_transient(self) -> bool {
        match self {
            Self::Retry | Self::Throttled | Self::TimedOut => true,
            Self::Success
            | Self::Stale
            | Self::Shortage
            | Self::Hold
            | Self::Reauthenticate
            | Self::Split
            | Self::Isolate
            | Self::Permanent => false,
        }
    }
}

/// Classifies by the configured status codes. A code in several sets belongs to the first of
/// success, hold, retry, split and isolate.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    success: BTreeSet<u16>,
    hold: BTreeSet<u16>,
    retry: BTreeSet<u16>,
    isolate: BTreeSet<u16>,
}

impl Classifier {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            success: config.success_status_codes.clone(),
            hold: config.retry.hold_status_codes.clone(),
            retry: config.retry.status_codes.clone(),
            isolate: config.retry.isolate_status_codes.clone(),
        }
    }

    /// Returns the class of an answer or of a fault. `reused`: the connection had been used before; `renewed`: the attempt
    /// has new credentials, since those of the one before were refused.
    pub(super) fn classify(&self, outcome: &Result<Response, Error>, reused: bool, renewed: bool) -> Class {
        match (self.handle(outcome), outcome) {
            (None, _) => Class::Success,
            (Some(_), Ok(response)) if !renewed && response.extensions().get::<Renewed>().is_some() => {
                Class::Reauthenticate
            }
            (Some(Retryable::Transient), Ok(response)) => match response.status().as_u16() {
                held if self.hold.contains(&held) => Class::Hold,
                429 | 503 => Class::Throttled,
                _ => Class::Retry,
            },
            (Some(Retryable::Transient), Err(error)) => match FaultKind::of(error) {
                FaultKind::Timeout | FaultKind::HeaderTimeout => Class::TimedOut,
                // Somebody has to fix it.
                FaultKind::Certificate | FaultKind::Proxy | FaultKind::Credentials => Class::Hold,
                FaultKind::Closed if reused => Class::Stale,
                FaultKind::Shortage => Class::Shortage,
                _ => Class::Retry,
            },
            (Some(Retryable::Fatal), Ok(response)) => match response.status().as_u16() {
                413 => Class::Split,
                bad if self.isolate.contains(&bad) => Class::Isolate,
                _ => Class::Permanent,
            },
            (Some(Retryable::Fatal), Err(_)) => Class::Permanent,
        }
    }
}

impl Classifier {
    /// Returns the class of a message that has its own status code in an answer.
    pub(super) fn item(&self, status: u16) -> Class {
        match status {
            taken if self.success.contains(&taken) => Class::Success,
            held if self.hold.contains(&held) => Class::Hold,
            429 | 503 if self.retry.contains(&status) => Class::Throttled,
            again if self.retry.contains(&again) => Class::Retry,
            _ => Class::Permanent,
        }
    }
}

impl RetryableStrategy for Classifier {
    /// A missing answer is always worth another attempt, except if the request itself cannot be sent.
    fn handle(&self, outcome: &Result<Response, Error>) -> Option<Retryable> {
        match outcome {
            Ok(response) => match response.status().as_u16() {
                success if self.success.contains(&success) => None,
                transient if self.hold.contains(&transient) || self.retry.contains(&transient) => {
                    Some(Retryable::Transient)
                }
                _ => Some(Retryable::Fatal),
            },
            Err(error) if FaultKind::of(error) == FaultKind::Request => Some(Retryable::Fatal),
            Err(_) => Some(Retryable::Transient),
        }
    }
}
