//! What is in order, and what goes together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::{
    super::{
        history::Digest,
        model::{Id, Message},
    },
    Checks,
};

impl Checks<'_> {
    /// The messages of each lane, in the order in which they came.
    fn lanes(&self) -> BTreeMap<(u8, u64), Vec<&Message>> {
        let mut lanes: BTreeMap<(u8, u64), Vec<&Message>> = BTreeMap::new();
        let Some(by_key) = self.scenario.ordered_by_key() else { return lanes };
        for message in self.scenario.messages() {
            let lane = if by_key { message.key } else { u64::from(message.id.partition) };
            // It has no key that can be read.
            if !(by_key && message.has_no_key()) {
                lanes.entry((message.id.topic, lane)).or_default().push(message);
            }
        }
        lanes
    }

    pub(super) fn lanes_are_in_order(&mut self) {
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
        // What has failed is named up to a minute later; of what was replayed it is not known which time that means.
        let may_have_failed = !ends.failed.is_empty() || self.may_be_unnamed();
        if may_have_failed && self.is_replayed(before.id) {
            return None;
        }
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

    pub(super) fn a_key_is_of_one_body(&mut self) {
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
    pub(super) fn bodies_outlive_a_crash(&mut self) {
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
}
