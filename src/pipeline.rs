//! The whole way of a batch, once it is to be delivered.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use iggy_connector_sdk::Error;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    batch::Batch,
    config::{Config, Ordering},
    deliver::{Delivery, Origin, Patience, RetryState},
    encode::{Bodies, Buffers, Encoded},
    executor::Executor,
    lane::{Decision, Item, LaneSender},
    observe, plan,
    settle::{Account, DeadLetters, Failure, Ledger, Outcome, Progress},
    telemetry::Counters,
    turns::Turns,
    world::World,
};

/// How many bodies are handed over to be delivered at once, as long as they are small: in bytes, no more than that by
/// more than one body.
const MOST_IN_SET: usize = 32;
const LARGEST_SET: usize = 64 * 1024;

/// How long a delivered message of a batch that is kept may not be written down as such: a crash sends it again. What is
/// delivered in that time is written down together.
const UNWRITTEN: Duration = Duration::from_millis(5);

/// How long the health check may take where requests have hours.
const LONGEST_HEALTH_CHECK: Duration = Duration::from_mins(5);

/// Everything between open and close that a batch passes on its way to the endpoint.
#[derive(Debug)]
pub(crate) struct Pipeline {
    id: u32,
    pub(crate) config: Config,
    buffers: Buffers,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) counters: Arc<Counters>,
    turns: Turns,
    pub(crate) dead_letters: Option<DeadLetters>,
    executor: Executor,
    closing: Closing,
    pub(crate) world: World,
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
    pub(crate) async fn open(id: u32, config: Config, closing: Closing, world: World) -> Result<Self, Error> {
        for warning in &config.warnings {
            warn!("connector {id}: {warning}");
        }
        let is_observed = (config.status.is_some() || observe::is_on()) && world.is_real();
        let counters = Arc::new(if is_observed { Counters::observed() } else { Counters::default() });
        let delivery = Arc::new(Delivery::new(&config, counters.clone(), &world).map_err(Error::InitError)?);
        let dead_letters = match &config.dead_letter {
            None => None,
            Some(letters) => Some(
                DeadLetters::open(letters, &config, closing.dead_letters.clone(), &world)
                    .map_err(Error::InitError)?,
            ),
        };
        let executor = Executor::start(format!("http-sink-{id}"), &world)
            .map_err(|why| Error::InitError(format!("no thread can be started: {why}")))?;
        if let Some(check) = config.health_check {
            let checked = delivery.clone();
            // Those of requests can be hours where a spool keeps the messages; open must not take so long.
            let longest = if config.spool.is_some() { LONGEST_HEALTH_CHECK } else { Duration::MAX };
            let patience =
                Patience::from_now(config.retry.max_duration.min(longest), closing.requests.clone());
            let outcome = executor
                .spawn(async move { checked.health_check(check.method, patience).await })
                .await
                .map_err(|why| Error::InitError(format!("the health check stopped: {why}")))?;
            match outcome {
                Ok(status) => info!("connector {id}: health check passed with {status}"),
                Err(why) if check.required => {
                    return Err(Error::Connection(format!("health check failed: {why}")));
                }
                Err(why) => warn!("connector {id}: health check failed, and is not required: {why}"),
            }
        }
        let (buffers, turns) = (Buffers::default(), Turns::default());
        Ok(Self { id, config, buffers, delivery, counters, turns, dead_letters, executor, closing, world })
    }

    /// The endpoint, as it may be shown.
    pub(crate) fn label(&self) -> &str {
        self.delivery.label()
    }

    /// Changes whenever the breaker has closed.
    pub(crate) fn breaker_closed(&self) -> watch::Receiver<u64> {
        self.delivery.breaker_closed()
    }

    /// Changes whenever an operator asks to retry now.
    pub(crate) fn retries_now(&self) -> watch::Receiver<u64> {
        self.delivery.retries_now()
    }

    /// Returns when nothing is sent any more of what nobody waits for.
    pub(crate) async fn all_stopped(&self) {
        self.executor.all_stopped().await;
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
        // What is kept is taken from there in its order.
        let _turn = if unordered || progress.is_some() { None } else { Some(self.turns.take(batch).await) };
        let mut ledger = Ledger::of(batch, dead_letters, self.delivery.label(), progress);
        let origin = match self.config.ordering {
            Ordering::Partition => Some(Origin::of_partition(batch.stream, batch.topic, batch.partition_id)),
            Ordering::Key(_) | Ordering::None => None,
        };
        let (decided, mut decisions) = mpsc::channel(64);
        // Each lane is encoded here and delivered on the connector's thread.
        let mut lanes: FuturesUnordered<_> = plan::lanes(batch, &self.config, progress)
            .into_iter()
            .map(|lane| {
                let (bodies, queued) = mpsc::channel(1);
                let sender = LaneSender {
                    delivery: self.delivery.clone(),
                    origin: origin.or_else(|| (!unordered).then(Origin::unique)),
                    patience: patience.clone(),
                    at_once: if unordered { self.at_once() } else { 1 },
                    held: progress.map(|_| UNWRITTEN),
                    decided: decided.clone(),
                };
                let sending = self.executor.spawn(sender.run(queued));
                let patience = patience.clone();
                async move {
                    let lane = Bodies::of(batch, lane, &self.config.body, &self.buffers);
                    let held_back = self.encode(lane, bodies, &patience, progress).await;
                    (sending.await, held_back)
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
                    if let Some(progress) = progress {
                        for decision in known.iter().filter(|decision| !decision.sending.is_empty()) {
                            progress.sending(&decision.sending);
                        }
                    }
                    let settled = known.iter_mut().flat_map(|decision| std::mem::take(&mut decision.settled));
                    let all = ledger.settle(settled.collect(), &self.executor).await;
                    for decision in known {
                        // A lane that does not wait for it is told nothing.
                        let _ = decision.all_settled.send(all);
                    }
                }
                Some((sent, held_back)) = lanes.next() => {
                    ledger.hold_back(held_back);
                    if let Err(why) = sent {
                        // The ledger knows the messages that have no outcome now.
                        error!("connector {}: delivery stopped: {why}", self.id);
                    }
                }
                else => break,
            }
        }
        ledger.close(&self.executor).await
    }

    /// How many bodies of a batch are under way at once where there is no order: more than there are slots, since those
    /// that wait for a retry hold none, and must not hold the others up.
    fn at_once(&self) -> usize {
        let spare = if self.config.body.mode.batches() { 4 } else { 64 };
        (self.config.concurrency.max().get() * 2).max(spare)
    }

    /// The most bytes that a body should have now.
    pub(crate) fn body_limit(&self) -> usize {
        self.delivery.body_limit().min(self.config.body.max_bytes)
    }

    /// Encodes a lane as fast as its bodies are taken, one large body or many small ones ahead. Returns the messages of a last
    /// body that is not full, where more may wait behind it.
    async fn encode(
        &self,
        mut lane: Bodies<'_>,
        sets: mpsc::Sender<Vec<Item>>,
        patience: &Patience,
        progress: Option<&dyn Progress>,
    ) -> Vec<usize> {
        let holds_back = progress.is_some_and(Progress::holds_back);
        let (mut most, mut first) = (1, true);
        // When nobody takes bodies any more, delivery is gone, and the ledger counts what it left.
        while let Ok(place) = sets.reserve().await {
            if patience.stops() {
                // What is kept is encoded again, and what was refused with it, so that bodies come out the same.
                return Vec::new();
            }
            // Waking the other thread costs more than a small body does, so they go over in sets; but the first goes at once.
            let mut set = Vec::with_capacity(most);
            let (mut bytes, mut held_back) = (0, Vec::new());
            while set.len() < most && bytes < LARGEST_SET {
                match lane.next_within(self.delivery.body_limit()) {
                    // With nothing before it, it goes as it is: something has to.
                    Some(Encoded::Body(body)) if holds_back && !first && lane.has_room_behind(&body) => {
                        held_back = body.messages().collect();
                        break;
                    }
                    Some(Encoded::Body(body)) => {
                        bytes += body.bytes.len();
                        let retry = match (progress, body.messages().next()) {
                            (Some(progress), Some(first)) => progress.retry(first),
                            _ => RetryState::default(),
                        };
                        set.push(Item::Body(body, retry));
                    }
                    Some(Encoded::Refused(message, refusal)) => set.push(Item::Refused(message, refusal)),
                    None => break,
                }
                first = false;
            }
            if set.is_empty() {
                return held_back;
            }
            if let Some(progress) = progress.filter(|_| self.config.body.mode.batches()) {
                let bodies: Vec<Vec<usize>> = set
                    .iter()
                    .filter_map(|item| match item {
                        Item::Body(body, _) => Some(body.messages().collect()),
                        Item::Refused(..) => None,
                    })
                    .collect();
                progress.sending(&bodies);
            }
            place.send(set);
            if !held_back.is_empty() {
                return held_back;
            }
            most = (most * 2).min(MOST_IN_SET);
        }
        Vec::new()
    }
}
