//! A world in which nothing is left to chance but the waits: what an endpoint does is a function of the time.

use std::{
    fmt,
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
use serde_json::Value;
use tokio::time::Instant;

use super::{disk::Disk, random::Random};

/// What an endpoint does with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    /// It takes it after this time.
    Take(Duration),
    /// It is not there.
    Refuse,
    /// It resets a connection that was used before.
    Reset,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// From the begin of the run.
    pub(super) at: Duration,
    /// When its answer was given, if it was taken.
    pub(super) taken: Option<Duration>,
    pub(super) body: String,
}

/// The requests that came, and what they are answered.
pub(super) struct Plain {
    begun: Instant,
    does: Box<dyn Fn(Duration) -> Does + Send + Sync>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    random: Mutex<Random>,
    disk: Disk,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl Simulation for Plain {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 56) + self.begun.elapsed()
    }

    fn random(&self) -> u64 {
        let mut random = self.random.lock().unwrap();
        random.between(0, u64::from(u32::MAX)) << 32 | random.between(0, u64::from(u32::MAX))
    }

    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let at = self.begun.elapsed();
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(body).into_owned();
        let does = (self.does)(at);
        let arrivals = self.arrivals.clone();
        let number = {
            let mut arrivals = arrivals.lock().unwrap();
            arrivals.push(Arrival { at, taken: None, body });
            arrivals.len() - 1
        };
        let begun = self.begun;
        Box::pin(async move {
            match does {
                Does::Refuse | Does::Reset => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let reused = matches!(does, Does::Reset);
                    let kind = if reused { NetworkFaultKind::Closed } else { NetworkFaultKind::Connect };
                    Reply { outcome: Err(NetworkFault { kind, detail: "simulated".to_owned() }), reused }
                }
                Does::Take(latency) => {
                    tokio::time::sleep(latency).await;
                    arrivals.lock().unwrap()[number].taken = Some(begun.elapsed());
                    let answer = http::Response::builder().status(200).body("").unwrap();
                    Reply { outcome: Ok(answer.into()), reused: true }
                }
            }
        })
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>> {
        Ok(self.disk.folder(&format!("{}/", path.display())))
    }
}

/// Runs a sink with this configuration while `feed` feeds it, and for a while after that; returns what came.
pub(super) fn run<F, Fed>(
    seed: u64,
    config: &Value,
    does: impl Fn(Duration) -> Does + Send + Sync + 'static,
    after: Duration,
    feed: F,
) -> Vec<Arrival>
where
    F: FnOnce(Arc<HttpSink>) -> Fed,
    Fed: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let arrivals = Arc::default();
        let world = World::simulated(Plain {
            begun: Instant::now(),
            does: Box::new(does),
            arrivals: Arc::clone(&arrivals),
            random: Mutex::new(Random(seed)),
            disk: Disk::default(),
        });
        let mut sink = HttpSink::in_world(1, config.clone().into(), world);
        sink.open().await.unwrap();
        let sink = Arc::new(sink);
        feed(sink.clone()).await;
        tokio::time::sleep(after).await;
        sink.begin_close();
        let mut sink = Arc::into_inner(sink).unwrap();
        sink.close().await.unwrap();
        std::mem::take(&mut *arrivals.lock().unwrap())
    })
}

/// Hands over messages whose payloads are their offsets.
pub(super) async fn consume(sink: &HttpSink, offsets: std::ops::Range<u64>) {
    let payloads: Vec<String> = offsets.clone().map(|offset| offset.to_string()).collect();
    consume_payloads(sink, offsets.start, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Hands over messages with these payloads, which are to be JSON.
pub(super) async fn consume_payloads(sink: &HttpSink, first: u64, payloads: &[&str]) {
    let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
    let current_offset = first + payloads.len() as u64 - 1;
    let metadata = MessagesMetadata { partition_id: 1, current_offset, schema: Schema::Json };
    let messages: Vec<BorrowedMessage<'_>> = (first..)
        .zip(payloads)
        .map(|(offset, payload)| BorrowedMessage {
            id: u128::from(offset) + 1,
            offset,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers: b"",
            payload: payload.as_bytes(),
        })
        .collect();
    sink.consume_borrowed(&topic, metadata, &messages).await.unwrap();
}
