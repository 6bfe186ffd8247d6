//! Random runs against a model that knows what should be there.

use std::{collections::BTreeMap, ops::Range, path::Path};

use super::{
    disk::{Disk, Left},
    faults::start,
    support::{accept_of, lane, options, unsettled},
};
use crate::spool::{Options, Spool, SpoolError};

const TOPICS: [&str; 3] = ["a", "b", "c"];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn random_runs_hold_what_the_model_holds() {
    for seed in 0..60 {
        run(seed);
    }
}

/// What a host hands over, and how many messages of it are repeats.
fn handed_over(random: &mut Random, next: u64, begin: (u64, u64)) -> (Range<u64>, u64) {
    match random.below(8) {
        // From somewhere in the last batch on, as after a crash.
        0..2 => {
            let first = begin.0 + random.below(next - begin.0 + 1);
            (first..next + random.below(6), next - first)
        }
        // From further back, as a replay that was asked for.
        2 if begin.1 > 0 => {
            let first = random.below(begin.1);
            (first..first + random.below(12), 0)
        }
        _ => (next..next + random.below(6), 0),
    }
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    for step in 0..400 {
        let topic = TOPICS[usize::try_from(run.random.below(3)).unwrap()];
        let context = format!("seed {seed}, step {step}, {topic}");
        match run.random.below(20) {
            0..9 => run.accept(topic, &context),
            9..18 => run.settle(topic, &context),
            _ => run.restart(),
        }
        let messages: u64 = run.records.values().map(|open| open.len() as u64).sum();
        assert_eq!(run.spool().usage().messages, messages, "{context}");
        if step % 20 == 0 {
            run.check(&context);
        }
    }
}

/// A spool, and what should be in it.
struct Run {
    random: Random,
    options: Options,
    disk: Disk,
    /// `None` while it is opened anew.
    spool: Option<Spool>,
    /// Of each topic the records, by sequence, with their unsettled offsets.
    records: BTreeMap<(&'static str, u64), Vec<u64>>,
    next: BTreeMap<&'static str, u64>,
    /// Where the last batch of each topic began, and those that it continued.
    begin: BTreeMap<&'static str, (u64, u64)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let options = Options { max_bytes: 96 * 1024, ..options(Path::new("in memory")) };
        let disk = Disk::default();
        Self {
            random: Random(seed),
            spool: Some(start(&disk, &options)),
            options,
            disk,
            records: BTreeMap::new(),
            next: BTreeMap::new(),
            begin: BTreeMap::new(),
        }
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    fn accept(&mut self, topic: &'static str, context: &str) {
        let next = self.next.get(topic).copied().unwrap_or_default();
        let begin = self.begin.get(topic).copied().unwrap_or_default();
        let (offsets, repeats) = handed_over(&mut self.random, next, begin);
        let new = offsets.end - offsets.start - repeats;
        let payload = usize::try_from(self.random.below(1500)).unwrap();
        let accepted = match accept_of(self.spool(), topic, offsets.clone(), payload, 1) {
            Ok(accepted) => accepted,
            Err(SpoolError::Full { .. } | SpoolError::OverShare { .. }) => return,
            Err(why) => panic!("{context}: {why}"),
        };
        assert_eq!((accepted.stored as u64, accepted.repeats as u64), (new, repeats), "{context}");
        if new == 0 {
            return;
        }
        self.begin.insert(topic, (offsets.start, if repeats > 0 { begin.1 } else { offsets.start }));
        // Sequences are the business of the spool; that they ascend is checked below.
        let known = self.records.range((topic, 0)..=(topic, u64::MAX)).next_back();
        let after = known.map_or(0, |((_, sequence), _)| *sequence);
        let record = self.spool().next(&lane(topic), after).unwrap().expect(context);
        self.records.insert((topic, record.sequence), (offsets.start + repeats..offsets.end).collect());
        self.next.insert(topic, offsets.end);
    }

    /// Settles one of the first records, or a message of it.
    fn settle(&mut self, topic: &'static str, context: &str) {
        let of_topic = self.records.range((topic, 0)..=(topic, u64::MAX));
        let sequences: Vec<u64> = of_topic.map(|((_, sequence), _)| *sequence).collect();
        if sequences.is_empty() {
            return;
        }
        let most = (sequences.len() as u64).min(4);
        let sequence = sequences[usize::try_from(self.random.below(most)).unwrap()];
        if self.random.below(3) > 0 {
            self.spool().settle_all(&lane(topic), sequence).unwrap();
            self.records.remove(&(topic, sequence));
            return;
        }
        let record = self.spool().next(&lane(topic), sequence - 1).unwrap().expect(context);
        let stored = record.decode().unwrap();
        let message = self.random.below(stored.messages.len() as u64);
        let offset = stored.messages[usize::try_from(message).unwrap()].offset;
        self.spool().settle(&lane(topic), sequence, &[u32::try_from(message).unwrap()]).unwrap();
        let open = self.records.get_mut(&(topic, sequence)).unwrap();
        open.retain(|held| *held != offset);
        if open.is_empty() {
            self.records.remove(&(topic, sequence));
        }
    }

    /// The process stops, with or without an end, and another one begins.
    fn restart(&mut self) {
        if self.random.below(2) == 0 {
            self.disk = self.disk.after(Left::All);
        }
        self.spool = None;
        self.spool = Some(start(&self.disk, &self.options));
    }

    /// Checks that the spool has the records that it should have, and no others.
    fn check(&self, context: &str) {
        for topic in TOPICS {
            let mut after = 0;
            for ((_, sequence), open) in self.records.range((topic, 0)..=(topic, u64::MAX)) {
                let record = self.spool().next(&lane(topic), after).unwrap().expect(context);
                assert_eq!((record.sequence, &unsettled(&record)), (*sequence, open), "{context}");
                after = *sequence;
            }
            assert!(self.spool().next(&lane(topic), after).unwrap().is_none(), "{context}");
        }
    }
}
