//! Bytes that no runtime sends.

use std::ptr;

use arbtest::arbtest;
use iggy_connector_sdk::host::{encode_batch, encode_metadata, encode_topic};
use iggy_connector_sdk::{BorrowedMessage, Schema};

use crate::support::{log, logged, message, metadata, new_id, original, sink, topic};

/// `u64::MAX` as a varint.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

struct Open(u32);

impl Open {
    fn new() -> Self {
        let id = new_id();
        assert_eq!(original().open(id, "null", log), 0);
        Self(id)
    }

    fn consume(&self, topic: &[u8], metadata: &[u8], messages: &[u8]) -> i32 {
        original().consume_encoded(self.0, topic, metadata, messages)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        assert_eq!(original().close(self.0), 0);
    }
}

fn buffers() -> [Vec<u8>; 3] {
    let headers = b"\x01\x01\x04aw==\x0a\x08KgAAAA==";
    let messages = [BorrowedMessage { headers, ..message(1, b"text") }, message(2, b"more text")];
    [encode_topic(&topic()), encode_metadata(&metadata(Schema::Text)), encode_batch(Schema::Text, &messages)]
}

#[test]
#[allow(unsafe_code)]
fn null_pointers_and_zero_lengths() {
    let open = Open::new();
    let [topic, metadata, messages] = buffers();
    let good = [&topic, &metadata, &messages].map(|buffer| (buffer.as_ptr(), buffer.len()));
    for place in 0..3 {
        for bad in [(ptr::null(), 0), (ptr::null(), 9), (ptr::null(), usize::MAX), (topic.as_ptr(), 0)] {
            let mut arguments = good;
            arguments[place] = bad;
            let [topic, metadata, messages] = arguments;
            // SAFETY: each pointer is null or of a buffer no shorter than the length says.
            let code = unsafe { original().consume_raw(open.0, topic, metadata, messages) };
            assert_eq!(code, -1, "{place} {bad:?}");
        }
    }
    assert_eq!(open.consume(&topic, &metadata, &messages), 0);
}

#[test]
fn truncated_anywhere() {
    let open = Open::new();
    let [topic, metadata, messages] = buffers();
    for length in 0..topic.len() {
        assert_eq!(open.consume(&topic[..length], &metadata, &messages), -1);
    }
    for length in 0..metadata.len() {
        assert_eq!(open.consume(&topic, &metadata[..length], &messages), -1);
    }
    for length in 0..messages.len() {
        assert_eq!(open.consume(&topic, &metadata, &messages[..length]), -1);
    }
    for what in ["topic metadata", "messages metadata", "messages"] {
        assert!(!logged(4, &[&sink(open.0), &format!("the {what} (1 bytes) cannot be decoded")]).is_empty());
    }
    let [topic, metadata, messages] = [topic, metadata, messages].map(|mut buffer| {
        buffer.extend(b"bytes after the value");
        buffer
    });
    assert_eq!(open.consume(&topic, &metadata, &messages), 0);
}

#[test]
fn lengths_that_lie() {
    let open = Open::new();
    let [topic, metadata, messages] = buffers();
    let of = |prefix: &[u8]| [prefix, &HUGE, b"rest"].concat();
    assert_eq!(open.consume(&of(b""), &metadata, &messages), -1);
    assert_eq!(open.consume(&of(b"\x01s"), &metadata, &messages), -1);
    assert_eq!(open.consume(&topic, &of(b"\x00"), &messages), -1);
    // The number of messages, the headers' length, the payload's.
    assert_eq!(open.consume(&topic, &metadata, &of(b"\x02")), -1);
    assert_eq!(open.consume(&topic, &metadata, &of(b"\x02\x01\x01\x01\x01\x01\x01")), -1);
    assert_eq!(open.consume(&topic, &metadata, &of(b"\x02\x01\x01\x01\x01\x01\x01\x00")), -1);
    // Inside the headers of a message: that message alone is bad.
    let wrong = [of(b""), of(b"\x01\x01"), b"\x01\x63\x04aw==".to_vec(), b"\x01\x01\x01*".to_vec()];
    for (offset, headers) in (7_001..).zip(wrong) {
        let message = BorrowedMessage { headers: &headers, ..message(offset, b"") };
        assert_eq!(open.consume(&topic, &metadata, &encode_batch(Schema::Text, &[message])), 0);
        let facts = format!("topic: created, partition: 3, schema: text, offsets: {offset}; the first: ");
        assert_eq!(logged(4, &["1 of 1 messages cannot be decoded and are left out", &facts]).len(), 1);
    }
    // An int32 of two bytes and one of none are headers all the same.
    let headers = b"\x02\x01\x04aw==\x05\x04AAA=\x01\x04bA==\x05\x00";
    let batch = encode_batch(Schema::Text, &[BorrowedMessage { headers, ..message(1, b"") }]);
    assert_eq!(open.consume(&topic, &metadata, &batch), 0);
}

#[test]
fn unknown_schema() {
    let open = Open::new();
    let [topic, _, messages] = buffers();
    assert_eq!(open.consume(&topic, &[3, 1, 6], &messages), -1);
    assert_eq!(open.consume(&topic, &[3, 1, 0xff, 0xff, 0xff, 0xff, 0x0f], &messages), -1);
}

#[test]
fn deeply_nested_json() {
    let open = Open::new();
    for depth in [100, 10_000, 1_000_000] {
        let payload = [vec![b'['; depth], vec![b']'; depth]].concat();
        let code = original().consume(open.0, &topic(), &metadata(Schema::Json), &[message(1, &payload)]);
        assert_eq!(code, 0, "{depth}");
    }
}

#[test]
fn random_bytes() {
    arbtest(|u| {
        let open = Open::new();
        let [topic, metadata, messages]: [Vec<u8>; 3] = u.arbitrary()?;
        let code = open.consume(&topic, &metadata, &messages);
        assert!(code == 0 || code == -1, "{code}");
        Ok(())
    })
    .budget_ms(300);
}

#[test]
fn flipped_bytes() {
    arbtest(|u| {
        let open = Open::new();
        let mut buffers = buffers();
        let place = u.choose_index(buffers.len())?;
        let index = u.choose_index(buffers[place].len())?;
        buffers[place][index] = u.arbitrary()?;
        let [topic, metadata, messages] = buffers;
        let code = open.consume(&topic, &metadata, &messages);
        assert!(code == 0 || code == -1, "{code}");
        Ok(())
    })
    .budget_ms(300);
}
