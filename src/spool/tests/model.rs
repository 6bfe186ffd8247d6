//! Random runs against a model that knows what should be there.

use std::{collections::BTreeMap, ops::Range, path::Path};

use super::{
    disk::{Disk, Left},
    faults::start,
    support::{accept_of, lane, options, unsettled},
};
use crate::spool::{Options, SpoolError};

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
    let mut random = Random(seed);
    let tight = Options { max_bytes: 96 * 1024, ..options(Path::new("in memory")) };
    let mut disk = Disk::default();
    let mut spool = start(&disk, &tight);
    // Of each topic the records, by sequence, with their unsettled offsets.
    let mut model: BTreeMap<(&str, u64), Vec<u64>> = BTreeMap::new();
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    // Where the last batch of each topic began, and those that it continued.
    let mut begin: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for step in 0..400 {
        let topic = TOPICS[usize::try_from(random.below(3)).unwrap()];
        let context = format!("seed {seed}, step {step}, {topic}");
        match random.below(20) {
            0..9 => {
                let next = next.entry(topic).or_default();
                let begin = begin.entry(topic).or_default();
                let (offsets, repeats) = handed_over(&mut random, *next, *begin);
                let new = offsets.end - offsets.start - repeats;
                match accept_of(
                    &spool,
                    topic,
                    offsets.clone(),
                    usize::try_from(random.below(1500)).unwrap(),
                    1,
                ) {
                    Ok(accepted) => {
                        assert_eq!(
                            (accepted.stored as u64, accepted.repeats as u64),
                            (new, repeats),
                            "{context}"
                        );
                        if new > 0 {
                            *begin = (offsets.start, if repeats > 0 { begin.1 } else { offsets.start });
                            // Sequences are the business of the spool; that they ascend is checked below.
                            let known = model.range((topic, 0)..=(topic, u64::MAX)).next_back();
                            let after = known.map_or(0, |((_, sequence), _)| *sequence);
                            let record = spool.next(&lane(topic), after).unwrap().expect(&context);
                            model.insert(
                                (topic, record.sequence),
                                (offsets.start + repeats..offsets.end).collect(),
                            );
                            *next = offsets.end;
                        }
                    }
                    Err(SpoolError::Full { .. } | SpoolError::OverShare { .. }) => {}
                    Err(why) => panic!("{context}: {why}"),
                }
            }
            9..18 => {
                let of_topic = model.range((topic, 0)..=(topic, u64::MAX));
                let sequences: Vec<u64> = of_topic.map(|((_, sequence), _)| *sequence).collect();
                if sequences.is_empty() {
                    continue;
                }
                let most = (sequences.len() as u64).min(4);
                let sequence = sequences[usize::try_from(random.below(most)).unwrap()];
                if random.below(3) > 0 {
                    spool.settle_all(&lane(topic), sequence).unwrap();
                    model.remove(&(topic, sequence));
                } else {
                    let record = spool.next(&lane(topic), sequence - 1).unwrap().expect(&context);
                    let stored = record.decode().unwrap();
                    let message = random.below(stored.messages.len() as u64);
                    let offset = stored.messages[usize::try_from(message).unwrap()].offset;
                    spool.settle(&lane(topic), sequence, &[u32::try_from(message).unwrap()]).unwrap();
                    let open = model.get_mut(&(topic, sequence)).unwrap();
                    open.retain(|held| *held != offset);
                    if open.is_empty() {
                        model.remove(&(topic, sequence));
                    }
                }
            }
            _ => {
                // The process stops, with or without an end.
                if random.below(2) == 0 {
                    disk = disk.after(Left::All);
                }
                drop(spool);
                spool = start(&disk, &tight);
            }
        }
        assert_eq!(
            spool.usage().messages,
            model.values().map(|open| open.len() as u64).sum::<u64>(),
            "{context}"
        );
        if step % 20 == 0 {
            for topic in TOPICS {
                let mut after = 0;
                for ((_, sequence), open) in model.range((topic, 0)..=(topic, u64::MAX)) {
                    let record = spool.next(&lane(topic), after).unwrap().expect(&context);
                    assert_eq!((record.sequence, &unsettled(&record)), (*sequence, open), "{context}");
                    after = *sequence;
                }
                assert!(spool.next(&lane(topic), after).unwrap().is_none(), "{context}");
            }
        }
    }
}
