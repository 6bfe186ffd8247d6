//! Reuses the buffers of large bodies: getting fresh memory from the system costs more than filling it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Below this size the allocator is just as good.
const LARGE: usize = 64 * 1024;

/// The maximum of idle memory, in addition to one buffer that may always be idle.
const MOST_IDLE: usize = 4 * 1024 * 1024;

/// The idle buffers of one connector.
#[derive(Debug, Clone, Default)]
pub struct Buffers {
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one used last is at the end: most of it is in the processor's cache.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// An empty buffer with room for this many bytes.
    pub(super) fn take(&self, capacity: usize) -> Vec<u8> {
        if capacity < LARGE {
            return Vec::with_capacity(capacity);
        }
        let idle = {
            let mut idle = self.lock();
            let buffer = idle.buffers.pop();
            idle.bytes -= buffer.as_ref().map_or(0, Vec::capacity);
            buffer
        };
        let mut buffer = idle.unwrap_or_default();
        if buffer.capacity() < capacity {
            // Its content need not be moved.
            buffer = Vec::new();
            buffer.reserve_exact(capacity);
        }
        buffer
    }

    /// Turns a buffer into the bytes of a body; when they are dropped, the buffer is reused.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() < LARGE {
            return Bytes::from(bytes);
        }
        Bytes::from_owner(Lent { bytes, buffers: self.clone() })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.lock();
        if idle.buffers.is_empty() || idle.bytes + buffer.capacity() <= MOST_IDLE {
            idle.bytes += buffer.capacity();
            idle.buffers.push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer with a body in it.
struct Lent {
    bytes: Vec<u8>,
    buffers: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_the_last_part_of_its_body_is_gone() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(LARGE);
        buffer.extend_from_slice(b"body");
        let address = buffer.as_ptr();
        let body = buffers.lend(buffer);
        let part = body.slice(1..3);
        drop(body);
        let other = buffers.take(LARGE);
        assert_ne!(other.as_ptr(), address);
        assert_eq!(part, "od");
        drop(part);
        let again = buffers.take(LARGE);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn what_lies_idle_is_bounded() {
        let buffers = Buffers::default();
        let bodies: Vec<Bytes> = (0..10).map(|_| buffers.lend(buffers.take(MOST_IDLE / 4))).collect();
        drop(bodies);
        assert_eq!(buffers.lock().buffers.len(), 4);
        let large = buffers.lend(buffers.take(3 * MOST_IDLE));
        drop(large);
        assert!(buffers.lock().bytes <= MOST_IDLE);
        while buffers.lock().buffers.pop().is_some() {}
        buffers.lock().bytes = 0;
        drop(buffers.lend(buffers.take(3 * MOST_IDLE)));
        assert_eq!(buffers.take(2 * MOST_IDLE).capacity(), 3 * MOST_IDLE);
        assert_eq!(buffers.lock().bytes, 0);
    }
}
