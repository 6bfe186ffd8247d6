//! What is parked of a lane: messages that wait on disk until they are sent again, and, where keys are kept in order, what
//! waits behind them. Pure: the time is passed in.

mod runs;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

pub(super) use self::waiting::Together;
use self::{runs::Runs, waiting::Waiting};
use super::unit::{Kind, Message, Room, Unit};
use crate::deliver::{Parked as Until, RetryState};

/// The parked messages of one lane.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// By their group: what was taken together at first. All that is ahead of a key is in one group, and what is due of a group is
    /// taken together, so that it goes in order. The group's number is the sequence of the first record that it was of.
    units: BTreeMap<u64, Vec<Unit>>,
    /// The times of all units, with their group.
    due: BTreeSet<(Instant, u64)>,
    /// How many messages are in units.
    messages: usize,
    waiting: Waiting,
    runs: Runs,
}

impl Parked {
    /// Hears of records of one kind that were read behind all others, by the sequence of the first.
    pub(super) fn read(&mut self, sequence: u64, kind: Option<Kind>) {
        self.runs.read(sequence, kind);
    }

    /// How many messages are known here.
    pub(super) fn known(&self) -> usize {
        self.messages + self.waiting.messages()
    }

    /// When the next unit is due, or what waited behind others.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let of_units = self.due.first().map(|(until, _)| *until);
        of_units.into_iter().chain(self.waiting.next_due()).min()
    }

    /// Parks messages until they are due.
    pub(super) fn park(&mut self, group: u64, unit: Unit) {
        self.messages += unit.messages.len();
        self.due.insert((unit.until, group));
        let of_group = self.units.entry(group).or_default();
        if of_group.is_empty() {
            // Most groups have one alone, and there may be as many of them as messages that are parked.
            of_group.reserve_exact(1);
        }
        of_group.push(unit);
    }

    /// Parks a unit that was taken once more, with the attempts that were made at it.
    pub(super) fn park_again(&mut self, group: u64, unit: Unit, until: Instant) {
        self.park(group, Unit { until, for_breaker: false, ..unit });
    }

    /// A record is not there any more: nothing waits behind its messages in these units.
    pub(super) fn gone(&mut self, sequence: u64, units: &mut Vec<Unit>, now: Instant) {
        for unit in &mut *units {
            // Where no keys are kept in order, there are none.
            let of_record = unit.messages.iter().map(|(of, _)| *of == sequence).collect::<Vec<bool>>();
            let gone = |(key, is_gone): (&u64, &bool)| is_gone.then_some(*key);
            for key in unit.keys.iter().zip(&of_record).filter_map(gone) {
                self.settled(key, now);
            }
            let mut is_gone = of_record.iter();
            unit.keys.retain(|_| is_gone.next() == Some(&false));
            unit.messages.retain(|(of, _)| *of != sequence);
        }
        units.retain(|unit| !unit.messages.is_empty());
    }

    /// Messages from this record on do not go with those of a unit before it: they wait behind them.
    pub(super) fn put_behind(&mut self, group: u64, sequence: u64, units: &mut Vec<Unit>, now: Instant) {
        for unit in &mut *units {
            let stay = unit.messages.partition_point(|(of, _)| *of < sequence);
            let messages = unit.messages.split_off(stay);
            if unit.keys.is_empty() && !messages.is_empty() {
                let until = Until {
                    until: unit.until,
                    for_breaker: false,
                    apart: false,
                    retry: RetryState::default(),
                };
                self.park(group, Unit::new(messages, Vec::new(), until));
                continue;
            }
            let keys = unit.keys.split_off(stay.min(unit.keys.len()));
            for (message, key) in messages.into_iter().zip(keys).rev() {
                self.waiting.put_back(&Together { messages: vec![(message, key)] }, now);
            }
        }
        units.retain(|unit| !unit.messages.is_empty());
    }

    /// Takes the units that are due of one group, with its number: they are sent together.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(u64, Vec<Unit>)> {
        let &(until, group) = self.due.first().filter(|(until, _)| *until <= now)?;
        self.due.remove(&(until, group));
        let units = self.units.remove(&group).unwrap_or_default();
        let (due, mut later): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(|unit| unit.until <= now);
        for unit in &due {
            self.due.remove(&(unit.until, group));
            self.messages -= unit.messages.len();
        }
        if !later.is_empty() {
            later.shrink_to_fit();
            self.units.insert(group, later);
        }
        Some((group, due))
    }

    /// The breaker has closed: what waits for nothing else is due.
    pub(super) fn breaker_closed(&mut self, now: Instant) {
        self.due_if(now, |unit| unit.for_breaker);
    }

    /// What is meant is due, whatever it waits for.
    pub(super) fn due_if(&mut self, now: Instant, is_meant: impl Fn(&Unit) -> bool) {
        for (group, units) in &mut self.units {
            for unit in units.iter_mut().filter(|unit| unit.until > now && is_meant(unit)) {
                self.due.insert((now, *group));
                unit.until = now;
            }
        }
    }

    /// Returns the messages that may be sent now, in order; the others wait behind those of their keys that are ahead. A record of a
    /// message takes so many bytes.
    pub(super) fn begin(&mut self, all: &[Together], bytes: impl Fn(u64) -> usize) -> Vec<Message> {
        self.waiting.begin(all, bytes)
    }

    /// Messages that were taken up and not tried wait again, in this order and before all others of their keys.
    pub(super) fn put_back(&mut self, all: &[Together], now: Instant) {
        for together in all.iter().rev() {
            self.waiting.put_back(together, now);
        }
    }

    /// A message of this key is settled. Where it was the last that was ahead, what waits behind it may go.
    pub(super) fn settled(&mut self, key: u64, now: Instant) {
        self.waiting.settled(key, now);
    }

    /// Takes messages that waited behind others, with the number of their group: they are sent together. `alone` where nothing is on
    /// its way.
    pub(super) fn take_free(&mut self, now: Instant, alone: bool, room: &Room) -> Option<(u64, Vec<Unit>)> {
        let unit = self.waiting.take(now, alone, room, &self.runs)?;
        Some((unit.messages[0].0, vec![unit]))
    }

    /// Whether nothing is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests;
