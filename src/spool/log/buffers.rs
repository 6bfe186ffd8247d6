//! Reuses the memory of records.

use std::sync::{Mutex, PoisonError};

/// How many buffers for records are kept, and the largest size that is kept.
const BUFFERS: (usize, usize) = (4, 4 * 1024 * 1024);

/// The idle buffers.
#[derive(Debug, Default)]
pub(in crate::spool) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// Memory for a record.
    pub(in crate::spool) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps the memory of a record for another.
    pub(in crate::spool) fn give_back(&self, buffer: Vec<u8>) {
        let (count, bytes) = BUFFERS;
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < count && buffer.capacity() <= bytes {
            buffers.push(buffer);
        }
    }
}
