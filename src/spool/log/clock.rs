//! The time of a spool, which goes on only while it is open.

use std::time::Duration;

use tokio::time::Instant;

/// How long a spool has been open since it was made, as far as that is written down. Neither a jump of the
/// system's clock nor the time in which nobody had it open counts.
#[derive(Debug)]
pub(in crate::spool) struct Clock {
    opened: Instant,
    before: Duration,
}

impl Clock {
    /// The clock of a spool that is opened now, and goes on from this many microseconds.
    pub(in crate::spool) fn going_on_from(before: u64) -> Self {
        Self { opened: Instant::now(), before: Duration::from_micros(before) }
    }

    /// In microseconds.
    pub(in crate::spool) fn now(&self) -> u64 {
        u64::try_from((self.before + self.opened.elapsed()).as_micros()).unwrap_or(u64::MAX)
    }

    /// The time since a moment of this clock; since it was opened where that is not known.
    pub(in crate::spool) fn since(&self, then: Option<u64>) -> Duration {
        let then = then.map_or(self.before, Duration::from_micros);
        (self.before + self.opened.elapsed()).saturating_sub(then)
    }
}
