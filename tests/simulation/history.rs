//! What happened in a run.

use std::{
    collections::BTreeSet,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use iggy_connector_http_sink::dead_letter::Record;

use super::{
    added::NAME,
    model::{Batch, Id},
};

/// Everything that can be seen of the sink from outside. Times count from the begin of the run.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) calls: Vec<Call>,
    /// Messages that the log says have failed.
    pub(super) failed: Vec<Failed>,
    /// Dead letters that another endpoint took.
    pub(super) letters: Vec<Letter>,
    pub(super) log: Vec<(Duration, String)>,
    /// How often the sink was opened.
    pub(super) life: usize,
    /// Whose offsets were set back: the topic, the first batch that comes again, the one before which it ends, and when.
    pub(super) replayed: Vec<(usize, usize, usize, Duration)>,
    /// When each life was over.
    pub(super) life_ends: Vec<Duration>,
    /// When the machine stopped, so that what was not synced is lost.
    pub(super) power_cuts: Vec<Duration>,
    /// When the content of the file with the token changed.
    pub(super) rotated: Vec<Duration>,
    /// The process is gone: nothing counts any more.
    pub(super) over: bool,
    pub(super) violations: Vec<String>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) life: usize,
    pub(super) at: Duration,
    pub(super) key: String,
    pub(super) body: Digest,
    pub(super) ids: Vec<Id>,
    /// How often the token that it carries had been rotated, where there is one.
    pub(super) rotations: Option<usize>,
    /// What became of it, for people.
    pub(super) ended: String,
    /// Those of its messages that items of the answer refuse.
    pub(super) refused: Vec<Id>,
    /// When the endpoint took the others.
    pub(super) taken: Option<Duration>,
    /// When the sink learned that.
    pub(super) acknowledged: Option<Duration>,
}

impl Arrival {
    /// The messages that the endpoint took if it took any.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Id> {
        self.ids.iter().filter(|id| !self.refused.contains(id))
    }
}

/// What tells a body from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest {
    pub(super) length: usize,
    hash: u64,
}

impl Digest {
    /// That of a body; of one that is empty, by the message that it is of.
    pub(super) fn of(body: &[u8], ids: &[Id]) -> Self {
        let mut hash = DefaultHasher::new();
        body.hash(&mut hash);
        if body.is_empty() {
            ids.hash(&mut hash);
        }
        Self { length: body.len(), hash: hash.finish() }
    }
}

/// A call of consume.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) life: usize,
    pub(super) topic: usize,
    pub(super) batch: usize,
    pub(super) begun: Duration,
    /// When it returned, and whether without an error.
    pub(super) ended: Option<(Duration, bool)>,
}

/// Messages by what the log tells of them.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) at: Duration,
    pub(super) topic: u8,
    /// The label of their batch.
    pub(super) label: u32,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct Letter {
    pub(super) at: Duration,
    pub(super) id: Id,
    pub(super) reason: String,
}

/// The time of day at which runs begin.
pub(super) const BEGIN: Duration = Duration::from_hours(24 * 365 * 56);

impl History {
    pub(super) fn told(&mut self, at: Duration, level: &str, text: String) {
        if self.over {
            return;
        }
        self.failed.extend(failed(&text).into_iter().flatten().map(|(topic, label, offset)| Failed {
            at,
            topic,
            label,
            offset,
        }));
        self.log.push((at, format!("{level} {text}")));
    }

    /// Whether a message has an end, as far as requests and the log tell.
    pub(super) fn ended(&self, batches: &[Vec<Batch>]) -> BTreeSet<Id> {
        let acknowledged = self.arrivals.iter().filter(|arrival| arrival.acknowledged.is_some());
        let mut ended: BTreeSet<Id> = acknowledged.flat_map(Arrival::accepted).copied().collect();
        ended.extend(self.letters.iter().map(|letter| letter.id));
        for failed in &self.failed {
            ended.extend(failed.candidates(batches));
        }
        ended
    }

    /// The run, for people.
    pub(super) fn show(&self, batches: &[Vec<Batch>]) -> String {
        let mut lines: Vec<(Duration, String)> = self.log.clone();
        for call in &self.calls {
            let name = format!("consume {}/{} in life {}", call.topic, call.batch, call.life);
            lines.push((call.begun, format!("{name} begins: {}", batches[call.topic][call.batch])));
            if let Some((at, well)) = call.ended {
                lines.push((at, format!("{name} returns {}", if well { "0" } else { "1" })));
            }
        }
        for arrival in &self.arrivals {
            let ids: Vec<String> = arrival.ids.iter().map(ToString::to_string).collect();
            lines.push((
                arrival.at,
                format!("  request {} [{}]: {}", short(&arrival.key), ids.join(" "), arrival.ended),
            ));
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut text = String::new();
        for (at, line) in lines {
            let _ = writeln!(text, "{:>12.3} {line}", at.as_secs_f64());
        }
        text
    }
}

fn short(key: &str) -> &str {
    &key[..key.len().min(8)]
}

impl Failed {
    /// The messages that it may be: a batch that mixes partitions may have an offset twice.
    pub(super) fn candidates<'b>(&self, batches: &'b [Vec<Batch>]) -> impl Iterator<Item = Id> + 'b {
        let (topic, label, offset) = (self.topic, self.label, self.offset);
        batches[usize::from(topic)]
            .iter()
            .filter(move |batch| batch.label == label)
            .flat_map(|batch| &batch.messages)
            .map(|message| message.id)
            .filter(move |id| id.offset == offset)
    }
}

/// The messages that a line of the log says have failed: their topic, the label of their batch, and their offset.
fn failed(line: &str) -> Option<Vec<(u8, u32, u64)>> {
    let (_, rest) = line.split_once(" of stream s, ")?;
    let (places, _) = rest.split_once(" failed")?;
    let mut all = Vec::new();
    for place in places.split("; ") {
        let (_, rest) = place.split_once("topic ")?;
        let (topic, rest) = rest.split_once(", partition ")?;
        let (label, offsets) = rest.split_once(", offsets ")?;
        let topic = topic.bytes().next()? - b'a';
        let label = label.parse().ok()?;
        for range in offsets.split(", ") {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            all.extend((first.parse().ok()?..=last.parse().ok()?).map(|offset| (topic, label, offset)));
        }
    }
    Some(all)
}

/// The dead letters in these bytes.
pub(super) fn letters(bytes: &[u8]) -> Vec<Letter> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .filter_map(|line| serde_json::from_slice::<Record>(line).ok())
        .filter_map(|record| {
            let time = humantime::parse_rfc3339(&record.time).ok()?;
            let at = time.duration_since(std::time::UNIX_EPOCH).ok()?.saturating_sub(BEGIN);
            let in_payload = Id::all_in(&record.payload_bytes().ok()?).first().copied();
            let id = in_payload.or_else(|| Id::parse(record.headers.get(NAME)?))?;
            Some(Letter { at, id, reason: record.reason })
        })
        .collect()
}
