//! What came to the simulation after the rest. Its chance is its own, so that a seed decides the rest as it did before.

use serde_json::{Value, json};

use super::{
    model::{Batch, Message, Nature, topic_name},
    random::Random,
};

/// The headers of messages that are sent with their requests: one that some share, and the name of a message without a payload.
pub(super) const TENANT: &str = "tenant";
pub(super) const NAME: &str = "name";

/// Adds to a configuration, which may get a token as well, and to its batches.
pub(super) fn add(random: &mut Random, config: &mut Value, batches: &mut [Vec<Batch>], token: bool) {
    let spool = config.get("spool").is_some();
    let fills = matches!(config.get("batch_mode").and_then(Value::as_str), Some("nd_json" | "json_array"));
    if spool && fills && random.percent(40) {
        let linger = ["20ms", "300ms", "3s"][usize::try_from(random.between(0, 2)).unwrap()];
        config["linger"] = json!(linger);
    }
    if spool && random.percent(8) {
        fill_the_spool(random, config, batches);
    }
    let (tenants, tombstones) = (random.percent(15), random.percent(15));
    if tenants || tombstones {
        config["forward_headers"] = json!([TENANT, NAME]);
    }
    if tombstones {
        config["tombstone_method"] = json!("DELETE");
    }
    for message in batches.iter_mut().flatten().flat_map(|batch| &mut batch.messages) {
        if tenants && random.percent(70) {
            message.tenant = Some(format!("tenant-{}", random.between(1, 2)));
        }
        if tombstones && message.nature != Nature::Undecodable && random.percent(15) {
            message.payload.clear();
        }
    }
    // A route with a url of its own has not the headers of the connector, nor its way to read answers.
    if config.get("headers").is_none() && !token && random.percent(12) {
        leave_topics_out(random.between(0, batches.len() as u64 - 1), config);
    } else if fills && random.percent(25) {
        config["response"] = json!({ "items": "/items", "item_status": "/status" });
    }
}

/// More than there is room for, of messages that take some.
fn fill_the_spool(random: &mut Random, config: &mut Value, batches: &mut [Vec<Batch>]) {
    config["spool"]["max_bytes"] = json!("1 MiB");
    if config.get("max_retry_duration").is_none() {
        config["max_retry_duration"] = json!("2m");
    }
    for message in batches.iter_mut().flatten().flat_map(|batch| &mut batch.messages) {
        let size = usize::try_from(random.between(2_000, 20_000)).unwrap();
        *message = Message::new(message.id, message.key, message.nature, size);
    }
}

/// Only this many of the topics have a route.
fn leave_topics_out(routed: u64, config: &mut Value) {
    let url = config.as_object_mut().unwrap().remove("url");
    let route = |topic| json!({ "topic": topic_name(topic).to_string(), "url": url });
    config["routes"] = (0..u8::try_from(routed).unwrap()).map(route).collect();
    if routed == 0 {
        config["routes"] = json!([{ "topic": "of nobody", "url": url }]);
    }
}
