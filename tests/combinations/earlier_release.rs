//! A spool that an earlier release left behind.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{messages, taken, wait_until};
use crate::support::{
    endpoint::Endpoint,
    plugin::{Sink, logged},
};

/// Topic, partition and number of what was taken.
fn origin(body: &[u8]) -> (String, u64, u64) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let number = |key: &str| body[key].as_u64().unwrap();
    (body["topic"].as_str().unwrap().to_owned(), number("partition"), number("n"))
}

#[test]
fn a_spool_of_version_1_is_delivered_and_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let segment = "000000000001.log";
    fs::copy(Path::new("fixtures/spool-v1").join(segment), spool.join(segment)).unwrap();
    let endpoint = Endpoint::answering(200);
    let config = json!({ "url": endpoint.url(), "include_metadata": false, "spool": { "path": spool } });
    let arrived = || taken(&endpoint, |request| origin(&request.body));

    let sink = Sink::open(&config);
    wait_until("all that was left arrives", || arrived().len() == 9);
    let of = |topic: &str, partition: u64| -> Vec<u64> {
        arrived().into_iter().filter(|(t, p, _)| t == topic && *p == partition).map(|(.., n)| n).collect()
    };
    assert_eq!(
        (of("orders", 1), of("orders", 2), of("clicks", 7)),
        (vec![1, 3, 4, 5], vec![0, 1, 2], vec![10, 11])
    );
    drop(sink);

    let sink = Sink::open(&config);
    let payload = r#"{"topic":"orders","partition":1,"n":6}"#;
    assert_eq!(sink.consume(&messages(1, &[(6, payload)])), 0);
    wait_until("what is stored now arrives", || arrived().len() == 10);
    assert_eq!(of("orders", 1).last(), Some(&6));
    assert_eq!(logged(&format!("spool {}: ", spool.display())).len(), 2, "nothing but two opens");
}

#[test]
fn a_spool_of_version_2_sends_again_what_was_sent_together() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let segment = "000000000001.log";
    fs::copy(Path::new("fixtures/spool-v2").join(segment), spool.join(segment)).unwrap();
    let endpoint = Endpoint::answering(200);
    let config = json!({
        "url": endpoint.url(), "batch_mode": "nd_json", "include_metadata": false, "spool": { "path": spool },
    });
    let _sink = Sink::open(&config);
    let numbers = |body: &[u8]| -> Vec<u64> {
        body.split_inclusive(|byte| *byte == b'\n').map(|line| origin(line).2).collect()
    };
    let arrived = || {
        taken(&endpoint, |request| {
            (numbers(&request.body), request.header("idempotency-key").unwrap().to_owned())
        })
    };
    wait_until("all that was left arrives", || arrived().len() == 2);
    let arrived = arrived();
    // Sent when the process was killed, with this key.
    assert_eq!(arrived[0], (vec![4, 5, 6, 7], "c93e2e49b991995ff9cf5de21dd94205".to_owned()));
    assert_eq!(arrived[1].0, [8, 9]);
}
