//! The path of a batch from planning to settlement.

use std::{
    iter, mem,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use iggy_connector_sdk::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinError,
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    batch::Batch,
    config::{ClientConfig, Config, Ordering, TracingConfig},
    deliver::{self, Deadline, Origin, Outcome, Settled},
    encode::{Bodies, Buffers},
    executor::{Executor, Task},
    failure::Failure,
    keyed_lock::KeyedLock,
    lane::{Decision, LaneSender},
    otlp::{self, Exporter, Tracer},
    plan::{self, Stored},
    route::{Route, Routes},
    settle::{Account, DeadLetters, Ledger, Progress, Tally},
    telemetry::Counters,
    world::World,
};

/// How long the delivery of a stored message may stay unrecorded: after a crash in that time it is sent again. Deliveries
/// within that time are recorded together.
const UNWRITTEN: Duration = Duration::from_millis(5);

/// How long a collector has to accept spans.
const SPANS_WITHIN: Duration = Duration::from_secs(10);

/// How long the health check may take if requests have hours.
const LONGEST_HEALTH_CHECK: Duration = Duration::from_mins(5);

/// The part of `close_timeout` that is reserved for settling aborted requests, and its maximum.
const SETTLING: (u32, Duration) = (4, Duration::from_secs(1));

/// Returns how much of `close_timeout` requests have; the rest is for settling those that were aborted.
pub(crate) fn time_for_requests(close_timeout: Duration) -> Duration {
    close_timeout.saturating_sub((close_timeout / SETTLING.0).min(SETTLING.1))
}

/// Everything that a batch passes between open and close.
#[derive(Debug)]
pub(crate) struct Pipeline {
    id: u32,
    pub(crate) config: Config,
    buffers: Buffers,
    routes: Routes,
    pub(crate) counters: Arc<Counters>,
    partitions: KeyedLock,
    pub(crate) dead_letters: Option<DeadLetters>,
    /// Names the messages that were not delivered.
    pub(crate) tally: Arc<Tally>,
    _logging: Task<()>,
    /// Accepts spans of attempts.
    pub(crate) tracer: Option<Arc<Tracer>>,
    _exporting: Option<Task<()>>,
    executor: Executor,
    closing: Closing,
    pub(crate) world: World,
}

/// The outcomes of a batch that are known, but not settled yet.
#[derive(Default)]
struct Known {
    decisions: Vec<Decision>,
    ended: Vec<EndedLane>,
}

/// A lane that sends nothing more.
struct EndedLane {
    /// The last outcomes; an error if sending stopped.
    sent: Result<Vec<Settled>, JoinError>,
    /// The messages of a body that was not sent, since more may fill it.
    held_back: Vec<usize>,
}

/// Set once close begins.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    /// When requests in flight are aborted.
    pub(crate) requests: watch::Receiver<Option<Instant>>,
    /// When dead letters in flight are aborted.
    pub(crate) dead_letters: watch::Receiver<Option<Instant>>,
}

impl Pipeline {
    /// Opens it, with metrics if it `is_observed` or has a status page.
    ///
    /// # Errors
    /// Something that the configuration names is missing or cannot be used.
    pub(crate) async fn open(
        id: u32,
        config: Config,
        closing: Closing,
        world: World,
        is_observed: bool,
    ) -> Result<Self, Error> {
        for warning in &config.warnings {
            warn!("connector {id}: {warning}");
        }
        let is_observed = (config.status.is_some() || is_observed) && world.is_real();
        let counters = Arc::new(if is_observed { Counters::observed() } else { Counters::default() });
        let (tracer, exporter) = tracer(&config, &world).map_err(Error::InitError)?.unzip();
        let tracer = tracer.map(Arc::new);
        let routes = Routes::open(&config, &counters, tracer.as_ref(), &world).map_err(Error::InitError)?;
        let dead_letters = match &config.dead_letter {
            None => None,
            Some(letters) => Some(
                DeadLetters::open(letters, &config, closing.dead_letters.clone(), &world)
                    .map_err(Error::InitError)?,
            ),
        };
        let executor = Executor::start(format!("http-sink-{id}"), &world)
            .map_err(|why| Error::InitError(format!("no thread can be started: {why}")))?;
        let exporting = exporter.map(|exporter| executor.spawn(exporter.run()));
        let is_kept = config.spool.is_some();
        for route in routes.all() {
            check_health(id, route, is_kept, &executor, &closing).await?;
        }
        let (buffers, partitions, tally) =
            (Buffers::default(), KeyedLock::default(), Arc::<Tally>::default());
        let watched = tally.clone();
        let logging = executor.spawn(async move { watched.watch().await });
        Ok(Self {
            id,
            config,
            buffers,
            routes,
            counters,
            partitions,
            dead_letters,
            tally,
            _logging: logging,
            tracer,
            _exporting: exporting,
            executor,
            closing,
            world,
        })
    }

    /// Where messages go.
    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Returns what applies to the messages of a topic; if they have no route, the connector's configuration.
    pub(crate) fn terms(&self, stream: &str, topic: &str) -> &Config {
        self.routes.of(stream, topic).map_or(&self.config, |route| &route.config)
    }

    /// Returns when requests that nobody waits for any more have stopped.
    pub(crate) async fn all_stopped(&self) {
        self.executor.all_stopped().await;
    }

    /// The deadline for messages of a topic that were accepted `ago`.
    pub(crate) fn deadline(&self, stream: &str, topic: &str, ago: Duration) -> Deadline {
        let terms = self.terms(stream, topic);
        let left = terms.retry.max_duration.saturating_sub(ago);
        let ahead =
            time_for_requests(self.close_timeout()).saturating_sub(time_for_requests(terms.close_timeout));
        Deadline::from_now(left, self.closing.requests.clone()).closed_ahead(ahead)
    }

    /// How long close may take: as long as the route with the most time.
    pub(crate) fn close_timeout(&self) -> Duration {
        let of_routes = self.config.routes.iter().map(|route| route.config.close_timeout);
        of_routes.fold(self.config.close_timeout, Duration::max)
    }

    /// Whether close has begun, or nobody is left to begin it.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.requests.borrow().is_some() || self.closing.requests.has_changed().is_err()
    }

    /// Returns when close begins.
    pub(crate) async fn closing(&self) {
        // An error means that the sink is gone, which has the same effect.
        let _ = self.closing.requests.clone().wait_for(Option::is_some).await;
    }

    /// Settles a batch that is not delivered at all, or the rest of one.
    pub(crate) async fn give_up(
        &self,
        batch: &Batch<'_>,
        failure: Failure,
        dead_letters: Option<&DeadLetters>,
        progress: Option<&dyn Progress>,
    ) -> Account {
        let label = self.routes.of(batch.stream, batch.topic).map_or("", |route| route.delivery.label());
        let mut ledger = Ledger::of(batch, dead_letters, &self.tally, label, progress);
        let is_open = |message: &usize| progress.is_none_or(|progress| progress.state(*message).is_open());
        let left = (0..batch.messages.len()).filter(is_open).collect();
        ledger.settle(vec![(left, Outcome::Failed(failure))], &self.executor).await;
        ledger.close(&self.executor).await
    }

    /// Plans, encodes and delivers a batch, and settles each message as soon as its outcome is known.
    pub(crate) async fn account(
        &self,
        batch: &Batch<'_>,
        deadline: Deadline,
        dead_letters: Option<&DeadLetters>,
        progress: Option<&dyn Progress>,
    ) -> Account {
        let Some(route) = self.routes.of(batch.stream, batch.topic) else {
            return self.give_up(batch, Failure::no_route(), dead_letters, progress).await;
        };
        let config = &route.config;
        let unordered = config.ordering == Ordering::None;
        let partition = Origin::of_partition(batch.stream, batch.topic, batch.partition_id);
        // Messages from a spool are already taken in order.
        let _guard =
            if unordered || progress.is_some() { None } else { Some(self.partitions.lock(partition).await) };
        let mut ledger = Ledger::of(batch, dead_letters, &self.tally, route.delivery.label(), progress);
        let origin = match config.ordering {
            Ordering::Partition => Some(partition),
            Ordering::Key(_) | Ordering::None => None,
        };
        let (decided, mut decisions) = mpsc::channel(64);
        // Each lane is encoded here and delivered on the connector's thread.
        let mut lanes: FuturesUnordered<_> =
            plan::lanes(batch, config, progress.map(|progress| progress as &dyn Stored))
                .into_iter()
                .map(|lane| {
                    let sender = LaneSender {
                        delivery: route.delivery.clone(),
                        origin: origin.or_else(|| (!unordered).then(Origin::unique)),
                        deadline: deadline.clone(),
                        at_once: if unordered { route.at_once() } else { 1 },
                        failed_before: AtomicUsize::new(0),
                        held: progress.map(|_| UNWRITTEN),
                        decided: decided.clone(),
                    };
                    let lane = Bodies::of(batch, lane, &config.body, &self.buffers)
                        .with_links(self.tracer.is_some());
                    self.run_lane(route, lane, sender, progress)
                })
                .collect();
        loop {
            let mut known = Known::default();
            tokio::select! {
                // `decided` is kept alive: otherwise, dropping the last sender would wake this once more, in addition to the
                // end of its lane.
                Some(decision) = decisions.recv() => known.decisions.push(decision),
                ended = lanes.next() => match ended {
                    Some(ended) => known.ended.push(ended),
                    // All decisions of a lane are known by its end.
                    None => break,
                },
            }
            // Everything else that is known by now is settled with it: dead letters share one sync.
            known.decisions.extend(iter::from_fn(|| decisions.try_recv().ok()));
            known.ended.extend(iter::from_fn(|| lanes.next().now_or_never().flatten()));
            self.settle(known, &mut ledger, progress).await;
        }
        ledger.close(&self.executor).await
    }

    /// Encodes a lane here, and has it sent on the connector's thread.
    async fn run_lane(
        &self,
        route: &Route,
        lane: Bodies<'_>,
        sender: LaneSender,
        progress: Option<&dyn Progress>,
    ) -> EndedLane {
        let deadline = sender.deadline.clone();
        let mut sets = route.sets(lane, &deadline, progress);
        // Waking the other thread costs more than a small body does: it is woken when the first one is ready, and not again
        // if that is the only one. A processor that has been idle for long wakes slowly, so before a large body, which takes
        // long to encode, it is woken at once.
        let first = if sets.begins_large() { None } else { sets.next() };
        let sending = if sets.is_done() {
            self.executor.spawn(sender.run(first.unwrap_or_default(), None))
        } else {
            let (more, queued) = mpsc::channel(1);
            let sending = self.executor.spawn(sender.run(first.unwrap_or_default(), Some(queued)));
            // If nobody receives bodies any more, delivery has ended, and the ledger counts what is left.
            while !sets.is_done()
                && let Ok(permit) = more.reserve().await
                && let Some(set) = sets.next()
            {
                permit.send(set);
            }
            sending
        };
        EndedLane { sent: sending.await, held_back: sets.into_held_back() }
    }

    /// Settles the known outcomes of a batch.
    async fn settle(&self, mut known: Known, ledger: &mut Ledger<'_>, progress: Option<&dyn Progress>) {
        if let Some(progress) = progress {
            for decision in known.decisions.iter().filter(|decision| !decision.sending.is_empty()) {
                progress.sending(&decision.sending);
            }
        }
        let mut settled: Vec<Settled> =
            known.decisions.iter_mut().flat_map(|decision| mem::take(&mut decision.settled)).collect();
        for EndedLane { sent, held_back } in known.ended {
            ledger.hold_back(held_back);
            match sent {
                Ok(last) => settled.extend(last),
                // The ledger knows the messages that have no outcome now.
                Err(why) => error!("connector {}: delivery stopped: {why}", self.id),
            }
        }
        let all = ledger.settle(settled, &self.executor).await;
        for decision in known.decisions {
            // A lane that does not wait for it has dropped the receiver.
            let _ = decision.all_settled.send(all);
        }
    }
}

/// Creates the tracer and the exporter for spans of attempts, if there is an endpoint for them.
///
/// # Errors
/// The environment names an invalid endpoint, or the client cannot be built.
fn tracer(config: &Config, world: &World) -> Result<Option<(Tracer, Exporter)>, String> {
    if !world.is_real() {
        return Ok(None);
    }
    let tracing = match &config.tracing {
        Some(tracing) => Some(tracing.clone()),
        None => TracingConfig::of_environment()?,
    };
    let Some(TracingConfig { url }) = tracing else { return Ok(None) };
    let client = ClientConfig { timeout: SPANS_WITHIN, ..config.client.clone() };
    let transport =
        deliver::transport_of_spans(&client, &url).map_err(|why| format!("tracing.otlp_endpoint: {why}"))?;
    Ok(Some(otlp::to(url, transport, world)))
}

/// Makes the health check of a route, if it is configured.
async fn check_health(
    id: u32,
    route: &Route,
    is_kept: bool,
    executor: &Executor,
    closing: &Closing,
) -> Result<(), Error> {
    let Some(check) = route.config.health_check else { return Ok(()) };
    let checked = route.delivery.clone();
    // With a spool, the deadline of requests can be hours; open must not take that long.
    let longest = if is_kept { LONGEST_HEALTH_CHECK } else { Duration::MAX };
    let deadline = Deadline::from_now(route.config.retry.max_duration.min(longest), closing.requests.clone());
    let outcome = executor
        .spawn(async move { checked.health_check(check.method, deadline).await })
        .await
        .map_err(|why| Error::InitError(format!("the health check stopped: {why}")))?;
    match outcome {
        Ok(status) => info!("connector {id}: health check passed with {status}"),
        Err(why) if check.required => return Err(Error::Connection(format!("health check failed: {why}"))),
        Err(why) => warn!("connector {id}: health check failed, and is not required: {why}"),
    }
    Ok(())
}
