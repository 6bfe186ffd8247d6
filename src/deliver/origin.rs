//! Where messages come from.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use twox_hash::XxHash3_64;

/// The origin of messages, which is the same for all messages of a lane. It lets the breaker distinguish an endpoint that is
/// down from one that refuses the messages of a single lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin(pub(in crate::deliver) u64);

impl Origin {
    /// The origin of the messages of one partition of a topic.
    pub(crate) fn of_partition(stream: &str, topic: &str, partition: u32) -> Self {
        let of_stream = XxHash3_64::oneshot_with_seed(partition.into(), stream.as_bytes());
        Self(XxHash3_64::oneshot_with_seed(of_stream, topic.as_bytes()))
    }

    /// An origin that no other lane has.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}
