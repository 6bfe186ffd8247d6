//! Answers that are none, and those that only look so.

use serde_json::json;

use super::{MODES, Run, config, numbers, plain};
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, failures},
};

#[test]
fn answers_of_a_gigabyte_are_cut_off_and_count_once() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::huge(1 << 30));
        let mut run = Run::new("huge", mode, endpoint, json!({ "max_retries": 0 }));
        assert_eq!(run.send(3, plain), 0);
        run.delivered();
    }
}

#[test]
fn a_head_of_a_megabyte_is_no_answer_and_a_large_one_is() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(503).header("x-large", &"x".repeat(1 << 20)));
        let mut run = Run::new("huge-head", mode, endpoint, json!({ "max_retries": 2 }));
        assert_eq!(run.send(2, plain), 1);
        let settled = run.settled();
        let reason = &settled.failed.reasons[&0];
        assert!(reason.starts_with("retries_exhausted after 3 attempts: "), "{mode}: {reason}");

        let endpoint = Endpoint::start(|_| Answer::status(200).header("x-large", &"x".repeat(100_000)));
        let mut run = Run::new("large-head", mode, endpoint, json!({ "max_retries": 0 }));
        assert_eq!(run.send(10, plain), 0);
        run.delivered();
    }
}

#[test]
fn what_is_no_http_is_retried_and_then_fails_by_name() {
    let garbage = [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"\x00\x01\x02\x03\xff\xfe\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 99999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: minus one\r\n\r\n",
    ];
    for (number, bytes) in garbage.into_iter().enumerate() {
        for mode in MODES {
            let endpoint = Endpoint::start(move |request| {
                if request.header("x-retry-count").is_none() {
                    Answer::raw(bytes).closing()
                } else {
                    Answer::status(200)
                }
            });
            let mut run =
                Run::new(&format!("garbage-once-{number}"), mode, endpoint, json!({ "max_retries": 1 }));
            assert_eq!(run.send(5, plain), 0, "{number}: {:?}", failures(&run.stream));
            assert_eq!(run.settled_at_least_once().failed.count, 0);

            let endpoint = Endpoint::start(move |_| Answer::raw(bytes).closing());
            let sink = Sink::open(&config(&endpoint.url(), mode, json!({ "max_retries": 1 })));
            let stream = format!("garbage-{number}-{mode}");
            assert_eq!(sink.consume(&Batch::numbered(2).from_stream(&stream)), 1, "{number}");
            let failed = failures(&stream);
            assert_eq!(failed.count, 2, "{number}: {failed:?}");
            assert!(failed.reasons[&1].starts_with("retries_exhausted after 2 attempts: "), "{failed:?}");
        }
    }
}

#[test]
fn interim_answers_are_passed_over() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| {
            let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
            bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n");
            bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            Answer::raw(bytes)
        });
        let mut run = Run::new("interim", mode, endpoint, json!({ "max_retries": 0 }));
        assert_eq!(run.send(10, plain), 0, "{:?}", failures(&run.stream));
        run.delivered();
        assert_eq!(run.endpoint.connections(), 1, "{mode}");
    }
}

#[test]
fn answers_in_old_and_odd_http_are_answers() {
    let odd = [
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok",
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nno length",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nno size\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 8\r\n\r\nnot gzip",
    ];
    for (number, answer) in odd.into_iter().enumerate() {
        let endpoint = Endpoint::start(move |_| Answer::raw(answer).closing());
        let stream = format!("odd-{number}");
        let sink = Sink::open(&config(&endpoint.url(), "individual", json!({ "max_retries": 0 })));
        let code = sink.consume(&Batch::numbered(5).from_stream(&stream));
        assert_eq!(code, 0, "{answer:?}: {:?}", failures(&stream));
        let mut taken: Vec<u64> =
            endpoint.requests().iter().flat_map(|request| numbers(&request.body)).collect();
        taken.dedup();
        assert_eq!(taken, (0..5).collect::<Vec<_>>(), "{answer:?}");
    }
}

#[test]
fn a_connection_closed_without_an_answer_spends_a_retry_where_it_was_new() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::hang_up());
        let mut run =
            Run::new("hung-up", mode, endpoint, json!({ "max_retries": 2, "max_batch_messages": 1 }));
        assert_eq!(run.send(4, plain), 1);
        let settled = run.settled();
        assert_eq!((settled.exchanges.len(), settled.failed.reasons.len()), (12, 4), "{mode}");
        assert!(
            settled.failed.reasons[&0].starts_with("retries_exhausted after 3 attempts: closed"),
            "{mode}"
        );
    }
}

#[test]
fn other_statuses_are_what_the_lists_say() {
    for mode in MODES {
        for status in [101, 204, 205, 206, 300, 304, 307, 418, 451, 599, 600, 999] {
            let name = format!("status-{status}");
            let mut run = Run::new(&name, mode, Endpoint::answering(status), json!({ "max_retries": 1 }));
            let code = run.send(3, plain);
            // No settled(): 205 and 206 are success to the endpoint alone.
            let failed = failures(&run.stream);
            if status == 204 {
                assert_eq!((code, failed.count), (0, 0), "{mode}: {status}");
                continue;
            }
            assert_eq!((code, failed.count), (1, 3), "{mode}: {status}");
            let reason = &failed.reasons[&0];
            let expected = match status {
                599 => "retries_exhausted, status 599 after 2 attempts".to_owned(),
                _ => format!("rejected, status {status} after 1 attempt"),
            };
            assert!(reason.starts_with(&expected), "{mode}: {reason}");
        }
    }
}

#[test]
fn a_content_length_that_is_too_long_or_too_short_mixes_up_no_answers() {
    for mode in MODES {
        for (number, length) in ["100", "2", "0"].into_iter().enumerate() {
            let endpoint = Endpoint::start(move |request| {
                // What stands behind the end would refuse the next message.
                let answer = Answer::status(200)
                    .header("content-length", length)
                    .body("okHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
                if request.index % 2 == 0 { answer.closing() } else { answer }
            });
            let more = json!({ "timeout": "300ms", "max_retries": 1, "max_batch_messages": 1 });
            let mut run = Run::new(&format!("length-{number}"), mode, endpoint, more);
            assert_eq!(run.send(6, plain), 0, "{length}: {:?}", failures(&run.stream));
            run.delivered();
        }
    }
}
