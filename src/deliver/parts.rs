//! A body and the parts it comes apart into, until each of its messages has an outcome.

use tokio::time::Instant;
use tracing::info;

use super::{Delivery, gate::Origin, patience::Patience, send::Sent};
use crate::{
    encode::Body,
    settle::{Failure, Outcome, Reason},
};

/// A body that is yet to be sent.
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
    /// Whether so many proved bad that looking at the others one by one is not worth it.
    fn is_hopeless(&self) -> bool {
        self.messages > ALWAYS_SEARCHED && self.bad * 2 > self.messages
    }
}

/// Messages, as indexes into the batch, and what became of them.
pub(crate) type Settled = (Vec<usize>, Outcome);

impl Delivery {
    /// Brings a body to its endpoint, in parts where it must be, in order. Every message of it has
    /// exactly one outcome.
    pub(crate) async fn deliver(&self, body: Body, origin: Origin, patience: &Patience) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut searches: Vec<Search> = Vec::new();
        // The next part to be sent is the last.
        let mut parts = vec![Part { body, search: None }];
        while let Some(Part { body, search }) = parts.pop() {
            if body.bytes.len() > self.body_limit()
                && let Some((left, right)) = body.halves()
            {
                parts.extend([right, left].map(|body| Part { body, search }));
                continue;
            }
            let outcome = match self.send(&body, origin, patience.clone()).await {
                Sent::Delivered => {
                    self.learned(|size, _| size.taken(body.bytes.len()));
                    Outcome::Delivered
                }
                Sent::Failed(failure) => Outcome::Failed(failure),
                Sent::Split(failure) => match body.halves() {
                    Some((left, right)) => {
                        info!(
                            "{} refused {} bytes as too large: they are sent in parts",
                            self.label,
                            body.bytes.len()
                        );
                        self.learned(|size, now| size.refused(body.bytes.len(), now));
                        parts.extend([right, left].map(|body| Part { body, search }));
                        continue;
                    }
                    None => Outcome::Failed(failure),
                },
                Sent::Isolate(failure) => {
                    if let Some((left, right)) = body.halves() {
                        let search = search.unwrap_or_else(|| {
                            searches.push(Search { messages: body.len(), bad: 0 });
                            searches.len() - 1
                        });
                        parts.extend([right, left].map(|body| Part { body, search: Some(search) }));
                        continue;
                    }
                    if let Some(search) = search.map(|search| &mut searches[search]) {
                        search.bad += 1;
                    }
                    Outcome::Failed(failure)
                }
            };
            let hopeless = search.filter(|&search| searches[search].is_hopeless());
            if let (Some(search), Outcome::Failed(failure)) = (hopeless, &outcome) {
                // All parts of this search that are left lie on top.
                while let Some(part) = parts.pop_if(|part| part.search == Some(search)) {
                    let failure = Failure { reason: Reason::NotProbed, attempts: 0, ..failure.clone() };
                    settled.push((part.body.messages().collect(), Outcome::Failed(failure)));
                }
            }
            settled.push((body.messages().collect(), outcome));
        }
        settled
    }

    /// The most bytes that a body of several messages should have now.
    pub(crate) fn body_limit(&self) -> usize {
        self.learned(super::size::LearnedSize::limit)
    }

    fn learned<T>(&self, with: impl FnOnce(&mut super::size::LearnedSize, Instant) -> T) -> T {
        let mut size = self.size.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        with(&mut size, Instant::now())
    }
}
