//! One body on its way: the one loop around attempts, with the one wait between them.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderValue};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    Delivery,
    attempt::{Answer, Attempt, How, Keep, SHOWN, attempt, in_words},
    backoff::Backoff,
    classify::Class,
    fault::Fault,
    gate::{Asking, Origin, Pass, Refused},
    items::{Apart, Ends},
    patience::{Ended, Patience},
    shortage,
};
use crate::{
    encode::Body,
    settle::{Failure, Reason},
    telemetry::{AttemptEnd, Verdict},
};

/// How much of an answer is kept with a message that it refused, in bytes.
const ANSWER_LIMIT: usize = 4096;

/// How sending a body ended.
#[derive(Debug)]
pub(super) enum Sent {
    /// Its messages are delivered.
    Delivered,
    /// They are not, and another request with the same body would not change that.
    Failed(Failure),
    /// The body is too large; its halves may not be.
    Split(Failure),
    /// Some message in it is bad.
    Isolate(Failure),
    /// It is to be sent again later, from where its messages are kept.
    Parked(Parked),
    /// Each of its messages has its own end.
    Apart(Apart),
}

/// When messages that are kept elsewhere are to be sent again: until then they take no memory but this.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    /// Not before this time,
    pub(crate) until: Instant,
    /// unless it waits for the breaker alone, and that closes earlier.
    pub(crate) for_breaker: bool,
    /// Whether others that it was sent with have ended, so that it goes on without them.
    pub(crate) apart: bool,
    /// What the next attempt goes on with.
    pub(crate) retry: RetryState,
}

impl Parked {
    /// How the last attempt ended, for people.
    pub(crate) fn why(&self) -> String {
        match &self.retry.last {
            Some(ended) => format!("attempt {} {}", self.retry.attempts, in_words(ended)),
            None => "its first attempt has not begun".to_owned(),
        }
    }

    /// For what comes behind it in order, and was not tried yet.
    pub(crate) fn behind(&self) -> Self {
        Self { retry: RetryState::default(), apart: false, ..*self }
    }
}

/// The attempts that were made so far at sending a body.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetryState {
    /// Where its messages are from: what is sent again is of no other lane than before.
    origin: Option<Origin>,
    attempts: u32,
    /// Retries that count against `max_retries`.
    spent: u32,
    /// Waits for a held status, for the backoff alone.
    held: u32,
    /// Whether an attempt reached the endpoint, as far as can be told.
    counts: bool,
    /// What the next one is to do otherwise.
    next: How,
    /// Whether the endpoint closes new connections too.
    resets: bool,
    /// Attempts in a row that a shortage on this machine ended, for the backoff alone.
    shortages: u32,
    last: Option<Result<Answer, Fault>>,
    /// The pause that the endpoint asked for last.
    asked: Option<Duration>,
    /// When the next attempt may begin.
    pub(super) not_before: Option<Instant>,
}

impl Delivery {
    /// Sends a body until there is no use in going on; what is kept elsewhere, until it would have to wait.
    pub(super) async fn send(
        &self,
        body: &Body,
        origin: Origin,
        mut patience: Patience,
        mut retry: RetryState,
    ) -> Sent {
        let key = self.template.idempotency_key(body);
        let origin = *retry.origin.get_or_insert(origin);
        if let Some(until) = retry.not_before.take() {
            match patience.wait_until(until).await {
                Ok(()) => {}
                Err(Ended::Deadline) => return Sent::Failed(retry.failure(Reason::DeadlineExceeded)),
                Err(Ended::Closed) => return Sent::Failed(retry.failure(Reason::Closed)),
            }
        }
        loop {
            let asking = Asking {
                origin,
                tried: retry.counts,
                parks: patience.is_kept(),
                messages: body.len(),
                bytes: body.wire().len(),
            };
            let pass = match self.endpoint.gate.enter(&mut patience, asking).await {
                Ok(pass) => pass,
                Err(Refused::Deadline) => return Sent::Failed(retry.failure(Reason::DeadlineExceeded)),
                Err(Refused::BreakerOpen) => return Sent::Failed(retry.failure(Reason::CircuitOpen)),
                Err(Refused::Closed) => return Sent::Failed(retry.failure(Reason::Closed)),
                Err(Refused::Later { until, for_breaker }) => return retry.park(until, for_breaker),
            };
            let probe = pass.probe;
            let Some((class, asked, ends)) =
                self.send_once(body, key.as_ref(), pass, &mut retry, &patience).await
            else {
                return Sent::Failed(retry.cut_off());
            };
            let wait = match class {
                // A probe stands in for all that wait for the breaker, so it costs its own messages nothing,
                // and the breaker says when the next one goes.
                Class::Retry | Class::Throttled | Class::TimedOut if probe && asked.is_none() => {
                    Some(Duration::ZERO)
                }
                _ => retry.wait(class, asked, &self.backoff, self.max_retries),
            };
            self.watch_outage(class, retry.last.as_ref(), wait);
            match class {
                Class::Success => {
                    return ends.map_or(Sent::Delivered, |ends| self.apart(ends, asked, retry, &patience));
                }
                Class::Permanent => return Sent::Failed(retry.failure(Reason::Rejected)),
                Class::Split => return Sent::Split(retry.failure(Reason::TooLarge)),
                Class::Isolate => return Sent::Isolate(retry.failure(Reason::Rejected)),
                Class::Stale
                | Class::Shortage
                | Class::Retry
                | Class::Throttled
                | Class::TimedOut
                | Class::Reauthenticate
                | Class::Hold => {}
            }
            let Some(wait) = wait else {
                return Sent::Failed(retry.failure(Reason::RetriesExhausted));
            };
            if !wait.is_zero() && self.verbose {
                debug!("{}: waiting {wait:?} before attempt {}", self.endpoint.label, retry.attempts + 1);
            }
            // With the deadline over no retry begins, not even one without a wait.
            if retry.counts && patience.over() {
                return Sent::Failed(retry.failure(Reason::DeadlineExceeded));
            }
            let mut until = Instant::now() + wait;
            if asked.is_some() {
                // A pause that would end after the deadline ends with it, and then comes a last attempt.
                until = until.min(patience.deadline());
            }
            if patience.is_kept() && !wait.is_zero() && until <= patience.deadline() {
                return retry.park(until, false);
            }
            let mut retries_now = self.endpoint.gate.retries_now();
            let waited = tokio::select! {
                biased;
                waited = patience.wait_until(until) => waited,
                _ = retries_now.changed() => Ok(()),
            };
            match waited {
                Ok(()) => {}
                Err(Ended::Deadline) => return Sent::Failed(retry.failure(Reason::DeadlineExceeded)),
                Err(Ended::Closed) => return Sent::Failed(retry.failure(Reason::Closed)),
            }
        }
    }
}

impl Delivery {
    /// Makes one attempt, and writes down how it ended: its class, the pause that the endpoint asked for, and the ends of
    /// messages that have each their own. `None` when the
    /// close of the connector cut it off.
    async fn send_once(
        &self,
        body: &Body,
        key: Option<&HeaderValue>,
        pass: Pass<'_>,
        retry: &mut RetryState,
        patience: &Patience,
    ) -> Option<(Class, Option<Duration>, Option<Ends>)> {
        let retries = retry.attempts;
        let request = || {
            // What is held, retried or sent again goes out with the secrets of now, not those of when it was accepted.
            self.template.refresh();
            self.template.request(body, key, retries)
        };
        self.counters.request(body.wire().len(), retries > 0);
        if let Some(last) = retry.last.as_ref().filter(|_| retries > 0) {
            self.endpoint.meter.retry(|| cause(last));
        }
        if self.verbose {
            debug!(
                "{}: sending {} messages in {} bytes, attempt {}",
                self.endpoint.label,
                body.len(),
                body.wire().len(),
                retry.attempts + 1
            );
        }
        let keep = Keep {
            of_success: if self.verbose { SHOWN } else { 0 },
            of_others: self.max_response_bytes,
            whole: self.response.as_ref().filter(|_| !body.is_tombstone()).map(|_| self.max_response_bytes),
        };
        retry.attempts += 1;
        let began = Instant::now();
        let attempt = attempt(&self.client, &self.classifier, request, retry.next, keep, patience.clone());
        let Some(Attempt { class, ended }) = attempt.await else {
            self.endpoint.meter.cut_off();
            return None;
        };
        let mut ended = self.template.masked(ended);
        // A connection that is new and closed all the same was not closed for its age.
        retry.resets |= retry.next.fresh && class == Class::Retry && ended.is_err();
        let class = if class == Class::Stale && retry.resets { Class::Retry } else { class };
        if self.verbose {
            debug!("{}: {}", self.endpoint.label, in_words(&ended));
        }
        let (class, ends) = self.judge(class, &mut ended, body, retry.attempts);
        let asked = ended.as_ref().ok().and_then(|answer| answer.retry_after);
        let goes_again = class.is_transient()
            || class == Class::Hold
            || ends.as_ref().is_some_and(|ends: &Ends| ends.again.is_some());
        let asked = asked.filter(|_| goes_again).map(|asked| self.backoff.asked(asked));
        self.measure(class, &ended, began, body, asked.is_some());
        if let Ok(answer) = &ended
            && matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            self.template.refused();
        }
        if let Ok(answer) = &ended {
            self.template.watch_compression(answer.status);
        }
        self.watch_trust(&ended);
        match &ended {
            Err(fault) if class == Class::Shortage => {
                // It never left this machine.
                retry.attempts -= 1;
                if let Some(requests) = pass.fell_short() {
                    self.warn_of_shortage(fault, requests);
                }
            }
            _ => pass.ended(class, asked),
        }
        retry.asked = asked;
        // Credentials are renewed once, until the endpoint has taken them.
        let renewed = class == Class::Reauthenticate || retry.next.renewed && !took_credentials(&ended);
        retry.next = How { fresh: class == Class::Stale, renewed };
        retry.counts |= !matches!(class, Class::Stale | Class::Shortage);
        retry.last = Some(ended);
        Some((class, asked, ends))
    }

    fn measure(&self, class: Class, ended: &Result<Answer, Fault>, began: Instant, body: &Body, asked: bool) {
        if !self.endpoint.meter.is_observed() {
            return;
        }
        let verdict = match class {
            Class::Success => Verdict::Success,
            Class::Retry | Class::Throttled | Class::TimedOut | Class::Hold => Verdict::Transient,
            Class::Split | Class::Isolate | Class::Permanent => Verdict::Refused,
            Class::Stale | Class::Shortage | Class::Reauthenticate => Verdict::Nothing,
        };
        let fault = ended.as_ref().err().map(Fault::kind).unwrap_or_default();
        let status = ended.as_ref().map(|answer| answer.status.as_u16()).map_err(|_| fault.as_str());
        let (took, messages, bytes) = (began.elapsed(), body.len(), body.wire().len());
        self.endpoint
            .meter
            .ended(AttemptEnd { verdict, status, took, messages, bytes, asked }, || in_words(ended));
    }

    /// Tells of a fault that somebody must mend, once, and of its end.
    pub(super) fn watch_trust(&self, ended: &Result<Answer, Fault>) {
        match ended {
            Ok(_) => self.trust.restored(&self.endpoint.label),
            Err(fault) => {
                if let Some(remedy) = fault.remedy() {
                    self.trust.broken(&self.endpoint.label, fault, remedy);
                }
            }
        }
    }

    fn warn_of_shortage(&self, fault: &Fault, requests: usize) {
        warn!(
            "{}: this machine is short of file descriptors, threads, memory or ports ({fault}): at most {requests} requests go \
            at once until it is not, and what could not be sent is sent later",
            self.endpoint.label
        );
    }
}

impl RetryState {
    /// How long to wait after an attempt of this class, for which the endpoint `asked` for a pause; `None` where there is to be
    /// no other.
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
            // The gate keeps everybody waiting that long. This request comes back to it only then, so that all
            // who came meanwhile go before it. The server says itself when it has had enough of that, so it is
            // not counted.
            Class::Retry | Class::Throttled | Class::TimedOut | Class::Hold if asked.is_some() => asked,
            Class::Hold => {
                self.held += 1;
                Some(backoff.held(self.held - 1))
            }
            Class::Retry | Class::Throttled | Class::TimedOut => (self.spent < max_retries).then(|| {
                self.spent += 1;
                backoff.wait(self.spent - 1)
            }),
        }
    }

    /// Puts the messages back to where they are kept. Many may wait so, so that of the last answer no more is kept
    /// than people need.
    pub(super) fn park(mut self, until: Instant, for_breaker: bool) -> Sent {
        if let Some(Ok(answer)) = &mut self.last {
            answer.excerpt.truncate(answer.excerpt.floor_char_boundary(SHOWN));
            answer.excerpt.shrink_to_fit();
        }
        Sent::Parked(Parked { until, for_breaker, apart: false, retry: self })
    }

    /// The close of the connector ended the attempt that was on its way.
    fn cut_off(self) -> Failure {
        let detail = "cut off by the close of the connector: it may have arrived".to_owned();
        Failure { reason: Reason::Closed, status: None, detail, attempts: self.attempts }
    }

    fn failure(self, reason: Reason) -> Failure {
        let asked = self.asked.filter(|_| reason == Reason::DeadlineExceeded);
        let (status, detail) = match self.last {
            Some(Ok(mut answer)) => {
                // It is kept for each message until the batch is settled, and nobody reads more of it.
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

/// Whether the endpoint answered, and with something else than that the credentials are wrong.
fn took_credentials(ended: &Result<Answer, Fault>) -> bool {
    ended.as_ref().is_ok_and(|answer| !matches!(answer.status.as_u16(), 401 | 403 | 511))
}

/// The status or fault that an attempt ended with.
fn cause(ended: &Result<Answer, Fault>) -> String {
    match ended {
        Ok(answer) => answer.status.as_u16().to_string(),
        Err(fault) => fault.kind(),
    }
}
