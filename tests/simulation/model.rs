//! Messages and batches, and how the endpoint takes to them.

use std::{collections::BTreeMap, fmt};

use iggy_connector_sdk::{HeaderKey, HeaderValue, encode_headers};

use super::{
    added::{NAME, TENANT},
    random::Random,
};

/// A message: its topic, the partition that it is really of, and its offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) topic: u8,
    pub(super) partition: u32,
    pub(super) offset: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", topic_name(self.topic), self.partition, self.offset)
    }
}

/// What begins the name of a message in a payload.
const MARK: &str = "\"m\":\"";

impl Id {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let topic = parts.next()?.bytes().next()? - b'a';
        Some(Self { topic, partition: parts.next()?.parse().ok()?, offset: parts.next()?.parse().ok()? })
    }

    /// The messages in a body, whatever its form, in their order.
    pub(super) fn all_in(body: &[u8]) -> Vec<Self> {
        let name = |at: usize| {
            let rest = &body[at + MARK.len()..];
            let end = memchr::memchr(b'"', rest)?;
            Self::parse(str::from_utf8(&rest[..end]).ok()?)
        };
        memchr::memmem::find_iter(body, MARK).filter_map(name).collect()
    }
}

pub(super) fn topic_name(topic: u8) -> char {
    char::from(b'a' + topic)
}

/// How the endpoint takes to a message, whatever else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Good,
    /// Its payload is not what its schema says.
    Undecodable,
    /// A body with it is refused with a status that says that some message is bad.
    Bad(u16),
    /// A body with it is refused for good.
    Rejected(u16),
    /// A body with it gets this status, which may pass but never does.
    Stuck(u16),
    /// A body with it gets 429 and `Retry-After: 1`, for ever.
    Throttled,
    /// A body with it is too large.
    TooLarge,
    /// A body with it gets no answer.
    Unanswered,
}

impl Nature {
    /// One that is not good.
    pub(super) fn any(random: &mut Random) -> Self {
        match random.between(0, 11) {
            0..=2 => Self::Stuck(500),
            3 => Self::Stuck(503),
            4 => Self::Throttled,
            5 | 6 => Self::Bad(if random.percent(50) { 400 } else { 422 }),
            7 => Self::Rejected([401, 403, 404, 409][random.between(0, 3) as usize]),
            8 => Self::TooLarge,
            9 => Self::Unanswered,
            _ => Self::Undecodable,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: Id,
    pub(super) key: u64,
    pub(super) nature: Nature,
    /// Empty where it is a tombstone: its name is in a header then.
    pub(super) payload: Vec<u8>,
    /// A header that is sent with it, where it has one.
    pub(super) tenant: Option<String>,
}

impl Message {
    pub(super) fn new(id: Id, key: u64, nature: Nature, size: usize) -> Self {
        let padding = "x".repeat(size);
        // What requests can be told apart by that has nothing to do with keys.
        let group = size % 3;
        let mut payload =
            format!("{{{MARK}{id}\",\"k\":\"{key}\",\"g\":{group},\"p\":\"{padding}\"}}").into_bytes();
        if nature == Nature::Undecodable {
            payload.pop();
        }
        Self { id, key, nature, payload, tenant: None }
    }
}

impl Message {
    /// Whether its key cannot be read.
    pub(super) fn has_no_key(&self) -> bool {
        self.nature == Nature::Undecodable || self.payload.is_empty()
    }

    /// Its headers as they are handed over.
    pub(super) fn headers(&self) -> Vec<u8> {
        let name = self.payload.is_empty().then(|| self.id.to_string());
        let headers = [(TENANT, self.tenant.clone()), (NAME, name)];
        let headers = headers.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let headers: BTreeMap<HeaderKey, HeaderValue> = headers
            .map(|(key, value)| (HeaderKey::try_from(key).unwrap(), HeaderValue::try_from(&*value).unwrap()))
            .collect();
        if headers.is_empty() { Vec::new() } else { encode_headers(&headers) }
    }
}

/// What one call of consume brings.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The partition of its last message.
    pub(super) label: u32,
    pub(super) messages: Vec<Message>,
    /// What passes before the call, in milliseconds.
    pub(super) pause: u64,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.messages.iter().map(|message| message.id.to_string()).collect();
        write!(f, "label {}, {}", self.label, ids.join(" "))
    }
}

impl Batch {
    /// Whether it holds messages of another partition than that of its last one.
    pub(super) fn mixes(&self) -> bool {
        self.messages.iter().any(|message| message.id.partition != self.label)
    }
}
