//! What a simulated world decides is all that decides.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use iggy_connector_http_sink::{
    HttpSink,
    world::{Files, Reply, Simulation, World},
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, Sink, TopicMetadata};
use reqwest::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::disk::Disk;

/// What arrived: when, which idempotency key, which retry, which body.
type Arrival = (Duration, String, String, String);

/// An endpoint that gives these answers, and then takes everything.
#[derive(Debug)]
struct Simulated {
    begun: Instant,
    answers: Mutex<VecDeque<u16>>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    random: Mutex<u64>,
    disk: Disk,
}

impl Simulation for Simulated {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 56) + self.begun.elapsed()
    }

    fn random(&self) -> u64 {
        let mut random = self.random.lock().unwrap();
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *random
    }

    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let header = |name: &str| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        self.arrivals.lock().unwrap().push((
            self.begun.elapsed(),
            header("idempotency-key"),
            header("x-retry-count"),
            String::from_utf8_lossy(body).into_owned(),
        ));
        let status = self.answers.lock().unwrap().pop_front().unwrap_or(200);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = http::Response::builder().status(status).body("").unwrap();
            Reply { outcome: Ok(answer.into()), reused: true }
        })
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>> {
        Ok(self.disk.folder(&format!("{}/", path.display())))
    }
}

/// What arrives of three messages at an endpoint that answers 503 twice.
fn run(seed: u64, more: Value) -> Vec<Arrival> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let arrivals = Arc::default();
        let world = World::simulated(Simulated {
            begun: Instant::now(),
            answers: Mutex::new([503, 503].into()),
            arrivals: Arc::clone(&arrivals),
            random: Mutex::new(seed),
            disk: Disk::default(),
        });
        let mut config = json!({ "url": "http://endpoint.test/" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut sink = HttpSink::in_world(1, config.into(), world);
        sink.open().await.unwrap();
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 2, schema: Schema::Json };
        let messages = [0, 1, 2].map(|offset| BorrowedMessage {
            id: u128::from(offset) + 1,
            offset,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers: b"",
            payload: b"{}",
        });
        sink.consume_borrowed(&topic, metadata, &messages).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        sink.begin_close();
        sink.close().await.unwrap();
        std::mem::take(&mut *arrivals.lock().unwrap())
    })
}

#[test]
fn the_same_seed_sends_the_same_requests_at_the_same_times() {
    for more in [json!({}), json!({ "spool": { "path": "spool" }, "dead_letter": { "path": "letters" } })] {
        let first = run(7, more.clone());
        let retries: Vec<&str> = first.iter().map(|(_, _, retry, _)| retry.as_str()).collect();
        assert_eq!(retries, ["", "1", "2", "", ""], "{more}: {first:?}");
        assert!(first[2].0 < Duration::from_secs(4), "{more}: two waits of at most 1 s and 2 s: {first:?}");
        assert_eq!(run(7, more.clone()), first, "{more}");
        assert_ne!(run(8, more), first);
    }
}
