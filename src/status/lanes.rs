//! The lanes of a connector: what each holds, and what it waits for.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;

use super::report::{HeadReport, LaneReport, in_words, time_of};
use crate::{
    deliver::{BreakerState, GateState},
    pipeline::Pipeline,
    spool::{LaneKey, Spool},
    telemetry::{Head, LaneWait},
};

/// How many heads of a lane are listed.
const HEADS: usize = 100;

/// Heads by stream, topic and partition. Those of a lane of several partitions are under its topic, without a partition.
type HeadsOf = BTreeMap<(String, String, Option<u32>), Vec<Arc<Head>>>;

/// Returns all lanes that hold something: waiting ones first, the oldest of them first.
pub(super) fn lanes(pipeline: &Pipeline, spool: Option<&Spool>) -> Vec<LaneReport> {
    let mut lanes = match spool {
        Some(spool) => of_spool(pipeline, spool),
        None => of_calls(pipeline),
    };
    lanes.sort_by_key(|lane| (lane.waits.is_none(), std::cmp::Reverse(lane.oldest_seconds)));
    lanes
}

/// The lanes of the spool.
fn of_spool(pipeline: &Pipeline, spool: &Spool) -> Vec<LaneReport> {
    let waits = pipeline.counters.waiting_lanes();
    let held = spool.held();
    let apart: HashSet<LaneKey> = held.iter().map(|held| held.lane.clone()).collect();
    let mut heads = HeadsOf::new();
    for head in pipeline.counters.heads() {
        let lane = LaneKey::new(&head.of.stream, &head.of.topic, head.of.partition);
        let partition = apart.contains(&lane).then_some(head.of.partition);
        heads.entry((head.of.stream.clone(), head.of.topic.clone(), partition)).or_default().push(head);
    }
    let now = Instant::now();
    held.into_iter()
        .map(|held| {
            let (stream, topic) = (held.lane.stream().to_owned(), held.lane.topic().to_owned());
            let partition = (!held.lane.is_of_several()).then(|| held.lane.partition());
            let wait = waits.get(&held.lane).filter(|wait| wait.until > now || wait.for_breaker);
            let heads = heads.remove(&(stream.clone(), topic.clone(), partition)).unwrap_or_default();
            let (waits, until) = why(wait, kept_by(pipeline, &stream, &topic), &heads);
            LaneReport {
                stream,
                topic,
                partition,
                messages: held.messages,
                bytes: Some(held.bytes),
                oldest_seconds: held.oldest.map(|age| age.as_secs()),
                waits,
                until,
                heads_left_out: heads.len().saturating_sub(HEADS),
                heads: reports(&heads),
            }
        })
        .collect()
}

/// The lanes of messages in calls of consume that have not returned.
fn of_calls(pipeline: &Pipeline) -> Vec<LaneReport> {
    let mut heads = HeadsOf::new();
    for head in pipeline.counters.heads() {
        let key = (head.of.stream.clone(), head.of.topic.clone(), Some(head.of.partition));
        heads.entry(key).or_default().push(head);
    }
    let calls = pipeline.counters.calls().into_iter();
    calls
        .map(|call| {
            let key = (call.stream, call.topic, Some(call.partition));
            let heads = heads.remove(&key).unwrap_or_default();
            let (stream, topic, partition) = key;
            let (waits, until) = why(None, kept_by(pipeline, &stream, &topic), &heads);
            LaneReport {
                stream,
                topic,
                partition,
                messages: call.messages as u64,
                bytes: None,
                oldest_seconds: Some(call.oldest.as_secs()),
                waits,
                until,
                heads_left_out: heads.len().saturating_sub(HEADS),
                heads: reports(&heads),
            }
        })
        .collect()
}

fn reports(heads: &[Arc<Head>]) -> Vec<HeadReport> {
    heads.iter().take(HEADS).map(|head| report(head)).collect()
}

pub(super) fn report(head: &Head) -> HeadReport {
    let (of, wait) = (&head.of, head.wait());
    HeadReport {
        head: head.number,
        partition: of.partition,
        first_offset: of.first_offset,
        last_offset: of.last_offset,
        messages: of.messages,
        attempts: wait.attempts,
        since: in_words(head.since),
        why: wait.why,
        next_attempt: in_words(time_of(wait.until)),
        given_up: head.is_given_up(),
    }
}

/// Returns what holds the requests of all lanes of a topic.
fn kept_by(pipeline: &Pipeline, stream: &str, topic: &str) -> Option<(&'static str, Option<Instant>)> {
    let route = pipeline.routes().of(stream, topic)?;
    let GateState { held, breaker, paused_until, .. } = route.delivery.state();
    match (held, breaker, paused_until) {
        (true, ..) => Some(("an operator paused the endpoint", None)),
        (false, BreakerState::Open(until), _) => Some(("the circuit breaker is open", Some(until))),
        (false, BreakerState::HalfOpen, _) => {
            Some(("the circuit breaker is open, a probe is in flight", None))
        }
        (false, BreakerState::Closed, Some(until)) => Some(("the endpoint asked for a pause", Some(until))),
        (false, BreakerState::Closed, None) => None,
    }
}

/// Why the first messages of a lane wait, and until when.
fn why(
    wait: Option<&LaneWait>,
    for_all: Option<(&'static str, Option<Instant>)>,
    heads: &[Arc<Head>],
) -> (Option<String>, Option<String>) {
    let of_head = || heads.first().map(|head| head.wait()).map(|wait| (wait.why, wait.until));
    let own = wait.map(|wait| (wait.why.clone(), wait.until)).or_else(of_head);
    let (why, until) = match (own, for_all) {
        (Some((why, until)), Some((first, kept))) => (format!("{first}; {why}"), kept.max(Some(until))),
        (Some((why, until)), None) => (why, Some(until)),
        (None, Some((why, until))) => (why.to_owned(), until),
        (None, None) => return (None, None),
    };
    let now = SystemTime::now();
    (Some(why), until.map(time_of).filter(|until| *until > now).map(in_words))
}
