use std::time::Duration;

use iggy_connector_sdk::Schema;

use super::*;

fn until(until: Instant) -> Until {
    Until { until, for_breaker: false, apart: false, retry: RetryState::default() }
}

fn unit(sequence: u64, messages: &[u32], until: Until) -> Unit {
    Unit::new(of(sequence, messages), Vec::new(), until)
}

fn of(sequence: u64, messages: &[u32]) -> Vec<Message> {
    messages.iter().map(|message| (sequence, *message)).collect()
}

fn taken(parked: &mut Parked, now: Instant) -> Option<Vec<Vec<Message>>> {
    Some(parked.take_due(now)?.1.into_iter().map(|unit| unit.messages).collect())
}

#[test]
fn units_of_a_record_that_are_due_are_taken_together_and_the_others_later() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut parked = Parked::default();
    parked.park(7, unit(7, &[1], until(now)));
    parked.park(7, unit(7, &[5, 6], until(later)));
    parked.park(7, unit(7, &[3], until(now)));
    parked.park(8, unit(8, &[0], until(now)));
    assert_eq!((parked.known(), parked.next_due()), (5, Some(now)));
    assert_eq!(taken(&mut parked, now), Some(vec![of(7, &[1]), of(7, &[3])]));
    assert_eq!(taken(&mut parked, now), Some(vec![of(8, &[0])]));
    assert_eq!(taken(&mut parked, now), None);
    assert_eq!((parked.known(), parked.next_due()), (2, Some(later)));
    assert_eq!(taken(&mut parked, later), Some(vec![of(7, &[5, 6])]));
    assert!(parked.is_empty() && parked.known() == 0);
}

#[test]
fn what_waits_for_the_breaker_alone_is_due_when_it_closes() {
    let now = Instant::now();
    let later = now + Duration::from_secs(30);
    let mut parked = Parked::default();
    parked.park(1, unit(1, &[1], Until { for_breaker: true, ..until(later) }));
    parked.park(1, unit(1, &[2], until(later)));
    parked.breaker_closed(now);
    assert_eq!(taken(&mut parked, now), Some(vec![of(1, &[1])]));
    assert_eq!(taken(&mut parked, now), None);
}

/// Messages of which each goes alone, with one key.
fn begin(parked: &mut Parked, key: u64, messages: &[Message]) -> bool {
    let all: Vec<Together> =
        messages.iter().map(|message| Together { messages: vec![(*message, key)] }).collect();
    parked.begin(&all, |_| LARGE) == messages
}

/// What waited and may go, where something else is on its way.
fn freed(parked: &mut Parked, now: Instant) -> Option<Vec<Message>> {
    let room = Room { records: 4, bytes: 4 * LARGE, messages: 1000 };
    Some(parked.take_free(now, false, &room)?.1.remove(0).messages)
}

const LARGE: usize = 1024 * 1024;

#[test]
fn messages_of_a_key_wait_for_those_ahead_of_them_and_other_keys_do_not() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(begin(&mut parked, 1, &of(1, &[0, 2])) && begin(&mut parked, 2, &of(1, &[1])));
    assert!(!begin(&mut parked, 1, &of(2, &[0, 3])) && !begin(&mut parked, 1, &of(3, &[0])));
    parked.settled(2, now);
    assert!(begin(&mut parked, 2, &of(3, &[1])));
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), None, "one of the first record is still on its way");
    parked.settled(1, now);
    assert_eq!(
        freed(&mut parked, now),
        Some(of(2, &[0, 3])),
        "of another record nothing is known to be alike"
    );
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), None);
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), Some(of(3, &[0])));
    parked.settled(1, now);
    assert!(begin(&mut parked, 1, &of(4, &[0])) && parked.known() == 0);
}

#[test]
fn what_waits_is_taken_up_by_records_with_all_that_may_go_of_them() {
    let now = Instant::now();
    let mut parked = Parked::default();
    parked.read(1, Some((1, Schema::Json)));
    for record in 1..=6 {
        for key in 0..10 {
            assert_eq!(begin(&mut parked, key, &[(record, u32::try_from(key).unwrap())]), record == 1);
        }
    }
    assert_eq!(parked.known(), 50);
    (0..4).for_each(|key| parked.settled(key, now));
    assert_eq!(freed(&mut parked, now), None, "a record is not read for less than half of what waits in it");
    assert_eq!(parked.next_due(), Some(now + waiting::FOR_OTHERS));
    (4..9).for_each(|key| parked.settled(key, now));
    let taken = freed(&mut parked, now).expect("most of it may go");
    assert_eq!(
        taken,
        (2..=5).flat_map(|record| of(record, &[0, 1, 2, 3, 4, 5, 6, 7, 8])).collect::<Vec<_>>()
    );
    parked.settled(9, now);
    assert_eq!(
        freed(&mut parked, now),
        Some(of(2, &[9]).into_iter().chain(of(3, &[9])).chain(of(4, &[9])).chain(of(5, &[9])).collect())
    );
    assert_eq!((freed(&mut parked, now), parked.next_due(), parked.known()), (None, None, 10));
}

#[test]
fn what_may_go_of_a_record_goes_soon_however_little_it_is() {
    let now = Instant::now();
    let mut parked = Parked::default();
    for record in 1..=2 {
        for key in 0..10 {
            begin(&mut parked, key, &[(record, u32::try_from(key).unwrap())]);
        }
    }
    parked.settled(3, now);
    assert_eq!(freed(&mut parked, now), None);
    let room = Room { records: 4, bytes: 4 * LARGE, messages: 1000 };
    assert!(parked.take_free(now, true, &room).is_some(), "at once where nothing else is on its way");
    parked.settled(4, now);
    assert_eq!(freed(&mut parked, now), None);
    assert_eq!(freed(&mut parked, now + waiting::FOR_OTHERS), Some(of(2, &[4])));
}

#[test]
fn small_records_are_read_for_whatever_may_go_of_them() {
    let now = Instant::now();
    let mut parked = Parked::default();
    let all = |record| [0, 1, 2].map(|key| Together { messages: vec![((record, key), u64::from(key))] });
    assert_eq!(parked.begin(&all(1), |_| 100), of(1, &[0, 1, 2]));
    assert_eq!(parked.begin(&all(2), |_| 100), []);
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), Some(of(2, &[1])));
}

#[test]
fn a_body_waits_until_all_its_keys_may_go_and_is_taken_whole() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(begin(&mut parked, 1, &of(1, &[0])) && begin(&mut parked, 2, &of(1, &[1])));
    let body = [Together { messages: vec![((2, 0), 1), ((2, 1), 3), ((3, 0), 2)] }];
    assert_eq!(parked.begin(&body, |_| LARGE), []);
    assert!(!begin(&mut parked, 3, &of(4, &[0])), "it waits behind the body");
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now + waiting::FOR_OTHERS), None);
    parked.settled(2, now);
    assert_eq!(freed(&mut parked, now), Some(vec![(2, 0), (2, 1), (3, 0)]));
    (1..=3).for_each(|key| parked.settled(key, now));
    assert_eq!(freed(&mut parked, now), Some(of(4, &[0])));
    parked.settled(3, now);
    assert!(parked.is_empty() && parked.known() == 0 && begin(&mut parked, 3, &of(5, &[0])));
}

#[test]
fn what_was_not_tried_waits_behind_what_was_with_the_same_keys() {
    let now = Instant::now();
    let mut parked = Parked::default();
    // A body came apart: its first part is parked, the second has other keys, the third has those of both.
    assert!(begin(&mut parked, 1, &of(1, &[0, 3])) && begin(&mut parked, 2, &of(1, &[1, 4])));
    let together = |messages: &[(u32, u64)]| Together {
        messages: messages.iter().map(|(message, key)| ((1, *message), *key)).collect(),
    };
    assert!(begin(&mut parked, 3, &of(1, &[2])));
    parked.put_back(&[together(&[(1, 2), (2, 3)]), together(&[(3, 1), (4, 2)])], now);
    assert_eq!(parked.known(), 4);
    assert_eq!(freed(&mut parked, now), Some(of(1, &[1, 2])));
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now + waiting::FOR_OTHERS), None, "the second part is on its way");
    parked.settled(2, now);
    assert_eq!(freed(&mut parked, now), Some(of(1, &[3, 4])));
}

#[test]
fn what_records_of_another_kind_stand_between_goes_apart() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(begin(&mut parked, 1, &of(1, &[0])));
    for (sequence, label) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 1), (6, 1)] {
        parked.read(sequence, Some((label, Schema::Json)));
    }
    for sequence in [2, 3, 5, 6] {
        assert!(!begin(&mut parked, 1, &of(sequence, &[0])));
    }
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), Some(vec![(2, 0), (3, 0)]));
    parked.settled(1, now);
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), Some(vec![(5, 0), (6, 0)]));
}

#[test]
fn what_stood_behind_a_record_that_is_gone_may_go() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(begin(&mut parked, 1, &of(1, &[0, 1])) && !begin(&mut parked, 1, &of(2, &[0])));
    parked.park(1, Unit::new(of(1, &[0, 1]), vec![1, 1], until(now)));
    let (_, mut units) = parked.take_due(now).expect("one is due");
    parked.gone(1, &mut units, now);
    assert!(units.is_empty());
    assert_eq!(freed(&mut parked, now), Some(of(2, &[0])));
}

#[test]
fn a_unit_that_is_parked_again_keeps_its_key() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut parked = Parked::default();
    assert!(begin(&mut parked, 1, &of(1, &[0])) && !begin(&mut parked, 1, &of(2, &[0])));
    parked.park(1, Unit::new(of(1, &[0]), vec![1], until(now)));
    let (_, mut units) = parked.take_due(now).expect("one is due");
    parked.park_again(1, units.remove(0), later);
    assert_eq!(freed(&mut parked, later), None, "the key is still parked");
    let (_, mut units) = parked.take_due(later).expect("it is due again");
    parked.gone(1, &mut units, later);
    assert_eq!(freed(&mut parked, later), Some(of(2, &[0])));
}

#[test]
fn what_was_parked_together_of_several_records_is_taken_together() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(begin(&mut parked, 1, &[(1, 0), (2, 0)]));
    parked.park(1, Unit::new(of(1, &[0]), vec![1], until(now)));
    parked.park(1, Unit::new(of(2, &[0]), vec![1], until(now)));
    assert_eq!(
        taken(&mut parked, now),
        Some(vec![of(1, &[0]), of(2, &[0])]),
        "or they would overtake each other"
    );
}

#[test]
fn what_does_not_go_with_the_others_waits_behind_them_in_order() {
    let now = Instant::now();
    let mut parked = Parked::default();
    parked.read(1, Some((1, Schema::Json)));
    assert!(begin(&mut parked, 1, &of(1, &[0])));
    for sequence in 2..=5 {
        assert!(!begin(&mut parked, 1, &of(sequence, &[0])));
    }
    parked.settled(1, now);
    assert!(!begin(&mut parked, 1, &of(6, &[0])));
    let room = Room { records: 4, bytes: 4 * LARGE, messages: 1000 };
    let (_, mut units) = parked.take_free(now, false, &room).expect("it may go");
    parked.put_behind(2, 4, &mut units, now);
    assert_eq!(units[0].messages, [(2, 0), (3, 0)]);
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), None);
    parked.settled(1, now);
    assert_eq!(freed(&mut parked, now), Some(vec![(4, 0), (5, 0), (6, 0)]));
    assert_eq!(parked.known(), 0);
}
