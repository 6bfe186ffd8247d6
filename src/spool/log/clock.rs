//! The time of a spool, which goes on only while it is open.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// How long a spool has been open since it was created, as far as that is recorded. Neither a jump of the system's clock nor
/// the time in which nobody had it open counts.
#[derive(Debug)]
pub(in crate::spool) struct Clock {
    opened: Instant,
    before: Duration,
    /// The lowest value for the next stamp.
    next_stamp: AtomicU64,
}

impl Clock {
    /// Creates the clock of a spool that is opened now; it continues from this many microseconds.
    pub(in crate::spool) fn going_on_from(before: u64) -> Self {
        let next_stamp = if before == 0 { 0 } else { before + 1 }.into();
        Self { opened: Instant::now(), before: Duration::from_micros(before), next_stamp }
    }

    /// In microseconds.
    pub(in crate::spool) fn now(&self) -> u64 {
        u64::try_from((self.before + self.opened.elapsed()).as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the time for a batch that arrives now: later than that of every other.
    pub(in crate::spool) fn stamp(&self) -> u64 {
        let now = self.now();
        let after = |next: u64| Some(now.max(next).saturating_add(1));
        // The update never fails, so both are the value before.
        let (Ok(next) | Err(next)) = self.next_stamp.fetch_update(Relaxed, Relaxed, after);
        now.max(next)
    }

    /// Returns the time since a moment of this clock; since it was opened if that is not known.
    pub(in crate::spool) fn since(&self, then: Option<u64>) -> Duration {
        let then = then.map_or(self.before, Duration::from_micros);
        (self.before + self.opened.elapsed()).saturating_sub(then)
    }
}
