//! Counts how many requests are in flight, and how many may be.
//!
//! It is pure: it only counts; requests that wait for a slot wait in the [gate](super::gate).

use tokio::time::Instant;

use super::{
    adaptive::{Aimd, Load},
    shortage::Shortage,
};
use crate::config::Concurrency;

/// The slots of one endpoint. A request holds one while it is sent, never while it waits.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    under_way: usize,
    /// `None` if the limit is fixed.
    adaptive: Option<Aimd>,
    /// Lowers either limit.
    shortage: Shortage,
}

impl Slots {
    pub(super) fn new(concurrency: Concurrency) -> Self {
        let (limit, adaptive) = match concurrency {
            Concurrency::Fixed(slots) => (slots.get(), None),
            Concurrency::Adaptive { max } => {
                let aimd = Aimd::up_to(max.get());
                (aimd.limit(), Some(aimd))
            }
        };
        Self { limit, under_way: 0, adaptive, shortage: Shortage::default() }
    }

    /// How many requests hold one.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// How many there are now.
    pub(super) fn limit(&self, now: Instant) -> usize {
        self.shortage.limit(self.limit, now)
    }

    /// Whether one is free.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.under_way < self.limit(now)
    }

    /// Records that this machine was short of something for a request that holds a slot: there are fewer slots from now on.
    /// Returns how many, if that should be logged.
    pub(super) fn fell_short(&mut self, now: Instant) -> Option<usize> {
        let logs = self.shortage.met(self.under_way, now);
        logs.then(|| self.shortage.limit(self.limit, now))
    }

    /// Takes one, which must be given back.
    pub(super) fn take(&mut self) {
        self.under_way += 1;
    }

    /// A request that holds a slot ended, a retry if `tried`; an adaptive limit learns from it.
    pub(super) fn ended(&mut self, load: Load, tried: bool, now: Instant) {
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.ended(load, tried, self.under_way, now);
            self.limit = adaptive.limit();
        }
    }

    /// Gives one back.
    pub(super) fn give_back(&mut self) {
        self.under_way -= 1;
    }
}
