//! The whole way of a batch, once it is to be delivered.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use iggy_connector_sdk::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    batch::Batch,
    config::{Config, Ordering},
    deliver::{Delivery, Origin, Patience, Settled},
    encode::{Bodies, Body, Buffers, Encoded, Refusal},
    executor::Executor,
    plan,
    settle::{Account, DeadLetters, Failure, Ledger, Outcome, Progress},
    telemetry::Counters,
    turns::Turns,
};

/// How many bodies are handed over to be delivered at once, as long as they are small: in bytes, no more than that by
/// more than one body.
const MOST_IN_SET: usize = 32;
const LARGEST_SET: usize = 64 * 1024;

/// How long a delivered message of a batch that is kept may not be written down as such: a crash sends it again. What is
/// delivered in that time is written down together.
const UNWRITTEN: Duration = Duration::from_millis(5);

/// Everything between open and close that a batch passes on its way to the endpoint.
#[derive(Debug)]
pub(crate) struct Pipeline {
    id: u32,
    pub(crate) config: Config,
    buffers: Buffers,
    delivery: Arc<Delivery>,
    pub(crate) counters: Arc<Counters>,
    turns: Turns,
    pub(crate) dead_letters: Option<DeadLetters>,
    executor: Executor,
    closing: Closing,
}

/// Set once close begins.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    /// When requests on their way are cut off.
    pub(crate) requests: watch::Receiver<Option<Instant>>,
    /// When dead letters on their way are cut off.
    pub(crate) dead_letters: watch::Receiver<Option<Instant>>,
}

impl Pipeline {
    /// # Errors
    /// Something that the configuration names is not there or not content.
    pub(crate) async fn open(id: u32, config: Config, closing: Closing) -> Result<Self, Error> {
        for warning in &config.warnings {
            warn!("connector {id}: {warning}");
        }
        let counters = Arc::<Counters>::default();
        let delivery = Arc::new(Delivery::new(&config, counters.clone()).map_err(Error::InitError)?);
        let dead_letters = match &config.dead_letter {
            None => None,
            Some(letters) => Some(
                DeadLetters::open(letters, &config, closing.dead_letters.clone())
                    .map_err(Error::InitError)?,
            ),
        };
        let executor = Executor::start(format!("http-sink-{id}"))
            .map_err(|why| Error::InitError(format!("no thread can be started: {why}")))?;
        if let Some(method) = config.health_check {
            let checked = delivery.clone();
            let patience = Patience::from_now(config.retry.max_duration, closing.requests.clone());
            let status = executor
                .spawn(async move { checked.health_check(method, patience).await })
                .await
                .map_err(|why| Error::InitError(format!("the health check stopped: {why}")))?
                .map_err(|why| Error::Connection(format!("health check failed: {why}")))?;
            info!("connector {id}: health check passed with {status}");
        }
        let (buffers, turns) = (Buffers::default(), Turns::default());
        Ok(Self { id, config, buffers, delivery, counters, turns, dead_letters, executor, closing })
    }

    /// The endpoint, as it may be shown.
    pub(crate) fn label(&self) -> &str {
        self.delivery.label()
    }

    /// The patience for messages that were accepted so long ago.
    pub(crate) fn patience(&self, ago: Duration) -> Patience {
        let left = self.config.retry.max_duration.saturating_sub(ago);
        Patience::from_now(left, self.closing.requests.clone())
    }

    /// Whether close has begun, or nobody is left to begin it.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.requests.borrow().is_some() || self.closing.requests.has_changed().is_err()
    }

    /// Returns when close begins.
    pub(crate) async fn closing(&self) {
        // An error means that nobody is left to begin it, which is as much.
        let _ = self.closing.requests.clone().wait_for(Option::is_some).await;
    }

    /// Settles a batch that does not even begin its way.
    pub(crate) async fn give_up(
        &self,
        batch: &Batch<'_>,
        failure: Failure,
        dead_letters: Option<&DeadLetters>,
    ) -> Account {
        let mut ledger = Ledger::of(batch, dead_letters, self.delivery.label(), None);
        let all = (0..batch.messages.len()).collect();
        ledger.settle(vec![(all, Outcome::Failed(failure))], &self.executor).await;
        ledger.close(&self.executor).await
    }

    /// Plans, encodes and delivers a batch, and settles each message as soon as its outcome is known.
    pub(crate) async fn account(
        &self,
        batch: &Batch<'_>,
        patience: Patience,
        dead_letters: Option<&DeadLetters>,
        progress: Option<&dyn Progress>,
    ) -> Account {
        let unordered = self.config.ordering == Ordering::None;
        let _turn = if unordered { None } else { Some(self.turns.take(batch).await) };
        let mut ledger = Ledger::of(batch, dead_letters, self.delivery.label(), progress);

        // Each lane is encoded here and delivered on the connector's thread. Without an order more may be under way
        // than there are slots: those that wait for a retry hold none, and must not hold the others up.
        let under_way = if unordered {
            let spare = if self.config.body.mode.batches() { 4 } else { 64 };
            (self.config.concurrency.max().get() * 2).max(spare)
        } else {
            1
        };
        let origin = match self.config.ordering {
            Ordering::Partition => Some(Origin::of_partition(batch.stream, batch.topic, batch.partition_id)),
            Ordering::Key(_) | Ordering::None => None,
        };
        let settled = |message| progress.is_some_and(|progress| progress.is_settled(message));
        let (decided, mut decisions) = mpsc::channel(64);
        let mut lanes: FuturesUnordered<_> = plan::lanes(batch, &self.config, settled)
            .into_iter()
            .map(|lane| {
                let (bodies, queued) = mpsc::channel(1);
                let patience = patience.clone();
                let held = progress.map(|_| UNWRITTEN);
                let origin = origin.or_else(|| (!unordered).then(Origin::unique));
                let work = work(
                    self.delivery.clone(),
                    queued,
                    origin,
                    patience.clone(),
                    under_way,
                    held,
                    decided.clone(),
                );
                let working = self.executor.spawn(work);
                async move {
                    let lane = Bodies::of(batch, lane, &self.config.body, &self.buffers);
                    let refused = self.encode(lane, bodies, &patience).await;
                    (refused, working.await)
                }
            })
            .collect();
        drop(decided);
        loop {
            tokio::select! {
                Some(first) = decisions.recv() => {
                    // What else is known by now is settled with it: dead letters share one sync to disk.
                    let mut known: Vec<Decision> = vec![first];
                    while let Ok(more) = decisions.try_recv() {
                        known.push(more);
                    }
                    let settled = known.iter_mut().flat_map(|decision| std::mem::take(&mut decision.settled));
                    ledger.settle(settled.collect(), &self.executor).await;
                    // Dropping them tells the lanes that they can go on.
                    drop(known);
                }
                Some((refused, worked)) = lanes.next() => {
                    let refused = refused.into_iter().map(|(message, refusal)| {
                        (vec![message], Outcome::Failed(Failure::from(refusal)))
                    });
                    ledger.settle(refused.collect(), &self.executor).await;
                    if let Err(why) = worked {
                        // The ledger knows the messages that have no outcome now.
                        error!("connector {}: delivery stopped: {why}", self.id);
                    }
                }
                else => break,
            }
        }
        ledger.close(&self.executor).await
    }

    /// Encodes a lane as fast as its bodies are taken, one large body or many small ones ahead. Returns the messages that
    /// are in none.
    async fn encode(
        &self,
        mut lane: Bodies<'_>,
        sets: mpsc::Sender<Vec<Body>>,
        patience: &Patience,
    ) -> Vec<(usize, Refusal)> {
        let mut refused = Vec::new();
        let mut most = 1;
        // When nobody takes bodies any more, delivery is gone, and the ledger counts what it left.
        while let Ok(place) = sets.reserve().await {
            if patience.stops() {
                // What is kept is encoded again, and these with it, so that bodies come out the same.
                return Vec::new();
            }
            // Waking the other thread costs more than a small body does, so they go over in sets; but the first goes at once.
            let mut set = Vec::with_capacity(most);
            let mut bytes = 0;
            while set.len() < most && bytes < LARGEST_SET {
                match lane.next_within(self.delivery.body_limit()) {
                    Some(Encoded::Body(body)) => {
                        bytes += body.bytes.len();
                        set.push(body);
                    }
                    Some(Encoded::Refused(message, refusal)) => refused.push((message, refusal)),
                    None if set.is_empty() => return refused,
                    None => break,
                }
            }
            place.send(set);
            most = (most * 2).min(MOST_IN_SET);
        }
        refused
    }
}

/// Outcomes that are known, and a lane that waits until they are settled.
#[derive(Debug)]
struct Decision {
    settled: Vec<Settled>,
    /// Dropped when they are settled.
    _waiting: oneshot::Sender<()>,
}

/// Delivers the bodies of a lane, so many at once, whatever becomes of those before. In order, a failed
/// one is settled before the next begins; delivered ones by the end, or within `held`.
async fn work(
    delivery: Arc<Delivery>,
    mut sets: mpsc::Receiver<Vec<Body>>,
    origin: Option<Origin>,
    patience: Patience,
    at_once: usize,
    held: Option<Duration>,
    decided: mpsc::Sender<Decision>,
) {
    let mut under_way = FuturesUnordered::new();
    let mut due = pin!(tokio::time::sleep(Duration::ZERO));
    let mut delivered: Vec<Settled> = Vec::new();
    let mut bodies = Vec::new().into_iter();
    loop {
        under_way.extend(bodies.by_ref().take(at_once - under_way.len()).map(|body| {
            // Without an order each body stands for itself.
            delivery.deliver(body, origin.unwrap_or_else(Origin::unique), &patience)
        }));
        tokio::select! {
            Some(set) = sets.recv(), if under_way.len() < at_once => bodies = set.into_iter(),
            Some(outcomes) = under_way.next() => {
                let bad = outcomes.iter().any(|(_, outcome)| *outcome != Outcome::Delivered);
                if let Some(held) = held.filter(|_| delivered.is_empty()) {
                    due.as_mut().reset(Instant::now() + held);
                }
                delivered.extend(outcomes);
                if bad {
                    let settled = decide(&decided, std::mem::take(&mut delivered)).await;
                    if at_once == 1 {
                        // It ends when the other end is dropped.
                        let _ = settled.await;
                    }
                }
            }
            () = &mut due, if held.is_some() && !delivered.is_empty() && !under_way.is_empty() => {
                drop(decide(&decided, std::mem::take(&mut delivered)).await);
            }
            else => break,
        }
    }
    decide(&decided, delivered).await;
}

/// Hands outcomes over to be settled; what is returned ends when they are.
async fn decide(decided: &mpsc::Sender<Decision>, settled: Vec<Settled>) -> oneshot::Receiver<()> {
    let (waiting, ended) = oneshot::channel();
    // When nobody settles any more, the call is over, and nothing is left to be told.
    let _ = decided.send(Decision { settled, _waiting: waiting }).await;
    ended
}
