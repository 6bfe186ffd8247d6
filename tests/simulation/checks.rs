//! What must be so after a run, whatever happened in it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde_json::Value;

use super::{
    history::{Call, Digest, History, Letter},
    model::{Batch, Id, Message, Nature},
    run::Run,
    scenario::Scenario,
    secrets,
};

/// The ends of a message.
#[derive(Debug, Default, Clone)]
struct Ends {
    /// When the endpoint took it: the sink may not know.
    taken: Vec<Duration>,
    acknowledged: Vec<(usize, Duration)>,
    letters: Vec<Duration>,
    failed: Vec<Duration>,
    /// Whether another message may be meant by `failed`.
    unsure: bool,
}

struct Checks<'r> {
    scenario: &'r Scenario,
    history: &'r History,
    ends: BTreeMap<Id, Ends>,
    wrong: Vec<String>,
}

/// What is wrong with a run.
pub(super) fn check(run: &Run) -> Vec<String> {
    let history = run.history.lock().unwrap();
    let mut letters = run.letters();
    letters.extend(history.letters.iter().map(|letter| Letter { reason: letter.reason.clone(), ..*letter }));
    let mut checks = Checks {
        scenario: &run.scenario,
        history: &history,
        ends: ends(&run.scenario, &history, &letters),
        wrong: history.violations.clone(),
    };
    checks.each_message_has_one_end();
    checks.what_is_delivered_is_not_sent_again();
    checks.replays_are_delivered();
    checks.lanes_are_in_order();
    checks.a_key_is_of_one_body();
    checks.bodies_outlive_a_crash();
    checks.calls_say_what_is_so();
    checks.requests_are_bounded();
    checks.healthy_lanes_go_on();
    checks.wrong.extend(secrets::check(&run.scenario, &history));
    checks.wrong
}

fn ends(scenario: &Scenario, history: &History, letters: &[Letter]) -> BTreeMap<Id, Ends> {
    let mut ends: BTreeMap<Id, Ends> =
        scenario.messages().map(|message| (message.id, Ends::default())).collect();
    for arrival in &history.arrivals {
        for id in &arrival.ids {
            let Some(ends) = ends.get_mut(id) else { continue };
            ends.taken.extend(arrival.taken);
            ends.acknowledged.extend(arrival.acknowledged.map(|at| (arrival.life, at)));
        }
    }
    for letter in letters {
        ends.entry(letter.id).or_default().letters.push(letter.at);
    }
    for failed in &history.failed {
        let candidates: BTreeSet<Id> = failed.candidates(&scenario.batches).collect();
        for id in &candidates {
            let ends = ends.entry(*id).or_default();
            ends.failed.push(failed.at);
            ends.unsure |= candidates.len() > 1;
        }
    }
    ends
}

impl Checks<'_> {
    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Nothing went wrong that makes the sink do a thing twice.
    fn is_exactly_once(&self) -> bool {
        !self.scenario.crashes() && !self.scenario.faults()
    }

    /// With `spool.sync = "100ms"`, a power cut takes what was stored in the last 100 ms, or since a sync failed.
    fn may_be_lost(&self, id: Id) -> bool {
        if self.scenario.config.pointer("/spool/sync").is_none() {
            return false;
        }
        let mut calls = self.history.calls.iter().filter(|call| {
            let batch = &self.scenario.batches[call.topic][call.batch];
            batch.messages.iter().any(|message| message.id == id)
        });
        calls.any(|call| {
            let Some((at, true)) = call.ended else { return false };
            let soon = |cut: &Duration| {
                *cut >= at && (self.scenario.faults() || *cut < at + Duration::from_millis(1_200))
            };
            self.history.power_cuts.iter().any(soon)
        })
    }

    fn each_message_has_one_end(&mut self) {
        for (id, ends) in self.ends.clone() {
            let kinds = [
                !ends.acknowledged.is_empty(),
                !ends.letters.is_empty(),
                !ends.failed.is_empty() && !ends.unsure,
            ];
            let count = kinds.iter().filter(|kind| **kind).count();
            if count == 0 && ends.failed.is_empty() && !self.may_be_lost(id) {
                self.wrong(format!("{id} has no end"));
            }
            let once = self.is_exactly_once() && self.scenario.repeats == 0 && !self.is_replayed(id);
            if count > 1 && once {
                self.wrong(format!("{id} has several ends: {ends:?}"));
            }
            if ends.letters.len() > 1 && once {
                self.wrong(format!("{id} is a dead letter {} times", ends.letters.len()));
            }
        }
    }

    fn is_replayed(&self, id: Id) -> bool {
        self.history.replayed.iter().any(|(topic, from, to, _)| {
            let batches = self.scenario.batches[*topic][*from..*to].iter();
            batches.flat_map(|batch| &batch.messages).any(|message| message.id == id)
        })
    }

    /// What somebody wants again comes again, but for what cannot be told from a repeat: the last batch of each label, where
    /// the replay brings no other with that label before it.
    fn replays_are_delivered(&mut self) {
        for (topic, from, to, at) in &self.history.replayed {
            let batches = &self.scenario.batches[*topic];
            // What is not stored for want of room leaves what is behind it the last one.
            let full = self.scenario.faults() || self.scenario.config.pointer("/spool/max_bytes").is_some();
            if full || batches.iter().any(Batch::mixes) {
                continue;
            }
            for number in *from..*to {
                let label = batches[number].label;
                let mut others = (*from..*to).filter(|other| *other != number);
                if !others.any(|other| batches[other].label == label) {
                    continue;
                }
                for message in &batches[number].messages {
                    let ends = &self.ends[&message.id];
                    let delivered = ends.acknowledged.iter().map(|(_, time)| time);
                    let mut all = delivered.chain(&ends.letters).chain(&ends.failed);
                    if !all.any(|time| time >= at) && !self.may_be_lost(message.id) {
                        self.wrong
                            .push(format!("{} was to come again from {at:?} on, and did not", message.id));
                    }
                }
            }
        }
    }

    fn what_is_delivered_is_not_sent_again(&mut self) {
        for arrival in &self.history.arrivals {
            for id in &arrival.ids {
                if self.is_replayed(*id) {
                    continue;
                }
                let again = self.ends[id]
                    .acknowledged
                    .iter()
                    .any(|(life, at)| *at < arrival.at && (*life == arrival.life || self.is_exactly_once()));
                // Without a spool, whoever calls after a crash sends it again.
                if again {
                    self.wrong
                        .push(format!("{id} was sent again at {:?} after it was delivered", arrival.at));
                }
            }
        }
    }

    /// The messages of each lane, in the order in which they came.
    fn lanes(&self) -> BTreeMap<(u8, u64), Vec<&Message>> {
        let mut lanes: BTreeMap<(u8, u64), Vec<&Message>> = BTreeMap::new();
        let Some(by_key) = self.scenario.ordered_by_key() else { return lanes };
        for message in self.scenario.messages() {
            let lane = if by_key { message.key } else { u64::from(message.id.partition) };
            // It has no key that can be read.
            if !(by_key && message.nature == Nature::Undecodable) {
                lanes.entry((message.id.topic, lane)).or_default().push(message);
            }
        }
        lanes
    }

    fn lanes_are_in_order(&mut self) {
        let mut first: HashMap<Id, usize> = HashMap::new();
        for (number, arrival) in self.history.arrivals.iter().enumerate() {
            for id in &arrival.ids {
                first.entry(*id).or_insert(number);
            }
        }
        let mut wrong = Vec::new();
        for (lane, messages) in self.lanes() {
            for (place, message) in messages.iter().enumerate() {
                let Some(sent) = first.get(&message.id) else { continue };
                let arrival = &self.history.arrivals[*sent];
                for before in &messages[..place] {
                    if let Some(at) = arrival.ids.iter().position(|id| *id == before.id) {
                        if arrival.ids[at..].contains(&message.id) {
                            continue;
                        }
                        wrong.push(format!("lane {lane:?}: {} before {} in a body", message.id, before.id));
                        continue;
                    }
                    if let Some(why) = self.is_overtaken(before, *sent) {
                        wrong.push(format!(
                            "lane {lane:?}: {} was sent at {:?}, before {}, which {why}",
                            message.id, arrival.at, before.id
                        ));
                    }
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// Why a message was not settled when this request was sent with one behind it, if that is so.
    fn is_overtaken(&self, before: &Message, sent: usize) -> Option<String> {
        let arrival = &self.history.arrivals[sent];
        let ends = &self.ends[&before.id];
        let mut all = ends.taken.iter().chain(&ends.letters).chain(&ends.failed);
        if all.any(|ended| *ended <= arrival.at) {
            return None;
        }
        // What has failed is named only when its call returns.
        let later = self.history.arrivals[sent + 1..].iter().find(|later| later.ids.contains(&before.id));
        if let Some(later) = later.filter(|later| later.life == arrival.life) {
            return Some(format!("was sent at {:?}", later.at));
        }
        // In the same life: without a spool, whoever calls after a crash calls with it again.
        let over = self.history.life_ends.get(arrival.life).copied().unwrap_or(Duration::MAX);
        let letter =
            ends.letters.iter().min().filter(|at| ends.failed.is_empty() && later.is_none() && **at < over);
        letter.map(|at| format!("became a dead letter at {at:?}"))
    }

    fn a_key_is_of_one_body(&mut self) {
        let mut bodies: HashMap<&str, Digest> = HashMap::new();
        let mut keys: HashMap<Digest, &str> = HashMap::new();
        let mut wrong = Vec::new();
        for arrival in &self.history.arrivals {
            if *bodies.entry(&arrival.key).or_insert(arrival.body) != arrival.body {
                wrong.push(format!("two bodies have the key {}", arrival.key));
            }
            if *keys.entry(arrival.body).or_insert(&arrival.key) != arrival.key {
                wrong.push(format!("a body has two keys, one of them {}", arrival.key));
            }
        }
        self.wrong.extend(wrong);
    }

    /// With a spool, what was sent together before a crash is sent together after it.
    fn bodies_outlive_a_crash(&mut self) {
        // What is replayed is cut anew, and a power cut takes the notes that were not synced yet.
        let cut = self.scenario.replays || !self.history.power_cuts.is_empty();
        if !self.scenario.has("spool") || self.scenario.faults() || cut {
            return;
        }
        let mut before: HashMap<Id, Vec<(usize, BTreeSet<Id>)>> = HashMap::new();
        for arrival in &self.history.arrivals {
            let ids: BTreeSet<Id> = arrival.ids.iter().copied().collect();
            for id in &arrival.ids {
                let others = before.entry(*id).or_default();
                let earlier = || others.iter().filter(|(life, _)| *life < arrival.life);
                let is_new = earlier().count() > 0 && !others.iter().any(|(_, body)| ids.is_subset(body));
                if is_new {
                    self.wrong.push(format!(
                        "{id} was sent with others than before the end of its process: {ids:?}"
                    ));
                }
            }
            for id in &arrival.ids {
                let others = before.entry(*id).or_default();
                if others.last() != Some(&(arrival.life, ids.clone())) {
                    others.push((arrival.life, ids.clone()));
                }
            }
        }
    }

    /// Without a spool, what a call returns is what became of its messages.
    fn calls_say_what_is_so(&mut self) {
        if self.scenario.has("spool") {
            return;
        }
        for call in &self.history.calls {
            let Some((at, well)) = call.ended else { continue };
            let messages = &self.scenario.batches[call.topic][call.batch].messages;
            let settled = |message: &&Message| {
                let ends = &self.ends[&message.id];
                ends.acknowledged.iter().any(|(_, time)| *time <= at)
                    || ends.letters.iter().any(|time| *time <= at)
            };
            // At once or within a minute, with others of their cause.
            let failed = |message: &&Message| !self.ends[&message.id].failed.is_empty();
            let name = format!("the call with batch {} of topic {}", call.batch, call.topic);
            if well && !messages.iter().all(|message| settled(&message)) {
                self.wrong.push(format!("{name} returned 0 before all had their end"));
            }
            if !well && !messages.iter().any(|message| failed(&message)) {
                self.wrong.push(format!("{name} returned 1, and none of its messages is named in the log"));
            }
        }
    }

    fn requests_are_bounded(&mut self) {
        let mut of_key: HashMap<(usize, &str), Vec<Duration>> = HashMap::new();
        for arrival in &self.history.arrivals {
            of_key.entry((arrival.life, &arrival.key)).or_default().push(arrival.at);
        }
        let mut wrong = Vec::new();
        for ((_, key), times) in of_key {
            // Full jitter may draw short waits in a row, and HTTP/2 servers make requests go again at once.
            let mut pairs = times.iter().zip(times.iter().skip(39));
            if let Some((first, _)) =
                pairs.find(|(first, last)| last.saturating_sub(**first) < Duration::from_secs(2))
            {
                wrong.push(format!("40 requests with the key {key} within 2 s of {first:?}"));
            }
        }
        self.wrong.extend(wrong);
    }

    /// How long a lane that the endpoint takes may wait for others; `None` where something else may hold it up.
    fn fair_wait(&self) -> Option<Duration> {
        let scenario = self.scenario;
        let lonely = |message: &Message| message.nature == Nature::Unanswered;
        if !scenario.weather.is_empty()
            || scenario.accidents > 0
            || scenario.faults()
            || scenario.body_limit.is_some()
            || scenario.has("rate_limit")
            || !scenario.letters_take.is_zero()
            || scenario.config.pointer("/spool/max_bytes").is_some()
            || scenario.has("max_payload_size_bytes")
            || scenario.config.pointer("/spool/max_bytes").is_some()
            || scenario.max_retry_duration() < Duration::from_mins(2)
            || scenario.messages().any(lonely)
        {
            return None;
        }
        let cool_down = scenario.config.pointer("/circuit_breaker/cool_down").and_then(Value::as_str);
        let cool_down = humantime::parse_duration(cool_down.unwrap_or("30s")).unwrap();
        let latency = Duration::from_millis(scenario.latency.1);
        let lanes: u32 = match scenario.ordered_by_key() {
            Some(false) => 16,
            _ => u32::try_from(scenario.messages().count()).unwrap(),
        };
        Some(cool_down + Duration::from_secs(3) + latency * lanes * 2)
    }

    fn healthy_lanes_go_on(&mut self) {
        let Some(bound) = self.fair_wait() else { return };
        let last = self.history.life;
        for (topic, batches) in self.scenario.batches.iter().enumerate() {
            let healthy = |message: &Message| message.nature == Nature::Good;
            // With a spool, a batch that mixes partitions waits for what is before it in all of them.
            let mixes = self.scenario.has("spool") && batches.iter().any(Batch::mixes);
            if mixes || !batches.iter().flat_map(|batch| &batch.messages).all(healthy) {
                continue;
            }
            let calls: Vec<&Call> =
                self.history.calls.iter().filter(|call| call.life == last && call.topic == topic).collect();
            // What was stored in a life before goes first.
            let first = calls.first().map_or(0, |call| call.batch);
            let earlier = batches[..first].iter().flat_map(|batch| &batch.messages);
            let ended = earlier.filter_map(|message| Some(self.ends[&message.id].acknowledged.first()?.1));
            let mut before = ended.max().unwrap_or_default();
            for call in calls {
                for message in &batches[call.batch].messages {
                    let ends = &self.ends[&message.id];
                    // Without a spool a call after a crash sends all of it again.
                    let in_this_call = ends.acknowledged.iter().find(|(_, at)| *at >= call.begun);
                    let Some((_, at)) = in_this_call.or(ends.acknowledged.first()) else {
                        self.wrong.push(format!(
                            "{} was not delivered, and nothing but others stood against it: {ends:?}",
                            message.id
                        ));
                        return;
                    };
                    let waited = at.saturating_sub(before.max(call.begun));
                    if waited > bound {
                        self.wrong.push(format!(
                            "{} waited {waited:?} beside others, from {:?} on, and may wait {bound:?}",
                            message.id,
                            before.max(call.begun)
                        ));
                        return;
                    }
                    before = before.max(*at);
                }
            }
        }
    }
}
