//! The parked messages of a lane, which wait on disk until they are sent again, and, if keys are kept in order, the messages
//! that wait behind them. It is pure: the time is passed in.

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
    /// By their group: the messages that were first taken together. All messages ahead of a key are in one group, and what is
    /// due of a group is taken together, so that it is sent in order. The number of a group is the sequence of its first
    /// record.
    units: BTreeMap<u64, Vec<Unit>>,
    /// The times of all units, with their group.
    due: BTreeSet<(Instant, u64)>,
    /// How many messages are in units.
    messages: usize,
    waiting: Waiting,
    runs: Runs,
}

impl Parked {
    /// Records that records of one kind were read after all others, from this sequence on.
    pub(super) fn read(&mut self, sequence: u64, kind: Option<Kind>) {
        self.runs.read(sequence, kind);
    }

    /// How many messages are tracked here.
    pub(super) fn known(&self) -> usize {
        self.messages + self.waiting.messages()
    }

    /// When the next unit is due, or messages that waited behind others.
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
            // Most groups have a single unit, and there may be as many groups as parked messages.
            of_group.reserve_exact(1);
        }
        of_group.push(unit);
    }

    /// Parks a unit that was taken again, with the attempts made so far.
    pub(super) fn park_again(&mut self, group: u64, unit: Unit, until: Instant) {
        self.park(group, Unit { until, for_breaker: false, ..unit });
    }

    /// Records that a record is gone: nothing waits behind its messages in these units any more.
    pub(super) fn gone(&mut self, sequence: u64, units: &mut Vec<Unit>, now: Instant) {
        for unit in &mut *units {
            // If no keys are kept in order, there are none.
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

    /// Splits off the messages from this record on: they are not sent with those before, but wait behind them.
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

    /// Takes the due units of one group, with its number: they are sent together.
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

    /// Makes units due that only the breaker held: it has closed.
    pub(super) fn breaker_closed(&mut self, now: Instant) {
        self.due_if(now, |unit| unit.for_breaker);
    }

    /// Makes the units that `is_meant` selects due, whatever they wait for.
    pub(super) fn due_if(&mut self, now: Instant, is_meant: impl Fn(&Unit) -> bool) {
        for (group, units) in &mut self.units {
            for unit in units.iter_mut().filter(|unit| unit.until > now && is_meant(unit)) {
                self.due.insert((now, *group));
                unit.until = now;
            }
        }
    }

    /// Returns the messages that may be sent now, in order; the others wait behind those of their keys that are ahead.
    /// `bytes` is the size of a record.
    pub(super) fn begin(&mut self, all: &[Together], bytes: impl Fn(u64) -> usize) -> Vec<Message> {
        self.waiting.begin(all, bytes)
    }

    /// Makes messages that were taken but not attempted wait again, in this order and before all others of their keys.
    pub(super) fn put_back(&mut self, all: &[Together], now: Instant) {
        for together in all.iter().rev() {
            self.waiting.put_back(together, now);
        }
    }

    /// Records that a message of this key is settled. If it was the last one ahead, those that wait behind it may be sent.
    pub(super) fn settled(&mut self, key: u64, now: Instant) {
        self.waiting.settled(key, now);
    }

    /// Takes messages that waited behind others, with the number of their group: they are sent together. `alone`: nothing
    /// else is being sent.
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
