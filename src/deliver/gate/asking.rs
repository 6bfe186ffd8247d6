//! Attempts that ask to begin, and why they are refused.

use tokio::time::Instant;

use crate::deliver::origin::Origin;

/// An attempt that asks to begin.
#[derive(Debug, Clone, Copy)]
pub(in crate::deliver) struct Asking {
    pub(in crate::deliver) origin: Origin,
    /// Whether an attempt before it has failed.
    pub(in crate::deliver) tried: bool,
    /// Whether its messages are kept elsewhere, so that it comes back later instead of waiting here for long.
    pub(in crate::deliver) parks: bool,
    pub(in crate::deliver) messages: usize,
    pub(in crate::deliver) bytes: usize,
}

/// Why an attempt does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::deliver) enum Refused {
    /// The deadline has passed, and it would have to wait longer.
    Deadline,
    /// The deadline has passed, and the breaker is open.
    BreakerOpen,
    /// The connector is closed.
    Closed,
    /// It is to come back later.
    Later {
        until: Instant,
        /// It may come earlier once the breaker has closed.
        for_breaker: bool,
    },
}

impl Asking {
    /// Returns its origin if it has not failed itself, so that failures of other origins need not hold it.
    pub(super) fn stranger(&self) -> Option<Origin> {
        (!self.tried).then_some(self.origin)
    }
}
