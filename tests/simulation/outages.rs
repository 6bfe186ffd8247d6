//! An endpoint that is away for a while, with the shipped defaults: how soon all arrives once it is back, and how often it is
//! asked meanwhile. The clock is simulated, so that the times are exact.

use std::time::Duration;

use serde_json::{Value, json};

use super::plain::{Does, consume, run};

/// When the outage begins.
const LOST: Duration = Duration::from_millis(100);

/// When requests came, from the begin of the run.
struct Seen {
    refused: Vec<Duration>,
    taken: Vec<Duration>,
}

/// Sends 1,000 messages, each in a request of its own with 16 in flight, beside an outage of this length.
fn beside(away: Duration, seed: u64, more: &Value, trouble: Does) -> Seen {
    let mut config = json!({ "url": "http://endpoint.test/", "concurrency": 16, "ordering": "none" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let does = move |now: Duration| {
        if (LOST..LOST + away).contains(&now) { trouble } else { Does::Take(Duration::from_millis(5)) }
    };
    let after = away * 2 + Duration::from_mins(2);
    let arrivals = run(seed, &config, does, after, async |sink| consume(&sink, 0..1000).await);
    let (taken, refused): (Vec<_>, Vec<_>) =
        arrivals.into_iter().partition(|arrival| arrival.taken.is_some());
    let times = |arrivals: Vec<super::plain::Arrival>| arrivals.iter().map(|arrival| arrival.at).collect();
    Seen { refused: times(refused), taken: times(taken) }
}

/// How long after its return the last message arrived in the worst of some runs, and the most requests that it refused once the
/// breaker knew.
fn worst(away: Duration) -> (Duration, usize) {
    let mut worst = (Duration::ZERO, 0);
    let spool = json!({ "spool": { "path": "spool" } });
    let seeds = |more: Value| {
        (0..10).flat_map(move |seed| [Does::Refuse, Does::Reset].map(|trouble| (more.clone(), seed, trouble)))
    };
    for (more, seed, trouble) in seeds(json!({})).chain(seeds(spool)) {
        let Seen { refused, taken } = beside(away, seed, &more, trouble);
        assert_eq!(taken.len(), 1000, "{more}, {trouble:?}, seed {seed}: each arrives once");
        assert!(!refused.is_empty(), "{more}, {trouble:?}, seed {seed}: the outage meets something");
        let last = *taken.last().unwrap();
        let opened = LOST + Duration::from_millis(100);
        let probes = refused.iter().filter(|at| **at > opened).count();
        worst = (worst.0.max(last.saturating_sub(LOST + away)), worst.1.max(probes));
    }
    worst
}

#[test]
fn all_arrives_within_3_s_of_the_return_of_an_endpoint_that_was_away_for_300_ms() {
    let (last, _) = worst(Duration::from_millis(300));
    assert!(last <= Duration::from_secs(3), "{last:?}");
}

#[test]
fn all_arrives_within_30_s_of_the_return_of_an_endpoint_that_was_away_for_a_minute_and_was_asked_12_times() {
    let (last, probes) = worst(Duration::from_secs(60));
    assert!(last <= Duration::from_secs(30), "{last:?}");
    assert!(probes <= 12, "{probes} probes");
}
