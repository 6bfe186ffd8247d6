//! What the sink knows about itself.

mod counters;

pub(crate) use counters::Counters;
