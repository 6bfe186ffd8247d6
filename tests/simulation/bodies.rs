//! Bodies that fill behind a spool: what waits goes out together. The clock is simulated, so that the times are exact.

use std::{collections::BTreeMap, sync::mpsc, thread, time::Duration};

use serde_json::{Value, json};

use super::plain::{Arrival, Does, consume, consume_payloads, run};

/// How long messages come, 1,000 a second in batches of 5.
const FOR: Duration = Duration::from_secs(20);

/// What arrives of them at an endpoint that takes 200 ms.
fn arrive(more: &Value) -> Vec<Arrival> {
    let mut config = json!({
        "url": "http://endpoint.test/", "batch_mode": "nd_json", "include_metadata": false, "spool": { "path": "spool" },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    run(
        1,
        &config,
        |_| Does::Take(Duration::from_millis(200)),
        Duration::from_secs(5),
        async |sink| {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            for batch in 0..FOR.as_secs() * 200 {
                tick.tick().await;
                consume(&sink, batch * 5..batch * 5 + 5).await;
            }
        },
    )
}

/// How long after they came messages were delivered, in order.
fn delays(arrivals: &[Arrival]) -> Vec<Duration> {
    let mut delivered = BTreeMap::new();
    for arrival in arrivals {
        // One a line, or a list.
        for offset in arrival.body.trim_matches(['[', ']', '\n']).split(['\n', ',']) {
            delivered.insert(offset.parse::<u64>().unwrap(), arrival.taken.unwrap());
        }
    }
    assert_eq!(delivered.len() as u64, FOR.as_secs() * 1000, "all arrive");
    let came = |offset: u64| Duration::from_millis(offset / 5 * 5);
    let mut delays: Vec<Duration> =
        delivered.into_iter().map(|(offset, at)| at.saturating_sub(came(offset))).collect();
    delays.sort_unstable();
    delays
}

/// The requests in each second of the time in which messages came.
fn rate(arrivals: &[Arrival]) -> f64 {
    arrivals.iter().filter(|arrival| arrival.at < FOR).count() as f64 / FOR.as_secs_f64()
}

#[test]
fn a_partition_of_many_small_batches_keeps_up_with_a_slow_endpoint() {
    for more in [
        json!({}),
        json!({ "batch_mode": "json_array" }),
        json!({ "ordering": "none" }),
        json!({ "ordering": "key", "ordering_key": "{partition}" }),
    ] {
        let arrivals = arrive(&more);
        let delays = delays(&arrivals);
        let p99 = delays[delays.len() * 99 / 100];
        assert!(rate(&arrivals) <= 6.0, "{more}: {} requests a second", rate(&arrivals));
        assert!(p99 < Duration::from_millis(500), "{more}: {p99:?}");
    }
}

#[test]
fn with_linger_a_body_waits_that_long_for_more() {
    for ordering in ["partition", "none"] {
        let arrivals = arrive(&json!({ "linger": "1s", "ordering": ordering }));
        let rate = rate(&arrivals);
        assert!((0.7..=1.1).contains(&rate), "{ordering}: {rate} requests a second");
        let longest = *delays(&arrivals).last().unwrap();
        assert!(longest < Duration::from_millis(1500), "{ordering}: {longest:?}");
    }
}

#[test]
fn a_body_that_is_full_does_not_linger() {
    let arrivals = arrive(&json!({ "linger": "10m", "max_batch_messages": 100 }));
    let sizes: Vec<usize> = arrivals
        .iter()
        .filter(|arrival| arrival.at < FOR)
        .map(|arrival| arrival.body.lines().count())
        .collect();
    assert!(sizes.len() as u64 >= FOR.as_secs() * 4, "{} requests", sizes.len());
    // Of the first batch of a spool it is not known whether it is of one partition: it lingers until something waits behind it.
    assert_eq!(sizes[0], 5, "{sizes:?}");
    assert!(sizes[1..].iter().all(|size| *size == 100), "{sizes:?}");
}

#[test]
fn what_is_refused_behind_a_body_that_waits_for_more_is_refused_once() {
    let config = json!({
        "url": "http://endpoint.test/", "batch_mode": "nd_json", "include_metadata": false, "max_batch_messages": 10,
        "spool": { "path": "spool" },
    });
    let (done, arrived) = mpsc::channel();
    // Another thread, since a lane that goes round without end keeps this clock from going on.
    thread::spawn(move || {
        let takes = |_| Does::Take(Duration::from_millis(200));
        let arrivals = run(1, &config, takes, Duration::from_secs(5), async |sink| {
            consume(&sink, 0..1).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            // While the first one is on its way: nine that would leave room for one more, and behind them two that are no JSON.
            consume(&sink, 1..10).await;
            consume_payloads(&sink, 10, &["{", "{"]).await;
            consume(&sink, 12..13).await;
        });
        let _ = done.send(arrivals);
    });
    let arrivals = arrived.recv_timeout(Duration::from_secs(60)).expect("the lane goes on");
    let bodies: Vec<&str> = arrivals.iter().map(|arrival| arrival.body.as_str()).collect();
    assert_eq!(bodies, ["0\n", "1\n2\n3\n4\n5\n6\n7\n8\n9\n12\n"]);
}
