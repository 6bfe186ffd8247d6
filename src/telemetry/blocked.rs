//! Time that consume was blocked, and by what. A call that goes on is counted while it does.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::metrics::{BlockedLabels, Metrics};

#[derive(Debug, Default)]
pub(super) struct Blocked(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    calls: u64,
    running: BTreeMap<u64, (&'static str, Instant)>,
    ended: BTreeMap<&'static str, Duration>,
}

/// A call of consume that waits.
#[derive(Debug)]
pub(crate) struct Call<'b> {
    blocked: &'b Blocked,
    number: u64,
}

impl Blocked {
    pub(super) fn begin(&self, cause: &'static str) -> Call<'_> {
        let mut state = self.lock();
        state.calls += 1;
        let number = state.calls;
        state.running.insert(number, (cause, Instant::now()));
        Call { blocked: self, number }
    }

    /// Brings the metric up to date.
    pub(super) fn write(&self, metrics: &Metrics) {
        let state = self.lock();
        let mut all = state.ended.clone();
        for (cause, began) in state.running.values() {
            *all.entry(cause).or_default() += began.elapsed();
        }
        metrics.consume_calls.set(i64::try_from(state.running.len()).unwrap_or(i64::MAX));
        for (cause, blocked) in all {
            let counter = metrics.consume_blocked.get_or_create(&BlockedLabels { cause });
            counter.inc_by((blocked.as_secs_f64() - counter.get()).max(0.0));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.blocked.lock();
        if let Some((cause, began)) = state.running.remove(&self.number) {
            *state.ended.entry(cause).or_default() += began.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_goes_on_counts_too_and_once() {
        let (blocked, metrics) = (Blocked::default(), Metrics::default());
        let seconds = |metrics: &Metrics| {
            metrics.consume_blocked.get_or_create(&BlockedLabels { cause: "delivery" }).get()
        };
        let call = blocked.begin("delivery");
        tokio::time::advance(Duration::from_secs(3)).await;
        blocked.write(&metrics);
        assert!((seconds(&metrics) - 3.0).abs() < 1e-9);
        assert_eq!(metrics.consume_calls.get(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(call);
        blocked.write(&metrics);
        blocked.write(&metrics);
        assert!((seconds(&metrics) - 4.0).abs() < 1e-9);
        assert_eq!(metrics.consume_calls.get(), 0);
    }
}
