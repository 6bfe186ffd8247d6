//! Spans, built when an attempt ends.

use std::time::SystemTime;

use crate::request::TraceContext;

/// A name and its value.
pub(super) type Attribute = (&'static str, Value);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(u64),
}

/// A finished attempt.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) state: Option<String>,
    pub(super) name: &'static str,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) attributes: Vec<Attribute>,
    /// Why, if it failed.
    pub(super) failure: Option<String>,
    /// The spans of other traces that it also belongs to.
    pub(super) links: Vec<TraceContext>,
    /// How many there were beyond [`LINKS`](super::LINKS).
    pub(super) links_left_out: u32,
}
