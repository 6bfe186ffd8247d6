//! Dead letters that go to another endpoint.

use super::*;

#[test]
fn dead_letters_can_go_to_another_endpoint() {
    let letters = Endpoint::sequence(vec![Answer::status(503), Answer::status(200)]);
    let endpoint = Endpoint::start(|_| Answer::status(422).body("no"));
    let whole = json!({ "batch_mode": "nd_json", "isolate_status_codes": [], "max_payload_size_bytes": 40 });
    let mut config = config(&endpoint.url(), Path::new("unused"), whole);
    config["dead_letter"] = json!({ "url": letters.url() });
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(3)), 0);
    let requests = letters.requests();
    assert_eq!(requests.len(), 2, "the first was answered with 503");
    assert_eq!(requests[1].header("content-type"), Some("application/x-ndjson"));
    let offsets: Vec<u64> = requests[1]
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Record>(line).unwrap().offset)
        .collect();
    assert_eq!(offsets, [0, 1, 2]);
    // Other letters have another key, and one over the limit of bodies is a letter all the same.
    let oversize = Batch::of(Schema::Text, ["x".repeat(100)]);
    assert_eq!(sink.consume(&oversize), 0);
    assert_eq!(sink.consume(&Batch::numbered(3).from_offset(10)), 0);
    let requests = letters.requests();
    assert_eq!(requests.len(), 4);
    let keys: std::collections::BTreeSet<_> =
        requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!(keys.len(), 3, "one for the first and its repetition");
}

#[test]
fn what_a_close_cuts_off_still_reaches_the_other_endpoint() {
    let letters = Endpoint::answering(200);
    let endpoint = Endpoint::start(|_| Answer::stall());
    let mut config = config(&endpoint.url(), Path::new("unused"), json!({ "close_timeout": "1s" }));
    config["dead_letter"] = json!({ "url": letters.url() });
    let sink = Sink::open(&config);
    let id = sink.id;
    let consuming = std::thread::spawn(move || (sink.consume(&Batch::numbered(2)), sink));
    endpoint.wait_for_requests(1, Duration::from_secs(10));
    assert_eq!(crate::support::plugin::plugin().close(id), 0);
    assert_eq!(consuming.join().unwrap().0, 0);
    let letters: Vec<Record> = letters
        .requests()
        .iter()
        .flat_map(|request| request.body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(&line).unwrap())
        .collect();
    let sent: Vec<(u64, u32)> = letters.iter().map(|letter| (letter.offset, letter.attempts)).collect();
    assert_eq!(sent, [(0, 1), (1, 0)], "the first may have arrived, the second cannot");
}

#[test]
fn messages_fail_where_the_other_endpoint_is_away_too() {
    let endpoint = Endpoint::answering(422);
    let mut config = config(&endpoint.url(), Path::new("unused"), json!({ "max_retries": 1 }));
    config["dead_letter"] = json!({ "url": refused_url() });
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(3).from_stream("both-away")), 1);
    assert!(logged("stream both-away").iter().any(|line| line.starts_with("ERROR 3 messages")));
}
