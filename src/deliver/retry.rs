//! The state of the attempts at a body, which decides what follows a failed one.

use std::{future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    attempt::{Answer, How, SHOWN, in_words},
    backoff::Backoff,
    classify::Class,
    fault::Fault,
    origin::Origin,
    shortage,
};
use crate::{
    failure::{Failure, Reason},
    telemetry::Head,
};

/// How much of an answer is kept with a message that was refused, in bytes.
const ANSWER_LIMIT: usize = 4096;

/// When messages that are kept elsewhere are to be sent again: until then this is all the memory they take.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    /// Not before this time,
    pub(crate) until: Instant,
    /// unless only the breaker holds it, and that closes earlier.
    pub(crate) for_breaker: bool,
    /// Whether other messages of its body have ended, so that it continues without them.
    pub(crate) apart: bool,
    /// The state that the next attempt continues with.
    pub(crate) retry: RetryState,
}

impl Parked {
    /// How the last attempt ended, for people.
    pub(crate) fn why(&self) -> String {
        self.retry.why()
    }

    /// Where an operator sees that it waits, where one can.
    pub(crate) fn head(&self) -> Option<&Arc<Head>> {
        self.retry.head.as_ref()
    }
}

/// The attempts made so far at sending a body.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetryState {
    /// The origin of its messages: a retry belongs to the same lane as before.
    pub(super) origin: Option<Origin>,
    pub(super) attempts: u32,
    /// Retries that count in `max_retries`.
    retries: u32,
    /// Waits after a held status; used only for the backoff.
    held: u32,
    /// Whether an attempt reached the endpoint, as far as is known.
    pub(super) counts: bool,
    /// What the next attempt does differently.
    pub(super) next: How,
    /// Whether the endpoint closes new connections too.
    pub(super) resets: bool,
    /// Attempts in a row that a shortage on this machine ended; used only for the backoff.
    shortages: u32,
    pub(super) last: Option<Result<Answer, Fault>>,
    /// Where an operator sees that it waits, where one can.
    pub(super) head: Option<Arc<Head>>,
    /// The pause that the endpoint asked for last.
    pub(super) asked: Option<Duration>,
    /// When the next attempt may begin.
    pub(super) not_before: Option<Instant>,
}

impl RetryState {
    /// How the last attempt ended, for people.
    fn why(&self) -> String {
        why(self.attempts, self.last.as_ref())
    }

    /// Returns once an operator gives it up; never if operators cannot see it.
    pub(super) async fn given_up(&self) {
        match &self.head {
            Some(head) => head.until_given_up().await,
            None => future::pending().await,
        }
    }

    /// Whether an operator gave it up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.is_given_up())
    }

    /// Records that it has ended: nobody can give it up any more.
    pub(super) fn ended(&mut self) {
        if let Some(head) = self.head.take() {
            head.ended();
        }
    }

    /// Decides how long to wait after an attempt of this class, if the endpoint `asked` for a pause; `None`: no other attempt
    /// follows.
    pub(super) fn wait(
        &mut self,
        class: Class,
        asked: Option<Duration>,
        backoff: &Backoff,
        max_retries: u32,
    ) -> Option<Duration> {
        let shortages = if class == Class::Shortage { self.shortages + 1 } else { 0 };
        self.shortages = shortages;
        match class {
            Class::Success | Class::Permanent | Class::Split | Class::Isolate => None,
            Class::Stale | Class::Reauthenticate => Some(Duration::ZERO),
            Class::Shortage => Some(shortage::wait(shortages - 1)),
            // The gate makes every request wait that long. This one comes back to the gate only then, so that all that came
            // in the meantime go first. The server decides itself how long this goes on, so it is not counted.
            Class::Retry | Class::Throttled | Class::TimedOut | Class::Hold if asked.is_some() => asked,
            Class::Hold => {
                self.held += 1;
                Some(backoff.held(self.held - 1))
            }
            Class::Retry | Class::Throttled | Class::TimedOut => (self.retries < max_retries).then(|| {
                self.retries += 1;
                backoff.wait(self.retries - 1)
            }),
        }
    }

    /// Puts the messages back to where they are kept. There may be many, so the last answer is cut to what the log shows.
    pub(super) fn park(mut self, until: Instant, for_breaker: bool) -> Parked {
        if let Some(Ok(answer)) = &mut self.last {
            answer.excerpt.truncate(answer.excerpt.floor_char_boundary(SHOWN));
            answer.excerpt.shrink_to_fit();
        }
        Parked { until, for_breaker, apart: false, retry: self }
    }

    /// The failure of an attempt in flight that the close of the connector aborted.
    pub(super) fn cut_off(self) -> Failure {
        let detail = "cut off by the close of the connector: it may have arrived".to_owned();
        Failure { reason: Reason::Closed, status: None, detail, attempts: self.attempts }
    }

    pub(super) fn failure(mut self, reason: Reason) -> Failure {
        self.ended();
        let asked = self.asked.filter(|_| reason == Reason::DeadlineExceeded);
        let (status, detail) = match self.last {
            Some(Ok(mut answer)) => {
                // It is kept for each message until the batch is settled, and nobody reads more than this.
                answer.excerpt.truncate(answer.excerpt.floor_char_boundary(ANSWER_LIMIT));
                (Some(answer.status.as_u16()), answer.excerpt)
            }
            Some(Err(fault)) => (None, fault.to_string()),
            None => (None, String::new()),
        };
        let detail = match asked {
            Some(asked) => format!("asked for a pause of {}, {detail}", humantime::format_duration(asked)),
            None => detail,
        };
        Failure { reason, status, detail, attempts: self.attempts }
    }
}

/// Describes why a body has to be sent again.
pub(super) fn why(attempts: u32, last: Option<&Result<Answer, Fault>>) -> String {
    match last {
        Some(ended) => format!("attempt {attempts} {}", in_words(ended)),
        None => "its first attempt has not begun".to_owned(),
    }
}
