//! What must be so after a run, whatever happened in it.

mod fair;
mod order;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    history::{History, Letter},
    model::{Batch, Id, Message},
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
    checks.what_has_no_route_is_a_dead_letter(&letters);
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
        for id in arrival.accepted() {
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

    /// What is no dead letter, since there are none or they cannot be written, is in the log alone: some at once, and others
    /// within a minute, which a crash may take.
    fn may_be_unnamed(&self) -> bool {
        let no_room = self.scenario.config.pointer("/dead_letter/max_bytes").is_some();
        let no_letters = !self.scenario.has("dead_letter") || no_room || self.scenario.faults();
        self.scenario.crashes() && no_letters
    }

    fn each_message_has_one_end(&mut self) {
        for (id, ends) in self.ends.clone() {
            let kinds = [
                !ends.acknowledged.is_empty(),
                !ends.letters.is_empty(),
                !ends.failed.is_empty() && !ends.unsure,
            ];
            let count = kinds.iter().filter(|kind| **kind).count();
            if count == 0 && ends.failed.is_empty() && !self.may_be_lost(id) && !self.may_be_unnamed() {
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

    fn what_has_no_route_is_a_dead_letter(&mut self, letters: &[Letter]) {
        let arrived = self.history.arrivals.iter().flat_map(|arrival| &arrival.ids);
        let sent = arrived.filter(|id| !self.scenario.has_route(id.topic)).map(|id| format!("{id} was sent"));
        // In a spool that is full there was no room to look at it.
        let reasons = ["no_route", "not_stored"];
        let others = letters
            .iter()
            .filter(|letter| !self.scenario.has_route(letter.id.topic) && !reasons.contains(&&*letter.reason))
            .map(|letter| format!("{} became a dead letter as {}", letter.id, letter.reason));
        let wrong: Vec<String> = sent.chain(others).map(|what| format!("{what}, without a route")).collect();
        self.wrong.extend(wrong);
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
                    let may_be_untold = self.may_be_lost(message.id) || self.may_be_unnamed();
                    if !all.any(|time| time >= at) && !may_be_untold {
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
            if !well && !self.may_be_unnamed() && !messages.iter().any(|message| failed(&message)) {
                self.wrong.push(format!("{name} returned 1, and none of its messages is named in the log"));
            }
        }
    }
}
