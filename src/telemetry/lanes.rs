//! Why the first messages of a lane wait.

use tokio::time::Instant;

/// What the first messages of a lane of a spool wait for.
#[derive(Debug, Clone)]
pub(crate) struct LaneWait {
    /// They are sent again then,
    pub(crate) until: Instant,
    /// or earlier, once the breaker closes.
    pub(crate) for_breaker: bool,
    /// How the last attempt ended, or what failed here.
    pub(crate) why: String,
}
