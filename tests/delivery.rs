//! What the sink does when the endpoint misbehaves: through the built plugin, against a scripted endpoint.

use std::time::{Duration, Instant, SystemTime};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use crate::support::{
    config::config,
    endpoint::{Answer, Endpoint, Request, refused_url},
    plugin::{Batch, Sink, failures, logged},
};

fn bodies(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect()
}

/// The numbers of [`Batch::numbered`] in a body of `nd_json`.
fn numbers(body: &[u8]) -> Vec<u64> {
    serde_json::Deserializer::from_slice(body)
        .into_iter::<Value>()
        .map(|value| value.unwrap()["n"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_503_is_sent_again_until_it_is_taken() {
    let endpoint = Endpoint::sequence(vec![Answer::status(503), Answer::status(500), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    assert_eq!(bodies(&endpoint.requests()), [r#"{"n":0}"#, r#"{"n":0}"#, r#"{"n":0}"#, r#"{"n":1}"#]);
}

#[test]
fn retries_end_after_max_retries_and_the_rest_of_the_batch_goes_on() {
    let endpoint =
        Endpoint::start(|request| Answer::status(if request.body == br#"{"n":1}"# { 503 } else { 200 }));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "max_retries": 2 })));
    assert_eq!(sink.consume(&Batch::numbered(4).from_stream("rest-goes-on")), 1);
    let expected = [0, 1, 1, 1, 2, 3].map(|n| format!("{{\"n\":{n}}}"));
    assert_eq!(bodies(&endpoint.requests()), expected);
    let errors = logged("rest-goes-on");
    assert!(
        errors.iter().any(|line| line.starts_with(
            "ERROR 1 message of stream rest-goes-on, topic topic, partition 1, offsets 1 failed"
        ) && line.contains("503")
            && line.contains("3 attempts")),
        "{errors:?}"
    );
}

#[test]
fn no_retry_is_made_with_max_retries_0() {
    let endpoint = Endpoint::answering(503);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "max_retries": 0 })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 1);
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn a_refusal_for_good_is_not_sent_again() {
    for status in [400, 401, 404, 413, 422, 501, 505] {
        let endpoint = Endpoint::start(move |_| Answer::status(status).body("{\"error\":\"no such index\"}"));
        let sink = Sink::open(&config(&endpoint.url(), json!({})));
        let stream = format!("refused-{status}");
        assert_eq!(sink.consume(&Batch::numbered(1).from_stream(&stream)), 1, "{status}");
        assert_eq!(endpoint.requests().len(), 1, "{status}");
        assert!(logged(&stream).iter().any(|line| line.contains("no such index")), "{:?}", logged(&stream));
    }
}

#[test]
fn retry_after_in_seconds_is_waited_out() {
    let endpoint =
        Endpoint::sequence(vec![Answer::status(503).header("Retry-After", "1"), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let requests = endpoint.requests();
    assert!(
        requests[1].at - requests[0].at >= Duration::from_secs(1),
        "{:?}",
        requests[1].at - requests[0].at
    );
}

#[test]
fn retry_after_as_a_date_is_waited_out() {
    // Dates have whole seconds: two from now is more than one away.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let endpoint =
        Endpoint::sequence(vec![Answer::status(429).header("Retry-After", &date), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let requests = endpoint.requests();
    assert!(httpdate::parse_http_date(&date).unwrap() <= SystemTime::now(), "the date has passed");
    assert_eq!(requests.len(), 2);
}

#[test]
fn retry_after_does_not_spend_retries_and_is_capped() {
    let busy = || Answer::status(503).header("Retry-After", "3600");
    let endpoint = Endpoint::sequence(vec![busy(), busy(), busy(), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "max_retries": 0, "max_retry_after": "5ms" })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests().len(), 4);
}

#[test]
fn a_pause_beyond_the_deadline_ends_at_it_with_one_last_attempt() {
    let endpoint = Endpoint::start(|_| Answer::status(503).header("Retry-After", "3600"));
    let sink =
        Sink::open(&config(&endpoint.url(), json!({ "max_retry_after": "2h", "max_retry_duration": "1s" })));
    let began = Instant::now();
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("beyond-the-deadline")), 1);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(60)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(endpoint.requests().len(), 2);
    let told = logged("beyond-the-deadline").concat();
    assert!(told.contains("deadline_exceeded") && told.contains("asked for a pause of 1h"), "{told}");
}

#[test]
fn what_the_endpoint_takes_at_the_deadline_is_delivered_however_long_a_pause_it_asked_for() {
    let endpoint =
        Endpoint::sequence(vec![Answer::status(503).header("Retry-After", "3600"), Answer::status(200)]);
    let sink =
        Sink::open(&config(&endpoint.url(), json!({ "max_retry_after": "2h", "max_retry_duration": "1s" })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
}

#[test]
fn once_the_deadline_is_over_each_message_still_gets_its_one_attempt() {
    let endpoint = Endpoint::start(|request| Answer::status(if request.index < 3 { 503 } else { 200 }));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "max_retry_duration": "0s" })));
    assert_eq!(sink.consume(&Batch::numbered(5)), 1);
    let expected = [0, 1, 2, 3, 4].map(|n| format!("{{\"n\":{n}}}"));
    assert_eq!(bodies(&endpoint.requests()), expected);
}

#[test]
fn a_429_that_is_listed_as_success_is_one() {
    let endpoint = Endpoint::answering(429);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "success_status_codes": [200, 429] })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn only_listed_status_codes_are_success() {
    let endpoint = Endpoint::answering(206);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 1);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "success_status_codes": [206] })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
}

#[test]
fn own_retry_status_codes_replace_the_usual_ones() {
    let endpoint = Endpoint::sequence(vec![Answer::status(404), Answer::status(200), Answer::status(503)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "retry_status_codes": [404] })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(sink.consume(&Batch::numbered(1)), 1);
    assert_eq!(endpoint.requests().len(), 3);
}

#[test]
fn a_redirect_is_not_success() {
    let target = Endpoint::answering(200);
    for status in [301, 302, 303, 307, 308] {
        let location = target.url();
        let endpoint = Endpoint::start(move |_| Answer::status(status).header("Location", &location));
        let sink = Sink::open(&config(&endpoint.url(), json!({})));
        assert_eq!(sink.consume(&Batch::numbered(1)), 1, "{status}");
        assert_eq!(endpoint.requests().len(), 1, "{status}");
    }
    assert_eq!(target.requests().len(), 0);
}

#[test]
fn only_redirects_that_keep_the_body_are_followed() {
    for (status, code) in [(301, 1), (302, 1), (303, 1), (307, 0), (308, 0)] {
        let endpoint = Endpoint::start(move |request| match request.path.as_str() {
            "/in" => Answer::status(status).header("Location", "/there"),
            _ => Answer::status(200),
        });
        let sink = Sink::open(&config(&endpoint.url(), json!({ "follow_redirects": true })));
        assert_eq!(sink.consume(&Batch::numbered(1)), code, "{status}");
        let requests = endpoint.requests();
        if code == 0 {
            assert_eq!((requests[1].method.as_str(), requests[1].path.as_str()), ("POST", "/there"));
            assert_eq!(requests[1].body, br#"{"n":0}"#);
        } else {
            assert_eq!(requests.len(), 1, "{status}");
        }
    }
}

#[test]
fn a_redirect_to_another_host_is_not_followed() {
    let endpoint = Endpoint::start(|_| Answer::status(307).header("Location", "http://other.invalid/in"));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "follow_redirects": true })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 1);
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn a_reset_connection_is_tried_again() {
    let endpoint = Endpoint::sequence(vec![Answer::reset(), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    assert_eq!(bodies(&endpoint.requests()), [r#"{"n":0}"#, r#"{"n":0}"#, r#"{"n":1}"#]);
}

#[test]
fn a_keepalive_connection_that_the_server_closed_loses_nothing() {
    let endpoint = Endpoint::start(|_| Answer::status(200).closing());
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(20)), 0);
    let mut taken: Vec<u64> = endpoint.requests().iter().flat_map(|request| numbers(&request.body)).collect();
    taken.dedup();
    assert_eq!(taken, (0..20).collect::<Vec<_>>());
}

#[test]
fn an_answer_slower_than_timeout_is_tried_again() {
    let endpoint = Endpoint::sequence(vec![Answer::stall(), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "timeout": "100ms" })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests().len(), 2);
}

#[test]
fn a_success_whose_answer_breaks_off_is_a_success_all_the_same() {
    let endpoint = Endpoint::sequence(vec![Answer::status(200).body("thanks a lot").cut_after(4)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    assert_eq!(endpoint.requests().len(), 2);
}

#[test]
fn a_refused_endpoint_fails_the_messages_by_name() {
    let sink = Sink::open(&config(&refused_url(), json!({ "max_retries": 1 })));
    let batch = Batch::numbered(3).from_stream("refused").from_topic("orders").from_offset(40);
    assert_eq!(sink.consume(&batch), 1);
    let errors = logged("stream refused, topic orders, partition 1, offsets 40-42");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("ERROR 3 messages"), "{errors:?}");
    assert!(errors[0].contains("2 attempts") && errors[0].to_lowercase().contains("refused"), "{errors:?}");
}

#[test]
fn a_body_of_three_times_the_limit_arrives_as_parts() {
    for mode in ["nd_json", "json_array"] {
        let endpoint = Endpoint::answering(200);
        let sink = Sink::open(&config(
            &endpoint.url(),
            json!({ "batch_mode": mode, "max_payload_size_bytes": 1000 }),
        ));
        let batch =
            Batch::of(Schema::Json, (0..30).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(80))));
        assert_eq!(sink.consume(&batch), 0, "{mode}");
        let requests = endpoint.requests();
        assert!((3..=4).contains(&requests.len()), "{mode}: {}", requests.len());
        let mut taken = Vec::new();
        for request in &requests {
            assert!(request.body.len() <= 1000, "{mode}: {}", request.body.len());
            if mode == "json_array" {
                let array: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
                taken.extend(array.iter().map(|value| value["n"].as_u64().unwrap()));
            } else {
                taken.extend(numbers(&request.body));
            }
        }
        assert_eq!(taken, (0..30).collect::<Vec<_>>(), "{mode}");
    }
}

#[test]
fn max_batch_messages_limits_a_body() {
    let endpoint = Endpoint::answering(200);
    let sink =
        Sink::open(&config(&endpoint.url(), json!({ "batch_mode": "nd_json", "max_batch_messages": 4 })));
    assert_eq!(sink.consume(&Batch::numbered(10)), 0);
    let parts: Vec<Vec<u64>> = endpoint.requests().iter().map(|request| numbers(&request.body)).collect();
    assert_eq!(parts, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
}

#[test]
fn a_message_over_the_limit_fails_and_the_others_go_on() {
    for mode in ["individual", "nd_json", "json_array", "raw"] {
        let endpoint = Endpoint::answering(200);
        let sink =
            Sink::open(&config(&endpoint.url(), json!({ "batch_mode": mode, "max_payload_size_bytes": 60 })));
        let stream = format!("over-the-limit-{mode}");
        let payloads = [
            r#"{"n":0}"#.to_owned(),
            format!("{{\"n\":1,\"x\":\"{}\"}}", "x".repeat(60)),
            r#"{"n":2}"#.to_owned(),
        ];
        assert_eq!(sink.consume(&Batch::of(Schema::Json, payloads).from_stream(&stream)), 1, "{mode}");
        let sent = bodies(&endpoint.requests()).concat();
        assert!(
            sent.contains(r#"{"n":0}"#) && sent.contains(r#"{"n":2}"#) && !sent.contains(r#""n":1"#),
            "{mode}: {sent}"
        );
        let errors = logged(&stream);
        assert!(errors.iter().any(|line| line.contains("offsets 1 failed: too_large")), "{mode}: {errors:?}");
    }
}

#[test]
fn an_undecodable_message_fails_by_name_and_the_others_go_on() {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "batch_mode": "nd_json" })));
    let batch =
        Batch::of(Schema::Json, [&br#"{"n":0}"#[..], br#"{"n":"#, b"{\"n\":\"\xff\"}", br#"{"n":3}"#, b""]);
    assert_eq!(sink.consume(&batch.from_stream("undecodable")), 1);
    assert_eq!(numbers(&endpoint.requests()[0].body), [0, 3]);
    let failed = failures("undecodable").reasons;
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&1, &2, &4]);
    assert!(failed.values().all(|why| why.starts_with("undecodable: ")), "{failed:?}");
}

#[test]
fn answers_are_drained_so_that_one_connection_is_enough() {
    let endpoint = Endpoint::start(|_| Answer::status(200).body(vec![b'x'; 200 * 1024]));
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(50)), 0);
    assert_eq!(endpoint.requests().len(), 50);
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let endpoint = Endpoint::sequence(vec![Answer::huge(1 << 30), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    assert_eq!(endpoint.requests().len(), 2);
    assert_eq!(endpoint.connections(), 2, "the connection is given up, not the memory");
}

#[test]
fn only_the_start_of_a_long_refusal_is_logged_and_on_one_line() {
    let endpoint =
        Endpoint::start(|_| Answer::status(400).body(format!("first\nsecond{}", "x".repeat(100_000))));
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("long-refusal")), 1);
    let errors = logged("stream long-refusal");
    assert!(errors[0].contains("first\\nsecond") && errors[0].len() < 1000, "{errors:?}");
}

#[test]
fn close_gives_messages_on_their_way_their_time_and_then_settles_them() {
    let endpoint = Endpoint::start(|_| Answer::stall());
    let sink = Sink::open(&config(&endpoint.url(), json!({ "close_timeout": "200ms" })));
    let id = sink.id;
    let consuming = std::thread::spawn(move || {
        let code = sink.consume(&Batch::numbered(3).from_stream("closed-on-the-way"));
        (sink, code)
    });
    endpoint.wait_for_requests(1, Duration::from_secs(10));
    let began = Instant::now();
    assert_eq!(crate::support::plugin::plugin().close(id), 0);
    // A part of the time is kept for settling what is cut off.
    assert!(began.elapsed() >= Duration::from_millis(140), "{:?}", began.elapsed());
    let (_sink, code) = consuming.join().unwrap();
    assert_eq!(code, 1);
    let errors = logged("stream closed-on-the-way");
    assert!(errors.iter().any(|line| line.contains("offsets 0") && line.contains("closed")), "{errors:?}");
}

#[test]
fn close_ends_a_wait_for_a_retry_that_it_leaves_no_time_for() {
    let endpoint = Endpoint::start(|_| Answer::status(503).header("Retry-After", "200"));
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    let id = sink.id;
    let consuming = std::thread::spawn(move || (sink.consume(&Batch::numbered(1)), sink));
    endpoint.wait_for_requests(1, Duration::from_secs(10));
    assert_eq!(crate::support::plugin::plugin().close(id), 0);
    assert_eq!(consuming.join().unwrap().0, 1);
}
