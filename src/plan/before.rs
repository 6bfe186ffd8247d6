//! Messages that were sent together before, and so are sent together again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

/// The unsettled messages of the bodies that were recorded before. Bodies do not share messages.
pub(crate) struct Before {
    /// Each ascending.
    bodies: Vec<Vec<usize>>,
    /// The number of the body that each message is in.
    body_of: Vec<Option<usize>>,
}

/// Messages that are sent together: a body that was recorded before, or one message that is in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Ascending.
    pub(crate) messages: Vec<usize>,
    pub(crate) noted: bool,
}

impl Before {
    /// Creates it from the number of messages and their bodies, for those that are unsettled.
    pub(crate) fn of(messages: usize, mut bodies: Vec<Vec<usize>>, is_open: impl Fn(usize) -> bool) -> Self {
        for body in &mut bodies {
            body.retain(|message| is_open(*message));
        }
        bodies.retain(|body| !body.is_empty());
        let mut body_of = Vec::new();
        if !bodies.is_empty() {
            body_of.resize(messages, None);
        }
        for (number, body) in bodies.iter().enumerate() {
            for message in body {
                body_of[*message] = Some(number);
            }
        }
        Self { bodies, body_of }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    fn body_of(&self, message: usize) -> Option<usize> {
        self.body_of.get(message).copied().flatten()
    }

    /// Whether a body has messages of several shards.
    pub(super) fn span(&self, shard: impl Fn(usize) -> u64) -> bool {
        self.bodies.iter().any(|body| body.iter().any(|message| shard(*message) != shard(body[0])))
    }

    /// Groups ascending unsettled messages of a lane into units that are sent together, in an order that keeps each key.
    ///
    /// A message that is in no body, and precedes one of its key in a body, was refused when the body was made. It is settled
    /// before the body is sent, so its place is before it. Bodies that wait for each other, which is only possible if they
    /// were never sent, are taken apart.
    pub(crate) fn units(&self, lane: Vec<usize>, key: impl Fn(usize) -> u64) -> Vec<Unit> {
        let mut broken = Vec::new();
        loop {
            let mut units: Vec<Unit> = Vec::with_capacity(lane.len());
            for &message in &lane {
                match self.body_of(message).filter(|body| !broken.contains(body)) {
                    None => units.push(Unit { messages: vec![message], noted: false }),
                    Some(body) if self.bodies[body][0] == message => {
                        units.push(Unit { messages: self.bodies[body].clone(), noted: true });
                    }
                    Some(_) => {}
                }
            }
            if units.iter().all(|unit| !unit.noted) {
                return units;
            }
            match in_order(units, &key) {
                Ok(units) => return units,
                Err(message) => broken.extend(self.body_of(message)),
            }
        }
    }
}

/// # Errors
/// Bodies wait for each other: the first message of one of them.
fn in_order(units: Vec<Unit>, key: &impl Fn(usize) -> u64) -> Result<Vec<Unit>, usize> {
    let mut last_of: Vec<BTreeMap<u64, usize>> = Vec::with_capacity(units.len());
    let mut queues: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
    for (number, unit) in units.iter().enumerate() {
        let last: BTreeMap<u64, usize> =
            unit.messages.iter().map(|message| (key(*message), *message)).collect();
        for (key, last) in &last {
            queues.entry(*key).or_default().push((*last, number));
        }
        last_of.push(last);
    }
    // The next one of each key is the last of its queue.
    for queue in queues.values_mut() {
        queue.sort_unstable_by(|one, other| other.cmp(one));
    }
    let mut waits_for: Vec<usize> = last_of.iter().map(BTreeMap::len).collect();
    for (_, number) in queues.values().filter_map(|queue| queue.last()) {
        waits_for[*number] -= 1;
    }
    let free = waits_for.iter().enumerate().filter_map(|(number, waits)| (*waits == 0).then_some(number));
    let mut free: BinaryHeap<Reverse<usize>> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(units.len());
    while let Some(Reverse(number)) = free.pop() {
        order.push(number);
        for key in last_of[number].keys() {
            let Some(queue) = queues.get_mut(key) else { continue };
            queue.pop();
            if let Some((_, next)) = queue.last() {
                waits_for[*next] -= 1;
                if waits_for[*next] == 0 {
                    free.push(Reverse(*next));
                }
            }
        }
    }
    if order.len() < units.len() {
        let waits = |(unit, waits): &(&Unit, &usize)| unit.noted && **waits > 0;
        // Only bodies wait for several keys, so one of them is among the remaining ones.
        let stuck = units.iter().zip(&waits_for).find(waits).expect("a circle has a body");
        return Err(stuck.0.messages[0]);
    }
    let mut units: Vec<Option<Unit>> = units.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|number| units[number].take()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(bodies: &[&[usize]], key: impl Fn(usize) -> u64) -> Vec<Vec<usize>> {
        let bodies = bodies.iter().map(|body| body.to_vec()).collect();
        let before = Before::of(20, bodies, |message| message >= 10);
        before.units((10..20).collect(), key).into_iter().map(|unit| unit.messages).collect()
    }

    #[test]
    fn a_body_stands_behind_all_that_is_before_it_in_its_keys() {
        // 12 and 13 came apart from others, while 11 and 14 had been put together to go behind them.
        let key = |message| [3, 1, 0, 2, 0, 3, 3, 3, 3, 3][message - 10];
        assert_eq!(
            units(&[&[11, 14], &[12, 13]], key)[..4],
            [vec![10], vec![12, 13], vec![11, 14], vec![15]]
        );
    }

    #[test]
    fn a_body_of_which_the_first_message_is_settled_stays_before_what_comes_after_it() {
        // 3, in a key of its own, was settled alone; 12 goes to another url than 11, and has its key.
        let key = |message| [0, 1, 1, 2, 0, 4, 4, 4, 4, 4][message - 10];
        assert_eq!(
            units(&[&[3, 11, 14], &[4, 12, 13]], key)[..4],
            [vec![10], vec![11, 14], vec![12, 13], vec![15]]
        );
        assert_eq!(units(&[&[4, 12, 13], &[3, 11, 14]], key)[1..3], [vec![11, 14], vec![12, 13]]);
    }

    #[test]
    fn bodies_that_wait_for_each_other_come_apart() {
        let key = |message| [0, 1, 0, 1, 3, 3, 3, 3, 3, 3][message - 10];
        assert_eq!(units(&[&[10, 13], &[11, 12]], key)[..4], [vec![10], vec![11, 12], vec![13], vec![14]]);
    }
}
