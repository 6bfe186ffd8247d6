//! The spool: its defaults and its mistakes.

use std::{collections::BTreeMap, path::Path, time::Duration};

use iggy_connector_http_sink::config::WhenFull;
use serde_json::json;

use super::{accepted, problems};

#[test]
fn a_spool_has_defaults_of_its_own_and_waits_longer() {
    let config = accepted(&json!({ "url": "http://localhost/", "spool": { "path": "/spool" } }));
    let spool = config.spool.unwrap();
    assert_eq!((spool.path.as_path(), spool.max_bytes), (Path::new("/spool"), 1 << 30));
    assert_eq!((spool.when_full, spool.sync), (WhenFull::Block, None));
    assert_eq!((config.retry.max_retries, config.retry.max_duration), (u32::MAX, Duration::from_hours(12)));
    assert!(config.warnings.iter().any(|warning| warning.contains("[dead_letter]")), "{:?}", config.warnings);

    let config = accepted(&json!({
        "url": "http://localhost/", "max_retries": 2, "max_retry_duration": "1m", "dead_letter": { "path": "/dead" },
        "spool_path": "/spool", "spool_sync": "100ms", "spool_when_full": "dead_letter", "spool_max_bytes": "2 MiB",
    }));
    let spool = config.spool.unwrap();
    assert_eq!((spool.sync, spool.when_full), (Some(Duration::from_millis(100)), WhenFull::DeadLetter));
    assert_eq!((spool.max_bytes, config.warnings.len()), (2 << 20, 0));
    assert_eq!((config.retry.max_retries, config.retry.max_duration), (2, Duration::from_secs(60)));
}

#[test]
fn mistakes_in_a_spool_are_told_all_at_once() {
    let wrong = json!({ "max_bytes": "1 kB", "when_full": "blck", "sync": "sometimes", "fsync": true });
    let found: BTreeMap<String, String> =
        problems(&json!({ "url": "http://localhost/", "spool": wrong })).into_iter().collect();
    for (key, word) in [
        ("path", "is not given"),
        ("max_bytes", "1 MiB"),
        ("when_full", "block"),
        ("sync", "\"100ms\""),
        ("fsync", "sync"),
    ] {
        let told = &found[&format!("plugin_config.spool.{key}")];
        assert!(told.contains(word), "{key}: {told}");
    }
    let nowhere =
        json!({ "url": "http://localhost/", "spool": { "path": "/spool", "when_full": "dead_letter" } });
    let found = problems(&nowhere);
    assert!(found.len() == 1 && found[0].1.contains("[dead_letter]"), "{found:?}");
}
