//! Delivers a lane in order: one window after the other, and none before messages that have to be sent again.

use std::{collections::BTreeMap, future, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::error;

use super::{
    lanes::{Lanes, UNWRITTEN, WAITS},
    progress::Selection,
    unit::Message,
    window::{Backlog, Index, Window},
};
use crate::{
    deliver::RetryState,
    settle::Account,
    spool::{LaneKey, SpoolError, Turn},
    telemetry::{Head, LaneWait},
};

/// When the first messages of a lane are to be sent again.
#[derive(Clone)]
struct Later {
    until: Instant,
    for_breaker: bool,
    why: String,
    /// The head that an operator can give up.
    head: Option<Arc<Head>>,
}

/// The records of a lane that are next.
enum Queued {
    Next(Window),
    /// They are sent once a record of another lane is settled.
    Behind(LaneKey, u64),
}

/// How many bodies are taken together: one; the rest is sent with the next.
const BODIES: usize = 1;

impl Lanes {
    /// Delivers what is stored in a lane until there is nothing left, or the connector is being closed.
    pub(super) async fn deliver_in_order(&self, lane: &LaneKey) {
        let mut breaker_closed = self.pipeline.routes().breaker_closed(lane.stream(), lane.topic());
        let mut retries_now = self.pipeline.routes().retries_now(lane.stream(), lane.topic());
        let mut backlog = Backlog::default();
        let mut selection = Selection::default();
        let mut wait = WAITS.0;
        while !self.pipeline.is_closing() {
            let window = self.next_in_turn(lane, &mut backlog).await;
            breaker_closed.mark_unchanged();
            retries_now.mark_unchanged();
            let later = match window {
                Ok(None) => return,
                Err(why) => Err(why),
                Ok(Some(Queued::Behind(lane, sequence))) => {
                    tokio::select! {
                        () = self.spool.until_settled(&lane, sequence) => {}
                        () = self.pipeline.closing() => {}
                    }
                    continue;
                }
                Ok(Some(Queued::Next(window))) => {
                    let index = window.index();
                    let delivery = self.deliver(&window, &index, &selection, None);
                    let (delivered, ()) = tokio::join!(delivery, self.read_ahead(lane, &mut backlog));
                    delivered.map(|account| {
                        let later = later(&account, wait);
                        if later.is_none()
                            && let Some(first) = account.held_back.first()
                        {
                            let mut rest = window.from(index.message(*first));
                            // Some of them may be settled: refused when the body before them was not full yet.
                            rest.retain_mut(|opened| self.spool.refresh(&mut opened.record));
                            backlog.put_back(rest);
                        }
                        selection = resumed(account, &index);
                        later
                    })
                }
            };
            let later = match later {
                Ok(None) => {
                    wait = WAITS.0;
                    continue;
                }
                Ok(Some(later)) => later,
                Err(why) => {
                    error!("{lane}: {why}");
                    selection = Selection::default();
                    Later {
                        until: Instant::now() + wait,
                        for_breaker: false,
                        why: why.to_string(),
                        head: None,
                    }
                }
            };
            backlog.clear();
            if !later.for_breaker {
                wait = (wait * 2).min(WAITS.1);
            }
            self.pipeline.counters.lane_waits(lane, || {
                let Later { until, for_breaker, why, .. } = later.clone();
                LaneWait { until, for_breaker, why }
            });
            tokio::select! {
                () = tokio::time::sleep_until(later.until) => {}
                _ = breaker_closed.changed(), if later.for_breaker => {}
                _ = retries_now.changed() => {}
                () = given_up(later.head.as_deref()) => {}
                () = self.pipeline.closing() => return,
            }
            self.pipeline.counters.lane_goes_on(lane);
        }
    }

    /// Returns the next records of a lane whose turn it is. While it is not their turn, they take no memory.
    async fn next_in_turn(
        &self,
        lane: &LaneKey,
        backlog: &mut Backlog,
    ) -> Result<Option<Queued>, SpoolError> {
        let Some(window) = self.next_window(lane, backlog, BODIES).await? else { return Ok(None) };
        Ok(Some(match self.turn(&window)? {
            Turn::Now(None) => Queued::Next(window),
            Turn::Now(Some(time)) => {
                let (window, rest) = window.before(time);
                backlog.put_back(rest);
                Queued::Next(window)
            }
            Turn::Behind(lane, sequence) => {
                backlog.clear();
                Queued::Behind(lane, sequence)
            }
        }))
    }

    fn turn(&self, window: &Window) -> Result<Turn, SpoolError> {
        let first = window.record(0);
        if !first.lane.is_of_several() {
            return self.spool.turn(first, first.lane.partition(), &[]);
        }
        match window.decode() {
            Ok(stored) => self.spool.turn(first, stored.metadata.partition_id, &stored.messages),
            // Its own delivery reports that.
            Err(_) => Ok(Turn::Now(None)),
        }
    }

    /// Reads the records after those that are being sent, if there is memory left. If one cannot be read, that is logged once
    /// it is the first.
    async fn read_ahead(&self, lane: &LaneKey, backlog: &mut Backlog) {
        // By then, the request that was just begun is on the wire: time to read on.
        tokio::task::yield_now().await;
        let _ = self.read_on(lane, backlog, BODIES);
    }
}

/// Returns when the rest of a window is to be sent; `None` if none of the rest was attempted.
fn later(account: &Account, wait: Duration) -> Option<Later> {
    if let Some((_, parked)) = account.parked.first() {
        return Some(Later {
            until: parked.until,
            for_breaker: parked.for_breaker,
            why: parked.why(),
            head: parked.head().cloned(),
        });
    }
    let left = !account.unwritten.is_empty() || !account.left.is_empty();
    left.then(|| Later {
        until: Instant::now() + wait,
        for_breaker: false,
        why: if account.unwritten.is_empty() { "delivery broke off" } else { UNWRITTEN }.to_owned(),
        head: None,
    })
}

/// Returns once an operator gives it up.
async fn given_up(head: Option<&Head>) {
    match head {
        Some(head) => head.until_given_up().await,
        None => future::pending().await,
    }
}

/// Makes parked bodies begin where they began before, and continue with the attempts made so far.
fn resumed(account: Account, index: &Index) -> Selection {
    let mut begins: BTreeMap<Message, RetryState> = BTreeMap::new();
    for (messages, parked) in account.parked {
        if let Some(first) = messages.first() {
            begins.insert(index.message(*first), parked.retry);
        }
    }
    Selection::resumed(begins)
}
