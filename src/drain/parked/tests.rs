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

#[test]
fn messages_of_a_key_wait_for_those_ahead_of_them_and_other_keys_do_not() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(parked.begin(1, &of(1, &[0, 2])) && parked.begin(2, &of(1, &[1])));
    assert!(!parked.begin(1, &of(2, &[0, 3])) && !parked.begin(1, &of(3, &[0])));
    parked.settled(2, now);
    assert!(parked.begin(2, &of(3, &[1])));
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), None, "one of the first record is still on its way");
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), Some(vec![of(2, &[0, 3])]));
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), None);
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), Some(vec![of(3, &[0])]));
    parked.settled(1, now);
    assert!(parked.begin(1, &of(4, &[0])) && parked.known() == 0);
}

#[test]
fn where_bodies_fill_all_that_waits_behind_a_key_goes_together() {
    let now = Instant::now();
    let mut parked = Parked::new(true);
    parked.read(1, Some((1, Schema::Json)));
    assert!(parked.begin(1, &of(1, &[0])));
    for sequence in 2..=70 {
        assert!(!parked.begin(1, &of(sequence, &[0])));
    }
    parked.settled(1, now);
    let units = taken(&mut parked, now).expect("it is due");
    assert_eq!(units, [(2..66).map(|sequence| (sequence, 0)).collect::<Vec<_>>()]);
}

#[test]
fn what_records_of_another_kind_stand_between_goes_apart() {
    let now = Instant::now();
    let mut parked = Parked::new(true);
    assert!(parked.begin(1, &of(1, &[0])));
    for (sequence, label) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 1), (6, 1)] {
        parked.read(sequence, Some((label, Schema::Json)));
    }
    for sequence in [2, 3, 5, 6] {
        assert!(!parked.begin(1, &of(sequence, &[0])));
    }
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), Some(vec![vec![(2, 0), (3, 0)]]));
    parked.settled(1, now);
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), Some(vec![vec![(5, 0), (6, 0)]]));
}

#[test]
fn runs_without_end_take_no_memory() {
    let mut runs = Runs::default();
    for sequence in 0..10_000 {
        runs.read(sequence * 2, Some((u32::from(sequence % 2 == 0), Schema::Json)));
    }
    assert_eq!(runs.begins.len(), RUNS);
    assert!(runs.are_together(19_998, 19_999) && !runs.are_together(19_997, 19_998));
    assert!(runs.are_together(3, 3) && !runs.are_together(2, 3), "they may be");
}

#[test]
fn what_stood_behind_a_record_that_is_gone_is_due() {
    let now = Instant::now();
    let mut parked = Parked::default();
    assert!(parked.begin(1, &of(1, &[0, 1])) && !parked.begin(1, &of(2, &[0])));
    parked.park(1, Unit::new(of(1, &[0, 1]), vec![1, 1], until(now)));
    let (_, mut units) = parked.take_due(now).expect("one is due");
    parked.gone(1, &mut units, now);
    assert!(units.is_empty());
    assert_eq!(taken(&mut parked, now), Some(vec![of(2, &[0])]));
}

#[test]
fn a_unit_that_is_parked_again_keeps_its_key() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut parked = Parked::default();
    assert!(parked.begin(1, &of(1, &[0])) && !parked.begin(1, &of(2, &[0])));
    parked.park(1, Unit::new(of(1, &[0]), vec![1], until(now)));
    let (_, mut units) = parked.take_due(now).expect("one is due");
    parked.park_again(1, units.remove(0), later);
    assert_eq!(taken(&mut parked, now), None, "the key is still parked");
    let (_, mut units) = parked.take_due(later).expect("it is due again");
    parked.gone(1, &mut units, later);
    assert_eq!(taken(&mut parked, later), Some(vec![of(2, &[0])]));
}

#[test]
fn what_was_parked_together_of_several_records_is_taken_together() {
    let now = Instant::now();
    let mut parked = Parked::new(true);
    assert!(parked.begin(1, &[(1, 0), (2, 0)]));
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
    let mut parked = Parked::new(true);
    parked.read(1, Some((1, Schema::Json)));
    assert!(parked.begin(1, &of(1, &[0])));
    for sequence in 2..=5 {
        assert!(!parked.begin(1, &of(sequence, &[0])));
    }
    parked.settled(1, now);
    assert!(!parked.begin(1, &of(6, &[0])));
    let (_, mut units) = parked.take_due(now).expect("it is due");
    parked.put_behind(2, 4, &mut units);
    assert_eq!(units[0].messages, [(2, 0), (3, 0)]);
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), None);
    parked.settled(1, now);
    assert_eq!(taken(&mut parked, now), Some(vec![vec![(4, 0), (5, 0), (6, 0)]]));
    assert_eq!(parked.known(), 0);
}
