//! A body and the parts it is split into, until each of its messages has an outcome.

use std::sync::atomic::AtomicUsize;

use tokio::{sync::watch, time::Instant};
use tracing::info;

use super::{
    deadline::Deadline,
    delivery::Delivery,
    gate::Refused,
    origin::Origin,
    outcome::Outcome,
    retry::RetryState,
    sent::{Again, Apart, ItemEnd, Sent},
};
use crate::{
    encode::Body,
    failure::{Failure, Reason},
};

/// A body that is still to be sent.
struct Part {
    body: Body,
    /// The search for bad messages that it belongs to, if any.
    search: Option<usize>,
}

/// Bodies of up to this many messages are searched to the end, however many prove bad.
const ALWAYS_SEARCHED: usize = 64;

/// A search for the bad messages of a refused body, by bisection.
struct Search {
    messages: usize,
    bad: usize,
}

impl Search {
    /// Whether too many have proved bad to probe the others one by one.
    fn is_hopeless(&self) -> bool {
        self.messages > ALWAYS_SEARCHED && self.bad * 2 > self.messages
    }
}

/// Messages, as indexes into the batch, and what became of them.
pub(crate) type Settled = (Vec<usize>, Outcome);

/// What is left to be sent of a body, in parts if it was split.
pub(crate) struct Parts {
    /// The next part to be sent is the last.
    left: Vec<Part>,
    searches: Vec<Search>,
    /// The attempts made so far at the first part.
    retry: RetryState,
}

impl Parts {
    /// A whole body, with the attempts made so far.
    pub(crate) fn of(body: Body, retry: RetryState) -> Self {
        Self { left: vec![Part { body, search: None }], searches: Vec::new(), retry }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The messages of each part, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Vec<usize>> {
        self.left.iter().rev().map(|part| part.body.messages().collect())
    }

    /// Settles the messages of a body that have an outcome of their own; those to be retried are the next part.
    fn come_apart(&mut self, body: &Body, search: Option<usize>, apart: Apart) -> Vec<Settled> {
        let Apart { ends, again } = apart;
        let mut settled: Vec<Settled> = Vec::new();
        let (mut taken, mut indexes, mut messages, mut failures) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((index, message), end) in body.messages().enumerate().zip(ends) {
            match end {
                ItemEnd::Taken => taken.push(message),
                ItemEnd::Refused(failure) => settled.push((vec![message], Outcome::Failed(failure))),
                ItemEnd::Again(failure) => {
                    indexes.push(index);
                    messages.push(message);
                    failures.push(failure);
                }
            }
        }
        if !taken.is_empty() {
            settled.insert(0, (taken, Outcome::Delivered));
        }
        match again {
            _ if indexes.is_empty() => {}
            Again::Sent(retry) => {
                self.left.push(Part { body: body.only(&indexes), search });
                self.retry = retry;
            }
            Again::Parked(parked) => settled.push((messages, Outcome::Parked(parked))),
            Again::Failed(reason) => {
                let failed = messages.into_iter().zip(failures);
                settled.extend(failed.map(|(message, failure)| {
                    (vec![message], Outcome::Failed(Failure { reason, ..failure }))
                }));
            }
        }
        settled
    }

    /// Removes all remaining parts of a search; they are the last ones.
    fn take(&mut self, search: usize) -> Vec<Part> {
        let first = self.left.iter().rposition(|part| part.search != Some(search)).map_or(0, |last| last + 1);
        self.left.split_off(first)
    }
}

impl Delivery {
    /// Sends the next part of a body, and returns what became of its messages; nothing where it was split into smaller
    /// parts, which are sent next. Every message of the body has exactly one outcome once no part is left.
    /// From its first failed attempt on, the part is counted in `failed_before`.
    pub(crate) async fn deliver_next(
        &self,
        parts: &mut Parts,
        origin: Origin,
        deadline: &Deadline,
        failed_before: &AtomicUsize,
    ) -> Vec<Settled> {
        let mut settled = Vec::new();
        if let Some(Part { body, search }) = parts.left.pop() {
            // What may have been sent before keeps its idempotency key until an answer says that it is too large.
            if !body.noted
                && body.bytes.len() > self.body_limit()
                && let Some((left, right)) = body.halves()
            {
                parts.left.extend([right, left].map(|body| Part { body, search }));
                return settled;
            }
            let retry = std::mem::take(&mut parts.retry);
            let outcome = match self.send(&body, origin, deadline.clone(), retry, failed_before).await {
                Sent::Delivered => {
                    self.learned(|size, _| size.taken(body.bytes.len()));
                    Outcome::Delivered
                }
                Sent::Failed(failure) => Outcome::Failed(failure),
                Sent::Parked(parked) => Outcome::Parked(parked),
                Sent::Apart(apart) => {
                    self.learned(|size, _| size.taken(body.bytes.len()));
                    return parts.come_apart(&body, search, apart);
                }
                Sent::Split(failure) => match body.halves() {
                    Some((left, right)) => {
                        info!(
                            "{} refused {} bytes as too large: they are sent in parts",
                            self.endpoint.label,
                            body.bytes.len()
                        );
                        self.endpoint.meter.split();
                        self.learned(|size, now| size.refused(body.bytes.len(), now));
                        parts.left.extend([right, left].map(|body| Part { body, search }));
                        return settled;
                    }
                    None => Outcome::Failed(failure),
                },
                Sent::Isolate(failure) => {
                    if let Some((left, right)) = body.halves() {
                        let search = search.unwrap_or_else(|| {
                            parts.searches.push(Search { messages: body.len(), bad: 0 });
                            parts.searches.len() - 1
                        });
                        parts.left.extend([right, left].map(|body| Part { body, search: Some(search) }));
                        return settled;
                    }
                    if let Some(search) = search.map(|search| &mut parts.searches[search]) {
                        search.bad += 1;
                        self.endpoint.meter.isolated();
                    }
                    Outcome::Failed(failure)
                }
            };
            let hopeless = search.filter(|&search| parts.searches[search].is_hopeless());
            if let (Some(search), Outcome::Failed(failure)) = (hopeless, &outcome) {
                for part in parts.take(search) {
                    let failure = Failure { reason: Reason::NotProbed, attempts: 0, ..failure.clone() };
                    settled.push((part.body.messages().collect(), Outcome::Failed(failure)));
                }
            }
            settled.push((body.messages().collect(), outcome));
        }
        settled
    }

    /// Sends a whole body.
    pub(crate) async fn deliver(&self, body: Body, origin: Origin, deadline: &Deadline) -> Vec<Settled> {
        let mut parts = Parts::of(body, RetryState::default());
        let (mut settled, failed_before) = (Vec::new(), AtomicUsize::new(0));
        while !parts.is_empty() {
            settled.extend(self.deliver_next(&mut parts, origin, deadline, &failed_before).await);
        }
        settled
    }

    /// How many bodies of a lane without order are worth having ready.
    pub(crate) fn worth_having_ready(&self) -> usize {
        self.endpoint.gate.worth_having_ready()
    }

    /// Returns why no first attempt can be made now, if that is so: then everything that is left ends together.
    pub(crate) fn refuses(&self, deadline: &Deadline) -> Option<Failure> {
        let reason = match self.endpoint.gate.refuses(deadline)? {
            Refused::Closed => Reason::Closed,
            Refused::BreakerOpen => Reason::CircuitOpen,
            Refused::Deadline | Refused::Later { .. } => return None,
        };
        Some(Failure { reason, status: None, detail: String::new(), attempts: 0 })
    }

    /// Changes whenever the breaker closes: messages that are parked only because of it can be sent.
    pub(crate) fn breaker_closed(&self) -> watch::Receiver<u64> {
        self.endpoint.gate.closed()
    }

    /// Counts how often an operator asked to retry now.
    pub(crate) fn retries_now(&self) -> watch::Receiver<u64> {
        self.endpoint.gate.retries_now()
    }

    /// The maximum size that a body of several messages should have now, in bytes.
    pub(crate) fn body_limit(&self) -> usize {
        self.learned(super::size::LearnedSize::limit)
    }

    fn learned<T>(&self, with: impl FnOnce(&mut super::size::LearnedSize, Instant) -> T) -> T {
        let mut size = self.endpoint.size.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        with(&mut size, Instant::now())
    }
}
