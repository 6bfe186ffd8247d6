//! Sums over the life of a connector, and its metrics if it is observed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::Serialize;
use tokio::sync::watch;
use twox_hash::XxHash3_64;

use super::{
    EndpointMeter,
    blocked::{Blocked, Call, CallOf, LaneOfCalls},
    heads::{Head, HeadOf, HeadWait, Heads},
    held::{Held, HeldBatch, Holding},
    lanes::LaneWait,
    metrics::{DeadLetterLabels, Metrics, OTHER, TopicLabels},
    topic::Topic,
};
use crate::{
    batch::Batch,
    failure::{Failure, Reason},
    spool::{LaneKey, Spool},
};

/// How many topics have their own metrics; all others are counted as one.
const TOPICS: usize = 1000;
/// How many ranges of failed messages are kept until a host takes them.
const FAILURES: usize = 100_000;

/// How messages of a batch ended, as indexes into it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended<'a> {
    /// How many were delivered.
    pub(crate) delivered: usize,
    /// How many are dead letters now.
    pub(crate) dead_lettered: usize,
    /// Why, with how many of them.
    pub(crate) reasons: &'a [(Reason, usize)],
    /// Those that are neither, with the reason.
    pub(crate) undelivered: &'a [(Vec<usize>, Failure)],
}

impl Ended<'_> {
    /// How many are neither delivered nor dead letters.
    pub(crate) fn failed(&self) -> usize {
        self.undelivered.iter().map(|(messages, _)| messages.len()).sum()
    }
}

/// Counts up from open to close.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    delivered: AtomicU64,
    dead_lettered: AtomicU64,
    failed: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    holding: Holding,
    /// `None` if nobody can read them: then they cost nothing.
    observed: Option<Box<Observed>>,
    /// Empty if nobody can read them.
    heads: Arc<Heads>,
}

#[derive(Debug, Default)]
struct Observed {
    metrics: Metrics,
    /// By a hash of stream and topic, so that looking one up allocates nothing.
    topics: RwLock<HashMap<u64, Arc<Topic>>>,
    endpoints: Mutex<Vec<Arc<EndpointMeter>>>,
    blocked: Blocked,
    lanes: Mutex<HashMap<LaneKey, LaneWait>>,
    /// Dead letters by reason.
    reasons: Mutex<BTreeMap<String, u64>>,
    failures: Mutex<Vec<FailedRange>>,
    /// How many failed messages are not included.
    failures_left_out: AtomicU64,
}

/// Adjacent messages that failed for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FailedRange {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) reason: String,
    /// In the words of the log, for the first of them.
    pub(crate) why: String,
}

/// How many messages ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) delivered: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) failed: u64,
}

impl Outcomes {
    /// Returns the difference to an earlier state.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            delivered: self.delivered.saturating_sub(before.delivered),
            dead_lettered: self.dead_lettered.saturating_sub(before.dead_lettered),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, dead_lettered, failed } = self;
        write!(f, "{delivered} messages delivered, {dead_lettered} dead-lettered, {failed} failed")
    }
}

impl Counters {
    /// Creates counters that also feed metrics.
    pub(crate) fn observed() -> Self {
        Self { observed: Some(Box::default()), ..Self::default() }
    }

    /// The meter of an endpoint, by the name that it is shown with.
    pub(crate) fn endpoint(&self, label: &str) -> Arc<EndpointMeter> {
        let Some(observed) = &self.observed else { return Arc::default() };
        let mut endpoints = lock(&observed.endpoints);
        if let Some(meter) = endpoints.iter().find(|meter| meter.label() == label) {
            return meter.clone();
        }
        let meter = Arc::new(EndpointMeter::new(label, &observed.metrics));
        endpoints.push(meter.clone());
        meter
    }

    /// Records that a request with a body of this many bytes is sent.
    pub(crate) fn request(&self, bytes: usize, retry: bool) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.retries.fetch_add(u64::from(retry), Relaxed);
    }

    /// Records that a batch of a topic is settled.
    pub(crate) fn settled(&self, batch: &Batch<'_>, ended: Ended<'_>) {
        let (delivered, dead_lettered, failed) =
            (ended.delivered as u64, ended.dead_lettered as u64, ended.failed() as u64);
        self.delivered.fetch_add(delivered, Relaxed);
        self.dead_lettered.fetch_add(dead_lettered, Relaxed);
        self.failed.fetch_add(failed, Relaxed);
        let Some(observed) = &self.observed else { return };
        if delivered + dead_lettered + failed == 0 {
            return;
        }
        observed.failed(batch, ended.undelivered);
        let of_topic = observed.topic(batch.stream, batch.topic);
        of_topic.delivered.inc_by(delivered);
        of_topic.dead_lettered.inc_by(dead_lettered);
        of_topic.failed.inc_by(failed);
        for (reason, messages) in ended.reasons {
            let labels = DeadLetterLabels {
                stream: of_topic.stream.clone(),
                topic: of_topic.name.clone(),
                reason: reason.to_string(),
            };
            *lock(&observed.reasons).entry(labels.reason.clone()).or_default() += *messages as u64;
            observed.metrics.dead_letters.get_or_create(&labels).inc_by(*messages as u64);
        }
    }

    /// Records that a full spool refused a batch.
    pub(crate) fn shed(&self, batch: &Batch<'_>) {
        if let Some(observed) = &self.observed {
            let topic = observed.topic(batch.stream, batch.topic);
            let labels = TopicLabels { stream: topic.stream.clone(), topic: topic.name.clone() };
            observed.metrics.shed.get_or_create(&labels).inc_by(batch.messages.len() as u64);
        }
    }

    /// Records that stored batches are sent together.
    pub(crate) fn together(&self, batches: usize) {
        if let Some(observed) = &self.observed {
            observed.metrics.merges.inc_by(batches.saturating_sub(1) as u64);
        }
    }

    /// Records that consume waits with a batch, for `cause`, until the returned guard is dropped.
    pub(crate) fn blocked(&self, cause: &'static str, batch: &Batch<'_>) -> Option<Call<'_>> {
        let observed = self.observed.as_ref()?;
        let topic = observed.topic(batch.stream, batch.topic);
        let (partition, messages) = (batch.partition_id, batch.messages.len());
        Some(observed.blocked.begin(CallOf { cause, topic, partition, messages }))
    }

    /// Returns what calls of consume in progress hold, by lane.
    pub(crate) fn calls(&self) -> Vec<LaneOfCalls> {
        self.observed.as_ref().map(|observed| observed.blocked.lanes()).unwrap_or_default()
    }

    /// Records that a body has failed and will be sent again, and what it waits for.
    pub(crate) fn head_waits(
        &self,
        head: &mut Option<Arc<Head>>,
        of: impl FnOnce() -> HeadOf,
        wait: impl FnOnce() -> HeadWait,
    ) {
        if self.observed.is_some() {
            match head {
                Some(head) => head.waits(wait()),
                None => *head = self.heads.add(of(), wait()),
            }
        }
    }

    /// The bodies that have failed and will be sent again, oldest first.
    pub(crate) fn heads(&self) -> Vec<Arc<Head>> {
        self.heads.all()
    }

    /// The one with this number, if it still waits.
    pub(crate) fn head(&self, number: u64) -> Option<Arc<Head>> {
        self.heads.find(number)
    }

    /// Changes whenever an operator has given one up.
    pub(crate) fn heads_given_up(&self) -> watch::Receiver<u64> {
        self.heads.given_up()
    }

    /// Records that consume holds this many messages, until the returned guard is dropped.
    pub(crate) fn hold(&self, messages: usize) -> HeldBatch<'_> {
        self.holding.batch(messages)
    }

    /// Records that accepted messages are kept in this spool.
    pub(crate) fn keep(&self, spool: Weak<Spool>) {
        self.holding.keep(spool);
    }

    /// The messages that are not settled yet.
    pub(crate) fn held(&self) -> Held {
        self.holding.held()
    }

    /// Records that the first messages of a lane wait.
    pub(crate) fn lane_waits(&self, lane: &LaneKey, wait: impl FnOnce() -> LaneWait) {
        if let Some(observed) = &self.observed {
            lock(&observed.lanes).insert(lane.clone(), wait());
        }
    }

    /// Records that the first messages of a lane are sent.
    pub(crate) fn lane_goes_on(&self, lane: &LaneKey) {
        if let Some(observed) = &self.observed {
            lock(&observed.lanes).remove(lane);
        }
    }

    /// Returns the waiting lanes and their reasons.
    pub(crate) fn waiting_lanes(&self) -> HashMap<LaneKey, LaneWait> {
        self.observed.as_ref().map(|observed| lock(&observed.lanes).clone()).unwrap_or_default()
    }

    /// Requests, those of them that were sent again, and the bytes of their bodies.
    pub(crate) fn requests(&self) -> (u64, u64, u64) {
        (self.requests.load(Relaxed), self.retries.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// Takes the messages that failed since the last call, and how many more there were than are kept.
    pub(crate) fn take_failures(&self) -> (Vec<FailedRange>, u64) {
        let Some(observed) = &self.observed else { return (Vec::new(), 0) };
        let left_out = observed.failures_left_out.swap(0, Relaxed);
        (std::mem::take(&mut *lock(&observed.failures)), left_out)
    }

    /// How many messages ended in which way.
    pub(crate) fn outcomes(&self) -> Outcomes {
        Outcomes {
            delivered: self.delivered.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }

    /// Dead letters by reason.
    pub(crate) fn dead_letters(&self) -> BTreeMap<String, u64> {
        self.observed.as_ref().map(|observed| lock(&observed.reasons).clone()).unwrap_or_default()
    }

    /// Returns the metrics, after updating the time that consume was blocked.
    pub(crate) fn metrics(&self) -> Option<&Metrics> {
        let observed = self.observed.as_ref()?;
        observed.blocked.write(&observed.metrics);
        Some(&observed.metrics)
    }
}

impl Observed {
    /// Records which messages failed.
    fn failed(&self, batch: &Batch<'_>, undelivered: &[(Vec<usize>, Failure)]) {
        for (messages, failure) in undelivered {
            let (reason, why) = (failure.reason.to_string(), failure.to_string());
            let mut failures = lock(&self.failures);
            for offset in messages.iter().map(|&message| batch.messages[message].offset) {
                if let Some(last) = failures.last_mut()
                    && last.last_offset.checked_add(1) == Some(offset)
                    && (last.partition, last.reason.as_str()) == (batch.partition_id, reason.as_str())
                    && (last.stream.as_str(), last.topic.as_str()) == (batch.stream, batch.topic)
                {
                    last.last_offset = offset;
                } else if failures.len() < FAILURES {
                    failures.push(FailedRange {
                        stream: batch.stream.to_owned(),
                        topic: batch.topic.to_owned(),
                        partition: batch.partition_id,
                        first_offset: offset,
                        last_offset: offset,
                        reason: reason.clone(),
                        why: why.clone(),
                    });
                } else {
                    self.failures_left_out.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn topic(&self, stream: &str, topic: &str) -> Arc<Topic> {
        let hash = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(stream.as_bytes()), topic.as_bytes());
        if let Some(known) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return known.clone();
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let (hash, stream, topic) =
            if topics.len() < TOPICS { (hash, stream, topic) } else { (0, OTHER, OTHER) };
        topics.entry(hash).or_insert_with(|| Arc::new(Topic::new(&self.metrics, stream, topic))).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        write!(
            f,
            "{}; {} requests with {} bytes, {} of them retries",
            self.outcomes(),
            load(&self.requests),
            load(&self.bytes),
            load(&self.retries)
        )
    }
}

#[cfg(test)]
mod tests;
