//! A lane whose messages go in order: one record after the other, and none behind what has to be sent again.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tracing::error;

use super::{Lanes, Opened, WAITS, progress::Selection};
use crate::{
    deliver::RetryState,
    settle::Account,
    spool::{LaneKey, SpoolError},
};

/// When the first record of a lane is to be sent again.
struct Later {
    until: Instant,
    for_breaker: bool,
}

impl Lanes {
    /// Delivers what is stored in a lane until there is nothing left, or the connector is being closed.
    pub(super) async fn deliver_in_order(&self, lane: &LaneKey) {
        let mut breaker_closed = self.pipeline.breaker_closed();
        let mut emptied = self.spool.emptied();
        let mut ahead: Option<Opened> = None;
        let mut selection = Selection::default();
        let mut wait = WAITS.0;
        while !self.pipeline.is_closing() {
            let opened = match ahead.take() {
                Some(opened) => Ok(Some(opened)),
                None => self.open_first(lane).await,
            };
            breaker_closed.mark_unchanged();
            let (delivered, next) = match opened {
                Ok(None) => return,
                Err(why) => (Err(why), None),
                Ok(Some(opened)) => {
                    emptied.mark_unchanged();
                    if self.is_behind_another(lane, &opened) {
                        // While it waits it takes no memory.
                        drop(opened);
                        tokio::select! {
                            // The spool outlives this, so there is no error.
                            _ = emptied.changed() => {}
                            () = self.pipeline.closing() => {}
                        }
                        continue;
                    }
                    let after = opened.record.sequence;
                    tokio::join!(self.deliver(&opened.record, &selection, None), self.read_ahead(lane, after))
                }
            };
            selection = Selection::default();
            let later = match delivered {
                Ok(account) => {
                    let later = later(&account, wait);
                    selection = resumed(account);
                    later
                }
                Err(why) => {
                    error!("{lane}: {why}");
                    Some(Later { until: Instant::now() + wait, for_breaker: false })
                }
            };
            let Some(later) = later else {
                (ahead, wait) = (next, WAITS.0);
                continue;
            };
            drop(next);
            if !later.for_breaker {
                wait = (wait * 2).min(WAITS.1);
            }
            tokio::select! {
                () = tokio::time::sleep_until(later.until) => {}
                _ = breaker_closed.changed(), if later.for_breaker => {}
                () = self.pipeline.closing() => return,
            }
        }
    }

    /// Reads the first unsettled record of a lane, once there is memory for it; none when the connector is being closed.
    async fn open_first(&self, lane: &LaneKey) -> Result<Option<Opened>, SpoolError> {
        tokio::select! {
            admission = self.budget.admit() => self.open_next(lane, 0, admission),
            () = self.pipeline.closing() => Ok(None),
        }
    }

    /// Whether something in another lane is to be delivered before this record, which may hold several partitions.
    fn is_behind_another(&self, lane: &LaneKey, opened: &Opened) -> bool {
        lane.is_of_several()
            && opened.record.decode().is_ok_and(|stored| {
                self.spool.is_behind_another(lane, stored.metadata.partition_id, &stored.messages)
            })
    }

    /// Reads the record behind one that is on its way, where there is memory left. If it cannot be read, that is told when it
    /// is the first.
    async fn read_ahead(&self, lane: &LaneKey, after: u64) -> Option<Opened> {
        // What was just begun is on the wire then: time to read on.
        tokio::task::yield_now().await;
        let admission = self.budget.try_admit()?;
        self.open_next(lane, after, admission).ok().flatten()
    }
}

/// When what a record left is to be sent; `None` where it left nothing.
fn later(account: &Account, wait: Duration) -> Option<Later> {
    if let Some((_, parked)) = account.parked.first() {
        return Some(Later { until: parked.until, for_breaker: parked.for_breaker });
    }
    let left = !account.unwritten.is_empty() || !account.left.is_empty();
    left.then(|| Later { until: Instant::now() + wait, for_breaker: false })
}

/// The bodies that were parked begin again where they began, and go on with the attempts that were made at them.
fn resumed(account: Account) -> Selection {
    let mut begins: BTreeMap<u32, RetryState> = BTreeMap::new();
    for (messages, parked) in account.parked {
        if let Some(first) = messages.first().and_then(|first| u32::try_from(*first).ok()) {
            begins.insert(first, parked.retry);
        }
    }
    Selection::resumed(begins)
}
