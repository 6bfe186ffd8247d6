//! A lane whose messages go in order: one window after the other, and none behind what has to be sent again.

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
    /// What an operator can give up of it.
    head: Option<Arc<Head>>,
}

/// The records of a lane that are next.
enum Queued {
    Next(Window),
    /// They go once a record of another lane is settled.
    Behind(LaneKey, u64),
}

/// How many bodies are taken together: one, and what is left goes with the next.
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

    /// The records of a lane that are next, as far as it is their turn. While it is not, they take no memory.
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
            // Whoever delivers it says so.
            Err(_) => Ok(Turn::Now(None)),
        }
    }

    /// Reads what stands behind records that are being sent, where there is memory left. If it cannot be read, that is logged
    /// when it is the first.
    async fn read_ahead(&self, lane: &LaneKey, backlog: &mut Backlog) {
        // What was just begun is on the wire then: time to read on.
        tokio::task::yield_now().await;
        let _ = self.read_on(lane, backlog, BODIES);
    }
}

/// When what a window left is to be sent; `None` where it left nothing that was tried.
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

/// The bodies that were parked begin again where they began, and go on with the attempts that were made at them.
fn resumed(account: Account, index: &Index) -> Selection {
    let mut begins: BTreeMap<Message, RetryState> = BTreeMap::new();
    for (messages, parked) in account.parked {
        if let Some(first) = messages.first() {
            begins.insert(index.message(*first), parked.retry);
        }
    }
    Selection::resumed(begins)
}
