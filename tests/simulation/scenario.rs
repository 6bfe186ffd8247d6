//! What a seed decides: the configuration, what is sent, and what goes wrong when.

use std::{collections::BTreeMap, io::ErrorKind, time::Duration};

use serde_json::Value;

use super::{
    added,
    disk::{Fault, Left},
    model::{Batch, Id, Message, Nature, topic_name},
    random::Random,
    settings::config,
};

#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) config: Value,
    /// By topic.
    pub(super) batches: Vec<Vec<Batch>>,
    /// In how many of a hundred calls the last batch comes once more, unasked.
    pub(super) repeats: u64,
    /// Whether somebody sets the offsets back once.
    pub(super) replays: bool,
    pub(super) weather: Vec<Weather>,
    pub(super) natures: BTreeMap<Id, Nature>,
    /// The messages with a tenant.
    pub(super) tenants: BTreeMap<Id, String>,
    /// How many of a hundred requests fail by accident.
    pub(super) accidents: u64,
    /// What an answer takes, in milliseconds.
    pub(super) latency: (u64, u64),
    /// What is above it gets 413.
    pub(super) body_limit: Option<usize>,
    /// When the content of the file with the token changes; none where no header names one.
    pub(super) rotations: Vec<Duration>,
    /// The memory for what is on its way from the spool, where it is not what is shipped.
    pub(super) memory: Option<usize>,
    /// How long it takes until dead letters are on disk.
    pub(super) letters_take: Duration,
    pub(super) lives: Vec<Life>,
}

/// Tells the chance of what was added later from that of the rest, which stays as it was.
const SLOW_DISK: u64 = 0x5bd1_e995_7a3f_9d24;
const MORE: u64 = 0x6d6f_7265;
const ADDED: u64 = 0x6164_6465_645f;

/// What the endpoint does for a while, to every request.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) kind: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Refused,
    Unanswered,
    Reset,
    Status(u16),
    /// 429 or 503 with `Retry-After` in seconds.
    RetryAfter(u16, u64),
}

/// From an open to the end of the process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) ends: End,
    /// `None` for the last one: it goes on until everything has its end.
    pub(super) lasts: Option<Duration>,
    /// The operation of the disk that fails.
    pub(super) fault: Option<(u64, Fault)>,
    /// When no write finds space.
    pub(super) full: Option<(Duration, Duration)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Close,
    Crash(Left),
}

impl Scenario {
    pub(super) fn of(seed: u64) -> Self {
        let random = &mut Random(seed);
        let large = random.percent(8);
        let mut config = config(random, large);
        let spool = config.get("spool").is_some();
        let letters = config.get("dead_letter").is_some();
        let mut batches = batches(random, large);
        let more = &mut Random(seed ^ MORE);
        let rotations = rotations(more);
        added::add(&mut Random(seed ^ ADDED), &mut config, &mut batches, !rotations.is_empty());
        let fair = random.percent(50);
        let mut weather = Vec::new();
        if !fair {
            for _ in 0..random.between(0, 3) {
                let from = Duration::from_millis(random.between(0, 60_000));
                let lasts = if random.percent(20) { 300_000 } else { 20_000 };
                let to = from + Duration::from_millis(random.between(100, lasts));
                weather.push(Weather { from, to, kind: trouble(random) });
            }
        }
        let slow = random.percent(20);
        let replays = spool && random.percent(15);
        let messages = batches.iter().flatten().flat_map(|batch| &batch.messages);
        let natures = messages.clone().map(|message| (message.id, message.nature)).collect();
        let tenants = messages.filter_map(|message| Some((message.id, message.tenant.clone()?))).collect();
        Self {
            seed,
            rotations,
            letters_take: letters_take(&mut Random(seed ^ SLOW_DISK)),
            memory: (spool && more.percent(25)).then(|| usize::try_from(more.between(1, 20_000)).unwrap()),
            batches,
            natures,
            tenants,
            repeats: if spool && !replays && random.percent(30) { 10 } else { 0 },
            replays,
            weather,
            accidents: if !fair && random.percent(30) { random.between(1, 20) } else { 0 },
            latency: if slow { (50, 800) } else { (1, 20) },
            body_limit: random.percent(10).then(|| usize::try_from(random.between(600, 5_000)).unwrap()),
            lives: lives(random, spool || letters),
            config,
        }
    }

    /// Whether keys, and not partitions, are kept in order; `None` where nothing is.
    pub(super) fn ordered_by_key(&self) -> Option<bool> {
        match self.config.get("ordering").and_then(Value::as_str) {
            None | Some("partition") => Some(false),
            Some("key") => Some(true),
            _ => None,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.config.get(key).is_some()
    }

    /// A duration of the configuration.
    pub(super) fn duration(&self, key: &str, default: Duration) -> Duration {
        let text = self.config.get(key).and_then(Value::as_str);
        text.map_or(default, |text| humantime::parse_duration(text).unwrap())
    }

    /// Whether messages of a topic have somewhere to go.
    pub(super) fn has_route(&self, topic: u8) -> bool {
        let name = topic_name(topic).to_string();
        match self.config.get("routes").and_then(Value::as_array) {
            None => true,
            Some(routes) => routes.iter().any(|route| route["topic"] == *name),
        }
    }

    pub(super) fn max_retry_duration(&self) -> Duration {
        let default = if self.has("spool") { Duration::from_hours(12) } else { Duration::from_secs(300) };
        self.duration("max_retry_duration", default)
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.batches.iter().flatten().flat_map(|batch| &batch.messages)
    }

    pub(super) fn faults(&self) -> bool {
        self.lives.iter().any(|life| life.fault.is_some() || life.full.is_some())
    }

    pub(super) fn crashes(&self) -> bool {
        let crash =
            |life: &Life| matches!(life.ends, End::Crash(_)) || matches!(life.fault, Some((_, Fault::Crash)));
        self.lives.iter().any(crash)
    }
}

fn letters_take(random: &mut Random) -> Duration {
    Duration::from_millis(if random.percent(20) { random.between(50, 1_000) } else { 0 })
}

fn rotations(random: &mut Random) -> Vec<Duration> {
    if !random.percent(15) {
        return Vec::new();
    }
    let longest = if random.percent(50) { 5_000 } else { 120_000 };
    let mut times: Vec<Duration> =
        (0..random.between(1, 4)).map(|_| Duration::from_millis(random.between(1, longest))).collect();
    times.sort_unstable();
    times
}

fn trouble(random: &mut Random) -> Trouble {
    match random.between(0, 9) {
        0 | 1 => Trouble::Refused,
        2 => Trouble::Unanswered,
        3 => Trouble::Reset,
        4..=6 => Trouble::Status([500, 502, 503][usize::try_from(random.between(0, 2)).unwrap()]),
        7 => Trouble::Status(if random.percent(50) { 401 } else { 403 }),
        _ => Trouble::RetryAfter(if random.percent(70) { 429 } else { 503 }, random.between(0, 40)),
    }
}

fn batches(random: &mut Random, large: bool) -> Vec<Vec<Batch>> {
    let topics = random.between(1, 4);
    let partitions = random.between(1, 3);
    let mixed = random.percent(35);
    // This many of a hundred messages are trouble, in this many topics.
    let trouble = if random.percent(60) { random.between(1, 12) } else { 0 };
    let troubled = random.between(1, topics);
    let mut all = Vec::new();
    for topic in 0..u8::try_from(topics).unwrap() {
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        let mut of_topic = Vec::new();
        for _ in 0..random.between(1, 12) {
            let mut partition = u32::try_from(random.between(1, partitions)).unwrap();
            let mut messages = Vec::new();
            let count = if random.percent(10) { random.between(20, 60) } else { random.between(1, 8) };
            for _ in 0..count {
                if mixed && random.percent(15) {
                    partition = u32::try_from(random.between(1, partitions)).unwrap();
                }
                let offset = next.entry(partition).or_default();
                let id = Id { topic, partition, offset: *offset };
                *offset += 1;
                let is_trouble = u64::from(topic) < troubled && random.percent(trouble);
                let nature = if is_trouble { Nature::any(random) } else { Nature::Good };
                let size = if large { random.between(5_000, 60_000) } else { random.between(0, 200) };
                let key = u64::from(partition) * 10 + random.between(0, 3);
                messages.push(Message::new(id, key, nature, usize::try_from(size).unwrap()));
            }
            let pause = if random.percent(30) { random.between(0, 5_000) } else { random.between(0, 30) };
            let label = messages.last().unwrap().id.partition;
            of_topic.push(Batch { label, messages, pause });
        }
        all.push(of_topic);
    }
    all
}

fn lives(random: &mut Random, disk: bool) -> Vec<Life> {
    let mut lives = Vec::new();
    let more = if random.percent(50) { 0 } else { random.between(1, 3) };
    let faulty = disk && random.percent(40);
    for _ in 0..more {
        let ends = if random.percent(50) {
            End::Close
        } else {
            End::Crash(match random.between(0, 2) {
                0 => Left::All,
                1 => Left::Nothing,
                _ => Left::Some(random.between(0, u64::MAX - 1)),
            })
        };
        let longest = if random.percent(70) { 3_000 } else { 60_000 };
        let lasts = Some(Duration::from_millis(random.between(0, longest)));
        lives.push(Life { ends, lasts, fault: fault(random, faulty), full: full(random, faulty) });
    }
    // In the last one, the disk is well in the end.
    let fault = fault(random, faulty).filter(|(_, fault)| *fault != Fault::Crash);
    lives.push(Life { ends: End::Close, lasts: None, fault, full: full(random, faulty) });
    lives
}

fn fault(random: &mut Random, faulty: bool) -> Option<(u64, Fault)> {
    if !faulty || random.percent(40) {
        return None;
    }
    let kind = if random.percent(50) { ErrorKind::StorageFull } else { ErrorKind::Other };
    let fault = match random.between(0, 4) {
        0 => Fault::Once(kind),
        1 => Fault::Several(kind, random.between(2, 10)),
        2 => Fault::Torn,
        _ => Fault::Crash,
    };
    Some((random.between(1, 120), fault))
}

fn full(random: &mut Random, faulty: bool) -> Option<(Duration, Duration)> {
    (faulty && random.percent(25)).then(|| {
        let from = random.between(0, 5_000);
        let to = from + random.between(10, 60_000);
        (Duration::from_millis(from), Duration::from_millis(to))
    })
}
