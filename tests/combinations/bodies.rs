//! What was sent together is sent together again, whatever was learned since.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::json;

use super::wait_until;
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::Sink,
};

#[test]
fn a_body_that_was_sent_is_not_cut_by_a_size_learned_since() {
    for ordering in ["partition", "key", "none"] {
        let learned = Arc::new(AtomicBool::new(false));
        let knows = learned.clone();
        let endpoint = Endpoint::start(move |request| {
            let text = String::from_utf8_lossy(&request.body);
            let messages = text.lines().count();
            if text.contains("\"first\"") {
                // It takes this body, but not before it has refused a smaller one for its size.
                return Answer::status(if knows.load(SeqCst) { 200 } else { 503 });
            }
            if messages > 1 {
                return Answer::status(413);
            }
            knows.store(true, SeqCst);
            Answer::status(200)
        });
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::open(&json!({
            "url": endpoint.url(), "batch_mode": "nd_json", "include_metadata": false, "ordering": ordering,
            "ordering_key": if ordering == "key" { json!("{payload:/k}") } else { json!(null) },
            "concurrency": 2, "spool": { "path": folder.path().join("spool") },
        }));
        let of = |kind: &str, count| {
            let payload = format!("{{\"k\":\"{kind}\"}}");
            let offsets: Vec<(u64, &str)> = (0..count).map(|offset| (offset, payload.as_str())).collect();
            super::messages(1, &offsets).from_topic(kind)
        };
        assert_eq!(sink.consume(&of("first", 20)), 0);
        endpoint.wait_for_requests(1, super::SOON);
        assert_eq!(sink.consume(&of("second", 8)), 0);
        let first = || {
            let exchanges = endpoint.exchanges().into_iter();
            exchanges
                .filter(|exchange| exchange.request.body.starts_with(b"{\"k\":\"first\""))
                .collect::<Vec<_>>()
        };
        wait_until(&format!("{ordering}: all arrive"), || {
            let taken =
                super::taken(&endpoint, |request| String::from_utf8_lossy(&request.body).lines().count());
            taken.iter().sum::<usize>() == 28
        });
        let keys: BTreeSet<String> = first()
            .iter()
            .map(|exchange| exchange.request.header("idempotency-key").unwrap().to_owned())
            .collect();
        let sizes: Vec<usize> = first().iter().map(|exchange| exchange.request.body.len()).collect();
        assert!(sizes.len() > 1, "{ordering}: it was sent again");
        assert_eq!(keys.len(), 1, "{ordering}: {sizes:?}");
        assert_eq!(sink.close(), 0);
    }
}
