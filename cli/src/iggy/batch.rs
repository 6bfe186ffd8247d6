//! Messages of one partition in the plugin's form.

use std::collections::BTreeMap;

use iggy::prelude::{IggyMessage, PolledMessages};
use iggy_connector_sdk::{
    BorrowedMessage, HeaderKey, HeaderKind, HeaderValue, MessagesMetadata, Schema, TopicMetadata,
    host::encode_headers,
};

use crate::host::OpenPlugin;

/// The messages of one or several polls: at least one, all of one partition, in order.
#[derive(Debug)]
pub(super) struct Batch {
    partition: u32,
    /// The last offset in the partition.
    current_offset: u64,
    messages: Vec<IggyMessage>,
    /// The headers of each message, in the plugin's form.
    headers: Vec<Vec<u8>>,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Whether more may wait behind it.
    pub(super) goes_on: bool,
}

/// The approximate size of a message in a body without its payload.
const FRAME: usize = 64;

impl Batch {
    /// Creates a batch from a poll for `most` messages; `None` if there were none.
    pub(super) fn new(partition: u32, polled: PolledMessages, most: usize) -> Option<Self> {
        let (first, last) = (polled.messages.first()?.header.offset, polled.messages.last()?.header.offset);
        let headers = polled.messages.iter().map(headers).collect();
        let PolledMessages { current_offset, messages, .. } = polled;
        let goes_on = messages.len() >= most;
        Some(Self { partition, current_offset, messages, headers, first, last, goes_on })
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Their approximate size in a body, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.payload.len() + FRAME).sum()
    }

    /// Appends messages that were polled after it.
    pub(super) fn append(&mut self, behind: Self) {
        self.messages.extend(behind.messages);
        self.headers.extend(behind.headers);
        (self.current_offset, self.last) = (behind.current_offset, behind.last);
        self.goes_on = behind.goes_on;
    }

    /// Passes them to the plugin unchanged. Returns what consume returned.
    pub(super) fn consume(&self, plugin: &OpenPlugin, topic: &TopicMetadata, schema: Schema) -> i32 {
        let messages: Vec<BorrowedMessage<'_>> = self
            .messages
            .iter()
            .zip(&self.headers)
            .map(|(message, headers)| BorrowedMessage {
                id: message.header.id,
                offset: message.header.offset,
                checksum: message.header.checksum,
                timestamp: message.header.timestamp,
                origin_timestamp: message.header.origin_timestamp,
                headers,
                payload: &message.payload,
            })
            .collect();
        let metadata =
            MessagesMetadata { partition_id: self.partition, current_offset: self.current_offset, schema };
        plugin.consume(topic, &metadata, &messages)
    }
}

/// Returns the headers of a message in the plugin's form. Headers that cannot be read are left out, as in the runtime: the
/// message itself is intact.
fn headers(message: &IggyMessage) -> Vec<u8> {
    let Ok(Some(found)) = message.user_headers_map() else { return Vec::new() };
    let headers: BTreeMap<HeaderKey, HeaderValue> = found
        .iter()
        .filter_map(|(key, value)| {
            let key = HeaderKey::from_raw(kind(key.kind()), key.as_bytes()).ok()?;
            Some((key, HeaderValue::from_raw(kind(value.kind()), value.as_bytes()).ok()?))
        })
        .collect();
    encode_headers(&headers)
}

fn kind(kind: iggy::prelude::HeaderKind) -> HeaderKind {
    use iggy::prelude::HeaderKind as Theirs;
    match kind {
        Theirs::Raw => HeaderKind::Raw,
        Theirs::String => HeaderKind::String,
        Theirs::Bool => HeaderKind::Bool,
        Theirs::Int8 => HeaderKind::Int8,
        Theirs::Int16 => HeaderKind::Int16,
        Theirs::Int32 => HeaderKind::Int32,
        Theirs::Int64 => HeaderKind::Int64,
        Theirs::Int128 => HeaderKind::Int128,
        Theirs::Uint8 => HeaderKind::Uint8,
        Theirs::Uint16 => HeaderKind::Uint16,
        Theirs::Uint32 => HeaderKind::Uint32,
        Theirs::Uint64 => HeaderKind::Uint64,
        Theirs::Uint128 => HeaderKind::Uint128,
        Theirs::Float32 => HeaderKind::Float32,
        Theirs::Float64 => HeaderKind::Float64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_kinds_and_bytes() {
        let theirs = BTreeMap::from([
            (
                iggy::prelude::HeaderKey::try_from("trace").unwrap(),
                iggy::prelude::HeaderValue::try_from(vec![1, 2]).unwrap(),
            ),
            (7_u32.into(), (-1_i64).into()),
        ]);
        let message =
            IggyMessage::builder().payload("x".into()).user_headers(theirs).build().expect("a message");
        let ours = BTreeMap::from([
            (
                HeaderKey::from_raw(HeaderKind::String, b"trace").unwrap(),
                HeaderValue::from_raw(HeaderKind::Raw, &[1, 2]).unwrap(),
            ),
            (7_u32.into(), (-1_i64).into()),
        ]);
        assert_eq!(headers(&message), encode_headers(&ours));
        let bare = IggyMessage::builder().payload("x".into()).build().expect("a message");
        assert!(headers(&bare).is_empty());
    }
}
