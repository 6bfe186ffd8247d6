//! Calls of consume that have not returned, and the time spent in calls, by what they wait for. A call in progress is
//! included.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    metrics::{BlockedLabels, Metrics},
    topic::Topic,
};

#[derive(Debug, Default)]
pub(super) struct Blocked(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    calls: u64,
    running: BTreeMap<u64, (CallOf, Instant)>,
    ended: BTreeMap<&'static str, Duration>,
}

/// A call, and what it waits for.
#[derive(Debug)]
pub(super) struct CallOf {
    pub(super) cause: &'static str,
    pub(super) topic: Arc<Topic>,
    pub(super) partition: u32,
    pub(super) messages: usize,
}

/// The messages of one partition in calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneOfCalls {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) messages: usize,
    /// How long the oldest of them has been in progress.
    pub(crate) oldest: Duration,
}

/// A call of consume that waits.
#[derive(Debug)]
pub(crate) struct Call<'b> {
    blocked: &'b Blocked,
    number: u64,
}

impl Blocked {
    pub(super) fn begin(&self, of: CallOf) -> Call<'_> {
        let mut state = self.lock();
        state.calls += 1;
        let number = state.calls;
        state.running.insert(number, (of, Instant::now()));
        Call { blocked: self, number }
    }

    /// Updates the metric.
    pub(super) fn write(&self, metrics: &Metrics) {
        let state = self.lock();
        let mut all = state.ended.clone();
        for (CallOf { cause, .. }, began) in state.running.values() {
            *all.entry(cause).or_default() += began.elapsed();
        }
        metrics.consume_calls.set(i64::try_from(state.running.len()).unwrap_or(i64::MAX));
        for (cause, blocked) in all {
            let counter = metrics.consume_blocked.get_or_create(&BlockedLabels { cause });
            counter.inc_by((blocked.as_secs_f64() - counter.get()).max(0.0));
        }
    }

    /// Returns what calls in progress hold, by lane.
    pub(super) fn lanes(&self) -> Vec<LaneOfCalls> {
        let state = self.lock();
        let mut lanes: BTreeMap<(&str, &str, u32), (usize, Duration)> = BTreeMap::new();
        for (CallOf { topic, partition, messages, .. }, began) in state.running.values() {
            let lane = lanes.entry((&topic.stream, &topic.name, *partition)).or_default();
            *lane = (lane.0 + messages, lane.1.max(began.elapsed()));
        }
        let lane = |((stream, topic, partition), (messages, oldest)): ((&str, &str, u32), _)| LaneOfCalls {
            stream: stream.to_owned(),
            topic: topic.to_owned(),
            partition,
            messages,
            oldest,
        };
        lanes.into_iter().map(lane).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.blocked.lock();
        if let Some((CallOf { cause, .. }, began)) = state.running.remove(&self.number) {
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
        let topic = Arc::new(Topic::new(&metrics, "s", "t"));
        let call = |partition| {
            blocked.begin(CallOf { cause: "delivery", topic: topic.clone(), partition, messages: 2 })
        };
        let first = call(1);
        tokio::time::advance(Duration::from_secs(3)).await;
        blocked.write(&metrics);
        assert!((seconds(&metrics) - 3.0).abs() < 1e-9);
        assert_eq!(metrics.consume_calls.get(), 1);
        let others = [call(1), call(2)];
        let lanes: Vec<_> =
            blocked.lanes().iter().map(|lane| (lane.partition, lane.messages, lane.oldest)).collect();
        assert_eq!(lanes, [(1, 4, Duration::from_secs(3)), (2, 2, Duration::ZERO)]);
        drop(others);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(first);
        blocked.write(&metrics);
        blocked.write(&metrics);
        assert!((seconds(&metrics) - 4.0).abs() < 1e-9);
        assert_eq!(metrics.consume_calls.get(), 0);
    }
}
