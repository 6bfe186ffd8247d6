//! An endpoint that is away for a while, with the shipped defaults: how soon all arrives once it is back, and how often it is
//! asked meanwhile. The clock is simulated, so that the times are exact.

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use iggy_connector_http_sink::{
    HttpSink,
    world::{Files, NetworkFault, NetworkFaultKind, Reply, Simulation, World},
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, Sink, TopicMetadata};
use reqwest::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{disk::Disk, random::Random};

/// When the outage begins.
const LOST: Duration = Duration::from_millis(100);

/// An endpoint that takes all, but refuses connections for a while.
#[derive(Debug)]
struct Away {
    begun: Instant,
    back: Duration,
    seen: Arc<Mutex<Seen>>,
    random: Mutex<Random>,
    disk: Disk,
}

/// When requests came, from the begin of the run.
#[derive(Debug, Default)]
struct Seen {
    refused: Vec<Duration>,
    taken: Vec<Duration>,
}

impl Simulation for Away {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 56) + self.begun.elapsed()
    }

    fn random(&self) -> u64 {
        let mut random = self.random.lock().unwrap();
        random.between(0, u64::from(u32::MAX)) << 32 | random.between(0, u64::from(u32::MAX))
    }

    fn send(&self, _: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let now = self.begun.elapsed();
        let away = (LOST..self.back).contains(&now);
        let mut seen = self.seen.lock().unwrap();
        if away {
            seen.refused.push(now);
        } else {
            seen.taken.push(now);
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(if away { 1 } else { 5 })).await;
            let outcome = if away {
                let detail = "connection refused".to_owned();
                Err(NetworkFault { kind: NetworkFaultKind::Connect, detail })
            } else {
                Ok(http::Response::builder().status(200).body("").unwrap().into())
            };
            Reply { outcome, reused: !away }
        })
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>> {
        Ok(self.disk.folder(&format!("{}/", path.display())))
    }
}

/// Sends 1,000 messages, each in a request of its own with 16 in flight, beside an outage of this length.
fn run(seed: u64, away: Duration, more: &Value) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let arrivals = Arc::default();
        let world = World::simulated(Away {
            begun: Instant::now(),
            back: LOST + away,
            seen: Arc::clone(&arrivals),
            random: Mutex::new(Random(seed)),
            disk: Disk::default(),
        });
        let mut config = json!({ "url": "http://endpoint.test/", "concurrency": 16, "ordering": "none" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut sink = HttpSink::in_world(1, config.into(), world);
        sink.open().await.unwrap();
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 999, schema: Schema::Json };
        let messages: Vec<BorrowedMessage<'_>> = (0..1000)
            .map(|offset| BorrowedMessage {
                id: u128::from(offset) + 1,
                offset,
                checksum: 0,
                timestamp: 0,
                origin_timestamp: 0,
                headers: b"",
                payload: b"{}",
            })
            .collect();
        sink.consume_borrowed(&topic, metadata, &messages).await.unwrap();
        tokio::time::sleep(away * 2 + Duration::from_mins(2)).await;
        sink.begin_close();
        sink.close().await.unwrap();
        std::mem::take(&mut *arrivals.lock().unwrap())
    })
}

/// How long after its return the last message arrived in the worst of some runs, and the most requests that it refused once the
/// breaker knew.
fn worst(away: Duration) -> (Duration, usize) {
    let mut worst = (Duration::ZERO, 0);
    for more in [json!({}), json!({ "spool": { "path": "spool" } })] {
        for seed in 0..10 {
            let Seen { refused, taken } = run(seed, away, &more);
            assert_eq!(taken.len(), 1000, "{more}, seed {seed}: each arrives once");
            assert!(!refused.is_empty(), "{more}, seed {seed}: the outage meets something");
            let last = *taken.last().unwrap();
            let opened = LOST + Duration::from_millis(100);
            let probes = refused.iter().filter(|at| **at > opened).count();
            worst = (worst.0.max(last.saturating_sub(LOST + away)), worst.1.max(probes));
        }
    }
    worst
}

#[test]
fn all_arrives_within_3_s_of_the_return_of_an_endpoint_that_was_away_for_300_ms() {
    let (last, _) = worst(Duration::from_millis(300));
    assert!(last <= Duration::from_secs(3), "{last:?}");
}

#[test]
fn all_arrives_within_30_s_of_the_return_of_an_endpoint_that_was_away_for_a_minute_and_was_asked_12_times() {
    let (last, probes) = worst(Duration::from_secs(60));
    assert!(last <= Duration::from_secs(30), "{last:?}");
    assert!(probes <= 12, "{probes} probes");
}
