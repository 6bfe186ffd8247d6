//! The sink that the documentation teaches.

use std::fs;

use iggy_connector_sdk::Schema;
use iggy_connector_sdk::host::Plugin;
use serde_json::json;

use crate::support::{example, log, logged, message, metadata, new_id, sink, topic};

#[test]
fn the_documentation_shows_it_as_it_stands() {
    let source = include_str!("../../examples/file_sink.rs");
    let document = include_str!("../../../docs/sdk.md");
    assert!(document.contains(&format!("```rust\n{source}```")), "docs/sdk.md shows another file_sink.rs");
}

#[test]
fn it_takes_batches_and_ends() {
    let plugin = Plugin::load(&example("file_sink")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.ndjson");
    fs::write(&path, "before\n").unwrap();
    let id = new_id();
    assert_eq!(plugin.open(id, &json!({"path": path}).to_string(), log), 0);
    let messages = [message(0, br#"{"n": 1}"#), message(1, b"{"), message(2, b"[2]")];
    assert_eq!(plugin.consume(id, &topic(), &metadata(Schema::Json), &messages), 0);
    assert_eq!(plugin.consume(id, &topic(), &metadata(Schema::Text), &[message(3, b"three")]), 0);
    assert_eq!(plugin.close(id), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\n{\"n\":1}\n[2]\nthree\n");
}

#[test]
fn it_says_why_it_does_not_open() {
    let plugin = Plugin::load(&example("file_sink")).unwrap();
    let (config, path) = (new_id(), new_id());
    assert_eq!(plugin.open(config, r#"{"path": "a", "paht": "b"}"#, log), -1);
    assert_eq!(logged(4, &[&sink(config), "unknown field `paht`"]).len(), 1);
    assert_eq!(plugin.open(path, r#"{"path": "/"}"#, log), 1);
    assert_eq!(logged(4, &[&sink(path), "/: Is a directory"]).len(), 1);
}
