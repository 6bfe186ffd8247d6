//! A circuit breaker that counts failures in a row.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// Opens after `threshold` failures in a row, and lets calls through again after a pause.
///
/// Check [`is_open`](Self::is_open) before an operation, and report its result. After the pause the breaker is half open:
/// operations are allowed, the first failure opens it again at once, and a success closes it.
#[derive(Debug)]
pub struct CircuitBreaker {
    threshold: u32,
    cool_down: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures_in_a_row: u32,
    open_until: Option<Instant>,
}

impl CircuitBreaker {
    /// Creates a closed breaker that opens at `threshold` failures in a row, for `cool_down`.
    pub fn new(threshold: u32, cool_down: Duration) -> Self {
        Self { threshold, cool_down, state: Mutex::default() }
    }

    /// Closes the breaker.
    pub fn record_success(&self) {
        *self.state() = State::default();
    }

    /// Counts a failure: an operation that failed with all its retries. A refusal of bad data is not a failure.
    #[allow(clippy::unused_async)] // sinks await it
    pub async fn record_failure(&self) {
        let mut state = self.state();
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        if state.failures_in_a_row >= self.threshold {
            // A pause that never ends leaves the breaker open.
            let far = Duration::from_secs(60 * 60 * 24 * 365);
            state.open_until = Some(Instant::now() + self.cool_down.min(far));
            warn!(
                "the circuit breaker is open for {:?} after {} failures in a row",
                self.cool_down, state.failures_in_a_row
            );
        }
    }

    /// Whether operations should be skipped now.
    #[allow(clippy::unused_async)] // sinks await it
    pub async fn is_open(&self) -> bool {
        let mut state = self.state();
        match state.open_until {
            None => false,
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                state.open_until = None;
                state.failures_in_a_row = self.threshold.saturating_sub(1);
                info!("the circuit breaker is half open: the next operation is a probe");
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_probes_and_closes() {
        let breaker = CircuitBreaker::new(3, Duration::from_secs(30));
        for _ in 0..2 {
            breaker.record_failure().await;
            assert!(!breaker.is_open().await);
        }
        breaker.record_failure().await;
        assert!(breaker.is_open().await);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(breaker.is_open().await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!breaker.is_open().await, "the pause is over");

        breaker.record_failure().await;
        assert!(breaker.is_open().await, "a probe that failed opens it at once");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(!breaker.is_open().await);
        breaker.record_success();
        for _ in 0..2 {
            breaker.record_failure().await;
            assert!(!breaker.is_open().await, "closed, it takes as many failures as ever");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_a_row_of_failures() {
        let breaker = CircuitBreaker::new(2, Duration::MAX);
        for _ in 0..5 {
            breaker.record_failure().await;
            breaker.record_success();
        }
        assert!(!breaker.is_open().await);
        breaker.record_failure().await;
        breaker.record_failure().await;
        assert!(breaker.is_open().await);
    }
}
