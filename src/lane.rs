//! Sends the bodies of a lane: one after the other, or concurrently if there is no order.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Sleep},
};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    deliver::{Deadline, Delivery, Origin, Outcome, Parts, RetryState, Settled},
    encode::Body,
    failure::Failure,
    payload::Refusal,
};

/// An item of a lane.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are bodies")]
pub(crate) enum Item {
    /// A body, the attempts made at it so far, and whether it must be recorded before it is sent.
    Body(Body, RetryState, bool),
    /// A message, by its index in the batch, that is in no body.
    Refused(usize, Refusal),
}

/// Outcomes that are to be settled.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) settled: Vec<Settled>,
    /// The body that is sent next, or the parts that it was split into.
    pub(crate) sending: Vec<Vec<usize>>,
    /// Notified once that is done: whether all of them are settled.
    pub(crate) all_settled: oneshot::Sender<bool>,
}

/// Sends the bodies of one lane.
pub(crate) struct LaneSender {
    pub(crate) delivery: Arc<Delivery>,
    /// `None` if there is no order: then each body has its own origin.
    pub(crate) origin: Option<Origin>,
    pub(crate) deadline: Deadline,
    /// How many bodies may be in flight. With 1 they are sent in order: a message that failed is settled before the next is
    /// sent.
    pub(crate) at_once: usize,
    /// How many of them have failed an attempt.
    pub(crate) failed_before: AtomicUsize,
    /// How long delivered messages may wait to be settled together with later ones; `None`: until the end.
    pub(crate) held: Option<Duration>,
    pub(crate) decided: mpsc::Sender<Decision>,
}

/// Outcomes that are known and not settled yet.
#[derive(Default)]
struct Unsettled {
    outcomes: Vec<Settled>,
    /// Whether any of them is not a delivery.
    failed: bool,
}

/// Puts a future into the memory of one that has ended, if there is one.
fn in_memory<'a, T>(
    memory: Option<ReusableBoxFuture<'a, T>>,
    future: impl Future<Output = T> + Send + 'a,
) -> ReusableBoxFuture<'a, T> {
    match memory {
        Some(mut memory) => {
            memory.set(future);
            memory
        }
        None => ReusableBoxFuture::new(future),
    }
}

impl LaneSender {
    /// Sends the first set and all later ones, or stops when an ordered lane cannot continue. Returns the last outcomes,
    /// which must still be settled: handing them over separately would wake the other thread twice.
    pub(crate) async fn run(
        self,
        first: Vec<Item>,
        mut more: Option<mpsc::Receiver<Vec<Item>>>,
    ) -> Vec<Settled> {
        let mut due = pin!(tokio::time::sleep(Duration::ZERO));
        let mut unsettled = Unsettled::default();
        let mut under_way = FuturesUnordered::new();
        // A body's future is large, so the memory of one that has ended is reused.
        let mut spare: Vec<ReusableBoxFuture<'_, (Parts, Vec<Settled>)>> = Vec::new();
        let mut items = first.into_iter();
        // The rest of a body that was split, in order.
        let mut rest: Option<Parts> = None;
        loop {
            while rest.is_some() || self.has_room(under_way.len()) {
                let (parts, unnoted) = match rest.take() {
                    Some(parts) => (parts, false),
                    None => match items.next() {
                        None => break,
                        Some(Item::Refused(message, refusal)) => {
                            unsettled.add(vec![(vec![message], Outcome::Failed(Failure::from(refusal)))]);
                            continue;
                        }
                        Some(Item::Body(body, retry, unnoted)) => (Parts::of(body, retry), unnoted),
                    },
                };
                if let Some(failure) = self.delivery.refuses(&self.deadline) {
                    // Everything that is left ends for the same reason, and is settled at once.
                    unsettled
                        .add(parts.messages().map(|part| (part, Outcome::Failed(failure.clone()))).collect());
                    continue;
                }
                // A failed message is on disk before the next message in order is sent.
                if self.is_in_order() && unsettled.failed && !self.settle(&mut unsettled).await {
                    return Vec::new();
                }
                let sending = self.send(parts, unnoted);
                let mut sending = in_memory(spare.pop(), sending);
                under_way.push(async move {
                    let ended = poll_fn(|context| sending.poll(context)).await;
                    (ended, sending)
                });
            }
            // There may be room at any moment, and no set is taken before the one before it was sent.
            let full = !items.as_slice().is_empty() || !self.has_room(under_way.len());
            let idle = under_way.is_empty();
            let next = poll_fn(|context| match under_way.poll_next_unpin(context) {
                // A body that fails its first attempt makes room for another.
                Poll::Pending if full && self.has_room(under_way.len()) => Poll::Ready(Some(None)),
                polled => polled.map(|ended| ended.map(Some)),
            });
            tokio::select! {
                Some(set) = next_set(&mut more), if !full => items = set.into_iter(),
                Some(ended) = next => {
                    let Some(((parts, outcomes), memory)) = ended else { continue };
                    spare.push(memory);
                    self.hold(due.as_mut(), &unsettled);
                    let parked = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Parked(_)));
                    unsettled.add(outcomes);
                    if self.is_in_order() && parked {
                        // Its successors wait where they are kept.
                        break;
                    }
                    if !self.is_in_order() && unsettled.failed {
                        self.hand_over(&mut unsettled).await;
                    }
                    rest = Some(parts).filter(|parts| !parts.is_empty());
                }
                () = &mut due, if self.held.is_some() && !unsettled.outcomes.is_empty() && !idle => {
                    self.hand_over(&mut unsettled).await;
                }
                else => break,
            }
        }
        unsettled.outcomes
    }

    /// Whether another body may be started: as many as are worth having ready, not counting those that failed before. These
    /// hold no slot while they wait for a retry, and must not block the others.
    fn has_room(&self, under_way: usize) -> bool {
        under_way < self.at_once
            && (self.is_in_order()
                || under_way.saturating_sub(self.failed_before.load(Relaxed))
                    < self.delivery.worth_having_ready())
    }

    fn is_in_order(&self) -> bool {
        self.at_once == 1
    }

    async fn send(&self, mut parts: Parts, unnoted: bool) -> (Parts, Vec<Settled>) {
        let origin = self.origin.unwrap_or_else(Origin::unique);
        if unnoted {
            self.note(&parts).await;
        }
        loop {
            let outcomes =
                self.delivery.deliver_next(&mut parts, origin, &self.deadline, &self.failed_before).await;
            if !outcomes.is_empty() || parts.is_empty() {
                return (parts, outcomes);
            }
            // It was split: the spool must record how before the parts are sent.
            if self.held.is_some() {
                self.note(&parts).await;
            }
        }
    }

    /// Has it recorded which messages are sent together next.
    async fn note(&self, parts: &Parts) {
        let (all_settled, noted) = oneshot::channel();
        let sending = parts.messages().collect();
        let _ = self.decided.send(Decision { settled: Vec::new(), sending, all_settled }).await;
        let _ = noted.await;
    }

    /// The first waiting outcome sets the time by which all are settled.
    fn hold(&self, due: std::pin::Pin<&mut Sleep>, unsettled: &Unsettled) {
        if let Some(held) = self.held.filter(|_| unsettled.outcomes.is_empty()) {
            due.reset(Instant::now() + held);
        }
    }

    /// Has outcomes settled, and waits for it. Returns whether all of them are.
    async fn settle(&self, unsettled: &mut Unsettled) -> bool {
        self.hand_over(unsettled).await.await.unwrap_or(false)
    }

    /// Hands outcomes over to be settled; the returned receiver resolves when they are.
    async fn hand_over(&self, unsettled: &mut Unsettled) -> oneshot::Receiver<bool> {
        let (all_settled, done) = oneshot::channel();
        let settled = std::mem::take(unsettled).outcomes;
        if !settled.is_empty() {
            // An error means that the call has ended, and nobody needs to know.
            let _ = self.decided.send(Decision { settled, sending: Vec::new(), all_settled }).await;
        }
        done
    }
}

/// The next set, if another comes.
async fn next_set(more: &mut Option<mpsc::Receiver<Vec<Item>>>) -> Option<Vec<Item>> {
    more.as_mut()?.recv().await
}

impl Unsettled {
    fn add(&mut self, outcomes: Vec<Settled>) {
        self.failed |= outcomes.iter().any(|(_, outcome)| !matches!(outcome, Outcome::Delivered));
        self.outcomes.extend(outcomes);
    }
}
