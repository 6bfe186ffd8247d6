//! A run: the sink is opened, fed and ended as often as the scenario says.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use iggy_connector_http_sink::{HttpSink, world::World};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, Sink, TopicMetadata};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    disk::{Disk, Left},
    history::{Call, History, Letter, letters},
    log::Log,
    model::{Batch, topic_name},
    random::Random,
    scenario::{End, Life, Scenario},
    secrets::Token,
    world::{Clock, SimulatedWorld},
};

/// What a close may take beyond `close_timeout`.
const SLACK: Duration = Duration::from_millis(50);
/// What the last life may take beyond `max_retry_duration`.
const PATIENCE: Duration = Duration::from_hours(2);

#[derive(Debug)]
pub(super) struct Run {
    pub(super) scenario: Arc<Scenario>,
    pub(super) history: Arc<Mutex<History>>,
    /// By topic, the batch that consume gets next.
    positions: Arc<Mutex<Vec<usize>>>,
    random: Arc<Mutex<Random>>,
    disk: Disk,
    base: Duration,
    clock: Arc<Mutex<Option<Clock>>>,
    token: Option<Token>,
}

/// What the feeders of a life share.
#[derive(Debug, Clone)]
struct Feed {
    scenario: Arc<Scenario>,
    history: Arc<Mutex<History>>,
    positions: Arc<Mutex<Vec<usize>>>,
    random: Arc<Mutex<Random>>,
    disk: Disk,
    clock: Clock,
    closing: watch::Sender<bool>,
}

impl Run {
    pub(super) fn of(scenario: Scenario) -> Self {
        let topics = scenario.batches.len();
        Self {
            random: Arc::new(Mutex::new(Random(scenario.seed ^ 0x5eed))),
            token: Token::of(&scenario),
            scenario: Arc::new(scenario),
            history: Arc::default(),
            positions: Arc::new(Mutex::new(vec![0; topics])),
            disk: Disk::default(),
            base: Duration::ZERO,
            clock: Arc::default(),
        }
    }

    /// Runs the whole scenario.
    pub(super) fn run(&mut self) {
        let log = Log { history: self.history.clone(), clock: self.clock.clone() };
        tracing::subscriber::with_default(log, || {
            for number in 0..self.scenario.lives.len() {
                self.live(number);
            }
        });
    }

    /// The dead letters on disk.
    pub(super) fn letters(&self) -> Vec<Letter> {
        on_disk(&self.disk)
    }

    fn live(&mut self, number: usize) {
        let scenario = self.scenario.clone();
        let life = &scenario.lives[number];
        {
            let mut history = self.history.lock().unwrap();
            (history.life, history.over) = (number, false);
        }
        if let Some((operation, fault)) = life.fault {
            self.disk.fail_at(operation, fault);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let lived = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let clock = Clock { base: self.base, begun: Instant::now() };
                *self.clock.lock().unwrap() = Some(clock);
                let ended = self.begin(life, clock).await;
                self.history.lock().unwrap().over = true;
                *self.clock.lock().unwrap() = None;
                self.base = clock.now() + Duration::from_secs(1);
                ended
            })
        }));
        let ended = lived.unwrap_or_else(|panic| {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
            self.history.lock().unwrap().violations.push(format!("a panic: {why:?}"));
            End::Crash(Left::All)
        });
        // The end of the process.
        drop(runtime);
        self.history.lock().unwrap().life_ends.push(self.base);
        if matches!(ended, End::Crash(Left::Nothing | Left::Some(_))) {
            self.history.lock().unwrap().power_cuts.push(self.base);
        }
        self.disk = self.disk.after(match ended {
            End::Close => Left::All,
            End::Crash(left) => left,
        });
    }

    /// Opens the sink, feeds it, and ends it.
    async fn begin(&self, life: &Life, clock: Clock) -> End {
        let crashed = Arc::new(Notify::new());
        self.disk.on_crash(crashed.clone());
        let crash = match life.ends {
            End::Crash(left) => left,
            End::Close => Left::All,
        };
        let mut feeders = JoinSet::new();
        if let Some((from, to)) = life.full {
            let disk = self.disk.clone();
            // Of no life but this one: the runtime ends with it.
            tokio::spawn(async move {
                sleep(from).await;
                disk.is_full(true);
                sleep(to.saturating_sub(from)).await;
                disk.is_full(false);
            });
        }
        if let Some(token) = &self.token {
            token.rotate(&self.history, clock);
        }
        let feed = self.feed(clock);
        let lived = tokio::select! {
            biased;
            () = crashed.notified() => None,
            ended = self.live_on(life, &feed, &mut feeders) => ended,
        };
        let Some(sink) = lived.filter(|_| !self.disk.crashed()) else { return End::Crash(crash) };
        if life.lasts.is_some() && matches!(life.ends, End::Crash(_)) {
            return life.ends;
        }
        tokio::select! {
            biased;
            () = crashed.notified() => End::Crash(crash),
            () = self.close(sink, &feed, feeders) => End::Close,
        }
    }

    fn feed(&self, clock: Clock) -> Feed {
        Feed {
            scenario: self.scenario.clone(),
            history: self.history.clone(),
            positions: self.positions.clone(),
            random: self.random.clone(),
            disk: self.disk.clone(),
            clock,
            closing: watch::Sender::new(false),
        }
    }

    /// Opens the sink and feeds it as long as the life lasts. `None` where it cannot be opened.
    async fn live_on(&self, life: &Life, feed: &Feed, feeders: &mut JoinSet<()>) -> Option<Arc<HttpSink>> {
        let last = life.lasts.is_none();
        let mut sink = self.sink(feed.clock, last);
        if let Err(why) = sink.open().await {
            let is_faulty = life.fault.is_some() || life.full.is_some();
            if !is_faulty {
                self.violation(format!("open failed: {}", why.to_string().replace('\n', "; ")));
            }
            if !last {
                return None;
            }
            self.disk.heal();
            sleep(life.full.map_or(Duration::ZERO, |(_, to)| to)).await;
            sink = self.sink(feed.clock, last);
            if let Err(why) = sink.open().await {
                let why = why.to_string().replace('\n', "; ");
                self.violation(format!("open failed after the disk was well again: {why}"));
                return None;
            }
        }
        let sink = Arc::new(sink);
        for topic in 0..self.scenario.batches.len() {
            feeders.spawn(feed.clone().run(topic, sink.clone()));
        }
        match life.lasts {
            Some(lasts) => sleep(lasts).await,
            None => self.everything_ends(feed, feeders).await,
        }
        Some(sink)
    }

    fn sink(&self, clock: Clock, last: bool) -> HttpSink {
        let world = SimulatedWorld {
            scenario: self.scenario.clone(),
            history: self.history.clone(),
            random: self.random.clone(),
            disk: self.disk.clone(),
            clock,
        };
        let mut config = self.scenario.config.clone();
        if let Some(token) = &self.token {
            token.configure(&mut config);
        }
        if last
            && let Some(letters) = config.get_mut("dead_letter").filter(|table| table.get("path").is_some())
        {
            // Somebody makes room for them in the end.
            letters["max_bytes"] = json!("1 GiB");
        }
        HttpSink::in_world(1, config.into(), World::simulated(world))
    }

    fn violation(&self, what: String) {
        self.history.lock().unwrap().violations.push(what);
    }

    /// Waits until each message has its end.
    async fn everything_ends(&self, feed: &Feed, feeders: &mut JoinSet<()>) {
        let patience = self.scenario.max_retry_duration() + PATIENCE;
        let all_ended = async {
            while let Some(fed) = feeders.join_next().await {
                fed.expect("feeders do not panic");
            }
            let mut pause = Duration::from_millis(100);
            loop {
                let mut ended = self.history.lock().unwrap().ended(&self.scenario.batches);
                ended.extend(on_disk(&self.disk).into_iter().map(|letter| letter.id));
                if self.scenario.messages().all(|message| ended.contains(&message.id)) {
                    return;
                }
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_mins(5));
            }
        };
        if timeout(patience, all_ended).await.is_err() {
            // The checks say what has none, and whether it may.
            feed.closing.send_replace(true);
        }
        // What must not come any more has time to come.
        sleep(Duration::from_mins(2)).await;
    }

    async fn close(&self, sink: Arc<HttpSink>, feed: &Feed, mut feeders: JoinSet<()>) {
        feed.closing.send_replace(true);
        let begun = Instant::now();
        let within = sink.begin_close();
        let all_return = async { while feeders.join_next().await.is_some() {} };
        if timeout(within + SLACK, all_return).await.is_err() {
            self.violation(format!("calls of consume were under way {within:?} after close began"));
            return;
        }
        let mut sink = Arc::try_unwrap(sink).expect("the feeders are gone");
        match timeout(within + SLACK, sink.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.violation(format!("close failed: {why}")),
            Err(_) => self.violation("close did not return".to_owned()),
        }
        if begun.elapsed() > within + SLACK {
            self.violation(format!("close took {:?}, and it has {within:?}", begun.elapsed()));
        }
    }
}

fn on_disk(disk: &Disk) -> Vec<Letter> {
    let files = disk.folder("letters/");
    let names = files.list().unwrap().into_iter().map(|(name, _)| name);
    let segments = names.filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "ndjson"));
    segments.flat_map(|name| letters(&disk.bytes(&format!("letters/{name}")))).collect()
}

impl Feed {
    /// Calls consume with one batch after the other, as the runtime does for each topic.
    async fn run(self, topic: usize, sink: Arc<HttpSink>) {
        loop {
            let next = self.positions.lock().unwrap()[topic];
            let Some(batch) = self.scenario.batches[topic].get(next) else { return };
            let mut closing = self.closing.subscribe();
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return,
                () = sleep(Duration::from_millis(batch.pause)) => {}
            }
            // What a call that did not return has stored is behind it.
            let last = self
                .history
                .lock()
                .unwrap()
                .calls
                .iter()
                .rfind(|call| call.topic == topic)
                .map(|call| call.batch);
            let may_repeat = next > 0 && last == Some(next - 1);
            if may_repeat && self.random.lock().unwrap().percent(self.scenario.repeats) {
                self.call(topic, next - 1, &sink).await;
                continue;
            }
            self.call(topic, next, &sink).await;
            if self.disk.crashed() {
                return;
            }
            let next = self.set_back(topic, next + 1);
            self.positions.lock().unwrap()[topic] = next;
        }
    }

    /// Where a topic goes on: further back, where somebody wants it again.
    fn set_back(&self, topic: usize, next: usize) -> usize {
        let mut history = self.history.lock().unwrap();
        let mut random = self.random.lock().unwrap();
        // What begins within the last batch is not told from a repeat.
        if !self.scenario.replays || !history.replayed.is_empty() || next < 3 || !random.percent(15) {
            return next;
        }
        let to = usize::try_from(random.between(0, next as u64 - 3)).unwrap();
        history.replayed.push((topic, to, next, self.clock.now()));
        to
    }

    async fn call(&self, topic: usize, batch: usize, sink: &HttpSink) {
        let number = {
            let mut history = self.history.lock().unwrap();
            let life = history.life;
            history.calls.push(Call { life, topic, batch, begun: self.clock.now(), ended: None });
            history.calls.len() - 1
        };
        let well = consume(sink, topic, &self.scenario.batches[topic][batch]).await;
        if !self.disk.crashed() {
            self.history.lock().unwrap().calls[number].ended = Some((self.clock.now(), well));
        }
    }
}

async fn consume(sink: &HttpSink, topic: usize, batch: &Batch) -> bool {
    let number = u8::try_from(topic).unwrap();
    let name = topic_name(number).to_string();
    let topic = TopicMetadata { stream: "s".to_owned(), topic: name };
    let last = batch.messages.last().unwrap().id.offset;
    let metadata = MessagesMetadata { partition_id: batch.label, current_offset: last, schema: Schema::Json };
    let message = |message: &'_ super::model::Message| {
        let id = message.id;
        u128::from(number) << 96 | u128::from(id.partition) << 64 | u128::from(id.offset)
    };
    let headers: Vec<Vec<u8>> = batch.messages.iter().map(super::model::Message::headers).collect();
    let messages: Vec<BorrowedMessage<'_>> = batch
        .messages
        .iter()
        .zip(&headers)
        .map(|(sent, headers)| BorrowedMessage {
            id: message(sent),
            offset: sent.id.offset,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers,
            payload: &sent.payload,
        })
        .collect();
    sink.consume_borrowed(&topic, metadata, &messages).await.is_ok()
}
