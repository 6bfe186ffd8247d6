//! Idempotency keys: the same for the same messages, however often they are sent.

use iggy_connector_sdk::BorrowedMessage;
use ring::digest::{Context, SHA256};

/// Returns the origin of messages, as used in their keys.
pub(crate) fn origin(stream: &str, topic: &str, partition: u32) -> String {
    // Each call of consume passes here, and formatting machinery costs more than the text itself.
    [stream, "\0", topic, "\0", itoa::Buffer::new().format(partition), "\0"].concat()
}

/// The idempotency key of a body that holds one message alone.
pub(crate) fn single_key(stream: &str, topic: &str, partition: u32, message: &BorrowedMessage<'_>) -> String {
    key(&origin(stream, topic, partition), [(message.offset, message.id)])
}

/// The idempotency key of a body with these messages, by offset and id.
pub(crate) fn key(origin: &str, messages: impl IntoIterator<Item = (u64, u128)>) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(origin.as_bytes());
    for (offset, id) in messages {
        digest.update(&offset.to_le_bytes());
        digest.update(&id.to_le_bytes());
    }
    let mut key = String::with_capacity(32);
    for byte in &digest.finish().as_ref()[..16] {
        for digit in [byte >> 4, byte & 15] {
            key.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    key
}
