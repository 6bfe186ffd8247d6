//! The keys of bodies: mode, envelope and limits.

use std::num::NonZeroUsize;

use super::{BatchMode, BodyConfig, reader::Reader};

pub(super) fn read(keys: &mut Reader<'_>) -> BodyConfig {
    let max_bytes = keys.size("max_payload_size_bytes", 10_485_760);
    BodyConfig {
        mode: keys.choice("batch_mode", BatchMode::Individual),
        include_metadata: keys.boolean("include_metadata", true),
        include_checksum: keys.boolean("include_checksum", false),
        include_origin_timestamp: keys.boolean("include_origin_timestamp", false),
        max_bytes: match max_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        },
        max_messages: NonZeroUsize::new(keys.integer("max_batch_messages", 0..=usize::MAX, 0)),
        target: None,
        form: None,
        compression: super::request::read_compression(keys),
        tombstone_method: keys.optional_choice("tombstone_method"),
    }
}
