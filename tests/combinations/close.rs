//! Close settles all that consume holds.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::letters;
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, plugin},
};

#[test]
fn close_settles_four_calls_of_a_thousand_at_an_endpoint_that_hangs() {
    let endpoint = Endpoint::start(|_| Answer::stall());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters");
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "close_timeout": "4s", "concurrency": 4, "dead_letter": { "path": path },
    }));
    let (sink, codes) = thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|n| {
                let sink = &sink;
                let batch = Batch::numbered(1000).from_topic(&format!("t{n}")).from_offset(n * 1000);
                scope.spawn(move || sink.consume(&batch))
            })
            .collect();
        // Each call has begun.
        endpoint.wait_for_requests(4, Duration::from_secs(10));
        let began = Instant::now();
        assert_eq!(plugin().close(sink.id), 0);
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        let settled: BTreeSet<u64> = letters(&path).into_iter().collect();
        assert_eq!(settled, (0..4000).collect(), "when close returns");
        (&sink, calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>())
    });
    assert_eq!(codes, [0; 4], "all are dead letters, of connector {}", sink.id);
}
