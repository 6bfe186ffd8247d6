//! Numbered messages in the partitions of one topic, and how they arrive.

use serde_json::Value;

use super::server::Server;
use crate::shared::endpoint::Request;

pub const PARTITIONS: u32 = 4;

/// In all partitions together: `IGGY_MESSAGES`, or few enough for every day.
pub fn message_count() -> usize {
    std::env::var("IGGY_MESSAGES").map_or(20_000, |count| count.parse().expect("IGGY_MESSAGES is a number"))
}

/// A topic that is full of numbered messages; how many each partition has.
pub fn fill(server: &Server, stream: &str, messages: usize) -> usize {
    let each = messages / PARTITIONS as usize;
    let admin = server.admin();
    admin.create(stream, "t", PARTITIONS);
    for partition in 0..PARTITIONS {
        admin.send(stream, "t", partition, (0..each).map(|n| format!("{{\"n\":{n}}}")));
    }
    each
}

/// The partition, the offset and the number of each message in a request of mode `nd_json`.
pub fn messages(request: &Request) -> Vec<(u64, u64, u64)> {
    let body = std::str::from_utf8(&request.body).expect("text");
    let places = body.lines().map(|line| {
        let item: Value = serde_json::from_str(line).expect("JSON");
        let number = |value: &Value| value.as_u64().expect("a number");
        let metadata = &item["metadata"];
        (
            number(&metadata["iggy_partition_id"]),
            number(&metadata["iggy_offset"]),
            number(&item["payload"]["n"]),
        )
    });
    places.collect()
}
