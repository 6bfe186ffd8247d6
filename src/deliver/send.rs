//! The retry loop: sends one body until it is settled, with one wait between attempts.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use reqwest::{StatusCode, header::HeaderValue};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    attempt::{Answer, Attempt, How, Keep, SHOWN, attempt, in_words},
    classify::Class,
    deadline::{Deadline, Ended},
    delivery::Delivery,
    fault::Fault,
    gate::{Asking, Pass, Refused},
    items::Ends,
    origin::Origin,
    retry::{RetryState, why},
    sent::Sent,
};
use crate::{
    encode::Body,
    failure::Reason,
    telemetry::{AttemptEnd, HeadOf, HeadWait, Verdict},
};

/// Increments a count until it is dropped.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn of(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Why a request is not sent now.
enum Shut {
    /// Its messages fail with this reason.
    Ends(Reason),
    /// Its messages are kept elsewhere, and it comes back.
    Until { until: Instant, for_breaker: bool },
}

impl Delivery {
    /// Sends a body until it is settled or, if it is kept elsewhere, until it would have to wait.
    pub(super) async fn send(
        &self,
        body: &Body,
        origin: Origin,
        mut deadline: Deadline,
        mut retry: RetryState,
        failed_before: &AtomicUsize,
    ) -> Sent {
        let mut counted = (retry.attempts > 0).then(|| Counted::of(failed_before));
        let key = self.template.idempotency_key(body);
        let origin = *retry.origin.get_or_insert(origin);
        if let Some(until) = retry.not_before.take() {
            self.waits(body, &mut retry, until);
            if let Err(reason) = self.wait_until(until, &retry, &mut deadline).await {
                return Sent::Failed(retry.failure(reason));
            }
        }
        loop {
            let pass = match self.enter(body, origin, &retry, &mut deadline).await {
                Ok(pass) => pass,
                Err(Shut::Ends(reason)) => return Sent::Failed(retry.failure(reason)),
                Err(Shut::Until { until, for_breaker }) => {
                    self.waits(body, &mut retry, until);
                    return Sent::Parked(retry.park(until, for_breaker));
                }
            };
            let probe = pass.probe;
            let Some((class, asked, ends)) =
                self.send_once(body, key.as_ref(), pass, &mut retry, &deadline).await
            else {
                return Sent::Failed(retry.cut_off());
            };
            let wait = self.wait_after(class, asked, probe, &mut retry);
            self.watch_outage(class, retry.last.as_ref(), wait);
            match class {
                Class::Success => {
                    retry.ended();
                    return ends.map_or(Sent::Delivered, |ends| self.apart(ends, asked, retry, &deadline));
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
            // After the deadline no retry begins, even without a wait.
            if retry.counts && deadline.has_passed() {
                return Sent::Failed(retry.failure(Reason::DeadlineExceeded));
            }
            let mut until = Instant::now() + wait;
            if asked.is_some() {
                // A pause that would end after the deadline ends with it, and then comes a last attempt.
                until = until.min(deadline.at());
            }
            self.waits(body, &mut retry, until);
            counted.get_or_insert_with(|| Counted::of(failed_before));
            if deadline.is_kept() && !wait.is_zero() && until <= deadline.at() {
                return Sent::Parked(retry.park(until, false));
            }
            if let Err(reason) = self.wait_until(until, &retry, &mut deadline).await {
                return Sent::Failed(retry.failure(reason));
            }
        }
    }

    /// Decides how long to wait after an attempt; `None`: no other attempt follows.
    fn wait_after(
        &self,
        class: Class,
        asked: Option<Duration>,
        probe: bool,
        retry: &mut RetryState,
    ) -> Option<Duration> {
        match class {
            // A probe is sent on behalf of all that wait for the breaker, so it costs its own messages no retry, and the
            // breaker decides when the next one is sent.
            Class::Retry | Class::Throttled | Class::TimedOut if probe && asked.is_none() => {
                Some(Duration::ZERO)
            }
            _ => retry.wait(class, asked, &self.backoff, self.max_retries),
        }
    }

    /// Waits for the gate to let a request go.
    async fn enter(
        &self,
        body: &Body,
        origin: Origin,
        retry: &RetryState,
        deadline: &mut Deadline,
    ) -> Result<Pass<'_>, Shut> {
        let asking = Asking {
            origin,
            tried: retry.counts,
            parks: deadline.is_kept(),
            messages: body.len(),
            bytes: body.wire().len(),
        };
        let entered = tokio::select! {
            biased;
            () = retry.given_up() => return Err(Shut::Ends(Reason::GivenUp)),
            entered = self.endpoint.gate.enter(deadline, asking) => entered,
        };
        entered.map_err(|refused| match refused {
            Refused::Deadline => Shut::Ends(Reason::DeadlineExceeded),
            Refused::BreakerOpen => Shut::Ends(Reason::CircuitOpen),
            Refused::Closed => Shut::Ends(Reason::Closed),
            Refused::Later { until, for_breaker } => Shut::Until { until, for_breaker },
        })
    }

    /// Waits before another attempt. An operator can end the wait, or give up the body.
    async fn wait_until(
        &self,
        until: Instant,
        retry: &RetryState,
        deadline: &mut Deadline,
    ) -> Result<(), Reason> {
        let mut retries_now = self.endpoint.gate.retries_now();
        tokio::select! {
            biased;
            () = retry.given_up() => Err(Reason::GivenUp),
            waited = deadline.wait_until(until) => match waited {
                Ok(()) => Ok(()),
                Err(Ended::Deadline) => Err(Reason::DeadlineExceeded),
                Err(Ended::Closed) => Err(Reason::Closed),
            },
            _ = retries_now.changed() => Ok(()),
        }
    }

    /// Shows an operator that a body has to be sent again.
    fn waits(&self, body: &Body, retry: &mut RetryState, until: Instant) {
        let RetryState { head, last, attempts, .. } = retry;
        let of = || {
            let ((stream, topic, partition), (first_offset, last_offset)) = (body.origin(), body.offsets());
            let [stream, topic] = [stream, topic].map(str::to_owned);
            HeadOf { stream, topic, partition, first_offset, last_offset, messages: body.len() }
        };
        let wait = || HeadWait { attempts: *attempts, why: why(*attempts, last.as_ref()), until };
        self.counters.head_waits(head, of, wait);
    }

    /// Makes one attempt, and records how it ended. Returns its class, the pause that the endpoint asked for, and the outcome
    /// of each message if the answer has one; `None` if a close aborted it.
    async fn send_once(
        &self,
        body: &Body,
        key: Option<&HeaderValue>,
        pass: Pass<'_>,
        retry: &mut RetryState,
        deadline: &Deadline,
    ) -> Option<(Class, Option<Duration>, Option<Ends>)> {
        let retries = retry.attempts;
        let span = self.begin_span(body);
        let request = || {
            // A retry is sent with the current secrets, not those from when its messages were accepted.
            self.template.refresh(&self.endpoint.meter);
            let mut request = self.template.request(body, key, retries);
            if let Some(span) = &span {
                span.send(request.headers_mut(), body.trace());
            }
            request
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
        let Some(Attempt { class, ended }) =
            attempt(&self.client, &self.classifier, request, retry.next, keep, deadline.clone()).await
        else {
            self.endpoint.meter.cut_off();
            self.end_span(span, None, body, retries);
            return None;
        };
        let mut ended = self.template.masked(ended);
        // A new connection that is closed nevertheless was not closed because of its age.
        retry.resets |= retry.next.fresh && class == Class::Retry && ended.is_err();
        let class = if class == Class::Stale && retry.resets { Class::Retry } else { class };
        if self.verbose {
            debug!("{}: {}", self.endpoint.label, in_words(&ended));
        }
        let (class, ends) = self.read_verdict(class, &mut ended, body, retry.attempts);
        let asked = ended.as_ref().ok().and_then(|answer| answer.retry_after);
        let goes_again = class.is_transient()
            || class == Class::Hold
            || ends.as_ref().is_some_and(|ends: &Ends| ends.again.is_some());
        let asked = asked.filter(|_| goes_again).map(|asked| self.backoff.asked(asked));
        self.measure(class, &ended, began, body, asked.is_some());
        self.end_span(span, Some((class, &ended)), body, retries);
        self.watch(&ended);
        match &ended {
            Err(fault) if class == Class::Shortage => {
                // The request never left this machine.
                retry.attempts -= 1;
                if let Some(requests) = pass.fell_short() {
                    self.warn_of_shortage(fault, requests);
                }
            }
            _ => pass.ended(class, asked),
        }
        retry.asked = asked;
        // Credentials are renewed once, until the endpoint has accepted them.
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

    /// Records what the end of an attempt says about credentials, compression and trust.
    fn watch(&self, ended: &Result<Answer, Fault>) {
        if let Ok(answer) = ended {
            if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                self.template.refused();
            }
            self.template.watch_compression(answer.status);
        }
        self.watch_trust(ended);
    }

    /// Logs a fault that somebody must fix, once, and its end.
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

/// Whether the endpoint answered, and did not refuse the credentials.
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
