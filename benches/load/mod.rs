//! Payloads to measure with.

/// So many JSON objects of `size` bytes, of which there are 64 at least: as many whole orders as there is room for, and a
/// note that fills the rest.
pub(crate) fn payloads(count: usize, size: usize) -> Vec<Vec<u8>> {
    let mut lines = include_str!("../../fixtures/orders.ndjson").lines().cycle();
    (0..count)
        .map(|number| {
            let mut payload = format!("{{\"number\":{number},\"orders\":[");
            let end = "],\"note\":\"\"}";
            // Orders differ in length: the next one that fits, as long as there may be one.
            while size.saturating_sub(payload.len() + end.len()) > 500 {
                let Some(line) = lines.next() else { break };
                if payload.len() + line.len() + end.len() < size {
                    payload.push_str(line);
                    payload.push(',');
                }
            }
            if payload.ends_with(',') {
                payload.pop();
            }
            payload.push_str("],\"note\":\"");
            let room = size - payload.len() - "\"}".len();
            payload.extend("please ring twice ".chars().cycle().take(room));
            payload.push_str("\"}");
            payload.into_bytes()
        })
        .collect()
}
