//! What an attempt's end means for its messages: one enum, which all that depends on it matches in full.

use std::collections::BTreeSet;

use reqwest_middleware::Error;
use reqwest_retry::{Retryable, RetryableStrategy};

use crate::config::Config;

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The messages are delivered.
    Success,
    /// Another attempt may help.
    Retry,
    /// No further attempt helps.
    Permanent,
}

/// Classifies by the configured status codes. Success is looked at first, so a code in both sets is a success.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    success: BTreeSet<u16>,
    retry: BTreeSet<u16>,
}

impl Classifier {
    pub(super) fn new(config: &Config) -> Self {
        Self { success: config.success_status_codes.clone(), retry: config.retry.status_codes.clone() }
    }

    pub(super) fn status(&self, status: u16) -> Class {
        if self.success.contains(&status) {
            Class::Success
        } else if self.retry.contains(&status) {
            Class::Retry
        } else {
            Class::Permanent
        }
    }
}

impl RetryableStrategy for Classifier {
    /// No answer at all is always worth another attempt, except where the request itself cannot be sent.
    fn handle(&self, outcome: &Result<reqwest::Response, Error>) -> Option<Retryable> {
        match outcome {
            Ok(response) => match self.status(response.status().as_u16()) {
                Class::Success => None,
                Class::Retry => Some(Retryable::Transient),
                Class::Permanent => Some(Retryable::Fatal),
            },
            Err(Error::Reqwest(why)) if why.is_builder() || why.is_redirect() => Some(Retryable::Fatal),
            Err(Error::Reqwest(_)) => Some(Retryable::Transient),
            Err(Error::Middleware(_)) => Some(Retryable::Fatal),
        }
    }
}
