//! Buffers that the bodies of listings are read into, used again and again.
//!
//! A body is some 300 kB, one of Azure's 3 MB, and several threads read many at a time: without
//! this each page takes that much from the allocator and gives it back, whose arenas keep some of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers that are kept; more than are read at once come from the allocator.
const MOST_KEPT: usize = 64;

/// A buffer that has grown beyond this is not kept: pages of five thousand keys are smaller.
const LARGEST_KEPT: usize = 8 << 20;

/// Bytes of all that are kept.
const MOST_BYTES: usize = 32 << 20;

/// Buffers to read into.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer with room for `capacity` bytes.
    pub(super) fn take(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.kept().pop().unwrap_or_default();
        buffer.reserve(capacity);
        buffer
    }

    /// Takes a buffer back, if nobody else has it.
    pub(super) fn give(&self, buffer: Bytes) {
        let Ok(buffer) = buffer.try_into_mut() else { return };
        let mut buffer = Vec::from(buffer);
        buffer.clear();
        let mut kept = self.kept();
        let bytes: usize = kept.iter().map(Vec::capacity).sum();
        let fits = kept.len() < MOST_KEPT && bytes + buffer.capacity() <= MOST_BYTES;
        if fits && (1..=LARGEST_KEPT).contains(&buffer.capacity()) {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_unless_it_is_in_use_or_too_large() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(1000);
        buffer.extend([1; 900]);
        let (place, body) = (buffer.as_ptr(), Bytes::from(buffer));
        let page = body.clone();
        buffers.give(body);
        assert!(buffers.kept().is_empty());
        buffers.give(page);
        let again = buffers.take(10);
        assert!(again.is_empty() && again.capacity() >= 1000 && again.as_ptr() == place);
        buffers.give(vec![0; LARGEST_KEPT + 1].into());
        buffers.give(Bytes::new());
        assert!(buffers.kept().is_empty());
        for _ in 0..MOST_KEPT {
            buffers.give(vec![0; 1 << 20].into());
        }
        assert_eq!(buffers.kept().len(), MOST_BYTES >> 20);
    }
}
