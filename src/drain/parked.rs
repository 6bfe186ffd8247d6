//! What is parked of a lane: messages that wait on disk until they are sent again, and, where keys are kept in order, what
//! waits behind them. Pure: it is told the time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::deliver::{Parked as Until, RetryState};

/// Messages of a record that are sent together, as indexes into it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) messages: Vec<u32>,
    /// Where keys are kept in order: the key of each message.
    pub(super) keys: Vec<u64>,
    pub(super) retry: RetryState,
    until: Instant,
    for_breaker: bool,
}

impl Unit {
    pub(super) fn new(messages: Vec<u32>, keys: Vec<u64>, until: Until) -> Self {
        Self { messages, keys, retry: until.retry, until: until.until, for_breaker: until.for_breaker }
    }
}

/// A message: the sequence of its record, and its index in it.
type Message = (u64, u32);

/// The parked messages of one lane.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// By the sequence of their record.
    units: BTreeMap<u64, Vec<Unit>>,
    /// The times of all units.
    due: BTreeSet<(Instant, u64)>,
    /// The keys that are on their way or parked, with what waits behind them.
    keys: HashMap<u64, Key>,
    /// How many messages are known here.
    messages: usize,
}

/// A key that is on its way or parked.
#[derive(Debug, Default)]
struct Key {
    /// How many of its messages are on their way, or in units.
    ahead: usize,
    behind: VecDeque<Message>,
}

impl Parked {
    /// How many messages are known here.
    pub(super) fn known(&self) -> usize {
        self.messages
    }

    /// When the next unit is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Parks messages of a record until they are due.
    pub(super) fn park(&mut self, sequence: u64, unit: Unit) {
        self.messages += unit.messages.len();
        self.due.insert((unit.until, sequence));
        self.units.entry(sequence).or_default().push(unit);
    }

    /// Parks a unit that was taken once more, with the attempts that were made at it.
    pub(super) fn park_again(&mut self, sequence: u64, unit: Unit, until: Instant) {
        self.park(sequence, Unit { until, for_breaker: false, ..unit });
    }

    /// A unit that was taken is not there any more: nothing waits behind it.
    pub(super) fn gone(&mut self, unit: &Unit, now: Instant) {
        for key in &unit.keys {
            self.settled(*key, now);
        }
    }

    /// Takes the units that are due of one record: they are read together.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(u64, Vec<Unit>)> {
        let &(until, sequence) = self.due.first().filter(|(until, _)| *until <= now)?;
        self.due.remove(&(until, sequence));
        let units = self.units.remove(&sequence).unwrap_or_default();
        let (due, later): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(|unit| unit.until <= now);
        for unit in &due {
            self.due.remove(&(unit.until, sequence));
            self.messages -= unit.messages.len();
        }
        if !later.is_empty() {
            self.units.insert(sequence, later);
        }
        Some((sequence, due))
    }

    /// The breaker has closed: what waits for nothing else is due.
    pub(super) fn breaker_closed(&mut self, now: Instant) {
        for (sequence, units) in &mut self.units {
            for unit in units.iter_mut().filter(|unit| unit.for_breaker && unit.until > now) {
                self.due.insert((now, *sequence));
                unit.until = now;
            }
        }
    }

    /// Whether messages of a record that have this key may be sent now; otherwise they wait behind those that are ahead.
    pub(super) fn begin(&mut self, key: u64, sequence: u64, messages: &[u32]) -> bool {
        let state = self.keys.entry(key).or_default();
        let free = state.behind.is_empty() && state.ahead == 0;
        if free {
            state.ahead = messages.len();
        } else {
            state.behind.extend(messages.iter().map(|message| (sequence, *message)));
            self.messages += messages.len();
        }
        free
    }

    /// A message of this key is settled. Where it was the last that was ahead, what waits behind it is due.
    pub(super) fn settled(&mut self, key: u64, now: Instant) {
        let Some(state) = self.keys.get_mut(&key) else { return };
        state.ahead = state.ahead.saturating_sub(1);
        if state.ahead > 0 {
            return;
        }
        let Some(&(sequence, _)) = state.behind.front() else {
            self.keys.remove(&key);
            return;
        };
        // All of one record that are next go together.
        let mut messages = Vec::new();
        while let Some((_, message)) = state.behind.front().copied().filter(|(of, _)| *of == sequence) {
            state.behind.pop_front();
            messages.push(message);
        }
        state.ahead = messages.len();
        self.messages -= messages.len();
        let keys = vec![key; messages.len()];
        let until = Until { until: now, for_breaker: false, retry: RetryState::default() };
        self.park(sequence, Unit::new(messages, keys, until));
    }

    /// Whether nothing is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn until(until: Instant) -> Until {
        Until { until, for_breaker: false, retry: RetryState::default() }
    }

    fn unit(messages: Vec<u32>, until: Until) -> Unit {
        Unit::new(messages, Vec::new(), until)
    }

    fn taken(parked: &mut Parked, now: Instant) -> Option<(u64, Vec<Vec<u32>>)> {
        let (sequence, units) = parked.take_due(now)?;
        Some((sequence, units.into_iter().map(|unit| unit.messages).collect()))
    }

    #[test]
    fn units_of_a_record_that_are_due_are_taken_together_and_the_others_later() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut parked = Parked::default();
        parked.park(7, unit(vec![1], until(now)));
        parked.park(7, unit(vec![5, 6], until(later)));
        parked.park(7, unit(vec![3], until(now)));
        parked.park(8, unit(vec![0], until(now)));
        assert_eq!((parked.known(), parked.next_due()), (5, Some(now)));
        assert_eq!(taken(&mut parked, now), Some((7, vec![vec![1], vec![3]])));
        assert_eq!(taken(&mut parked, now), Some((8, vec![vec![0]])));
        assert_eq!(taken(&mut parked, now), None);
        assert_eq!((parked.known(), parked.next_due()), (2, Some(later)));
        assert_eq!(taken(&mut parked, later), Some((7, vec![vec![5, 6]])));
        assert!(parked.is_empty() && parked.known() == 0);
    }

    #[test]
    fn what_waits_for_the_breaker_alone_is_due_when_it_closes() {
        let now = Instant::now();
        let later = now + Duration::from_secs(30);
        let mut parked = Parked::default();
        parked.park(1, unit(vec![1], Until { for_breaker: true, ..until(later) }));
        parked.park(1, unit(vec![2], until(later)));
        parked.breaker_closed(now);
        assert_eq!(taken(&mut parked, now), Some((1, vec![vec![1]])));
        assert_eq!(taken(&mut parked, now), None);
    }

    #[test]
    fn messages_of_a_key_wait_for_those_ahead_of_them_and_other_keys_do_not() {
        let now = Instant::now();
        let mut parked = Parked::default();
        assert!(parked.begin(1, 1, &[0, 2]) && parked.begin(2, 1, &[1]));
        assert!(!parked.begin(1, 2, &[0, 3]) && !parked.begin(1, 3, &[0]));
        parked.settled(2, now);
        assert!(parked.begin(2, 3, &[1]));
        parked.settled(1, now);
        assert_eq!(taken(&mut parked, now), None, "one of the first record is still on its way");
        parked.settled(1, now);
        assert_eq!(taken(&mut parked, now), Some((2, vec![vec![0, 3]])));
        parked.settled(1, now);
        assert_eq!(taken(&mut parked, now), None);
        parked.settled(1, now);
        assert_eq!(taken(&mut parked, now), Some((3, vec![vec![0]])));
        parked.settled(1, now);
        assert!(parked.begin(1, 4, &[0]) && parked.known() == 0);
    }

    #[test]
    fn what_stood_behind_a_unit_that_is_gone_is_due() {
        let now = Instant::now();
        let mut parked = Parked::default();
        assert!(parked.begin(1, 1, &[0, 1]) && !parked.begin(1, 2, &[0]));
        parked.park(1, Unit::new(vec![0, 1], vec![1, 1], until(now)));
        let (_, units) = parked.take_due(now).expect("one is due");
        parked.gone(&units[0], now);
        assert_eq!(taken(&mut parked, now), Some((2, vec![vec![0]])));
    }

    #[test]
    fn a_unit_that_is_parked_again_keeps_its_key() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut parked = Parked::default();
        assert!(parked.begin(1, 1, &[0]) && !parked.begin(1, 2, &[0]));
        parked.park(1, Unit::new(vec![0], vec![1], until(now)));
        let (_, mut units) = parked.take_due(now).expect("one is due");
        parked.park_again(1, units.remove(0), later);
        assert_eq!(taken(&mut parked, now), None, "the key is still parked");
        let (_, units) = parked.take_due(later).expect("it is due again");
        parked.gone(&units[0], later);
        assert_eq!(taken(&mut parked, later), Some((2, vec![vec![0]])));
    }
}
