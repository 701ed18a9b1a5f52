//! Reused byte buffers. Fresh memory costs more than anything else on the path of a large pull or push (the kernel hands
//! it out page by page), so bodies are built in buffers that go back to a pool when their last reader drops them.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// A bounded set of buffers. Cheap to clone; clones share the buffers.
#[derive(Clone, Debug)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    free: Mutex<Vec<Vec<u8>>>,
    /// Buffers kept at most; more are given back to the allocator.
    keep: usize,
    /// Buffers that grew above this many bytes are not kept.
    largest: usize,
}

/// A buffer on loan. It returns when it is dropped; as [`Bytes`], when the last clone is.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Option<Arc<Shared>>,
}

impl BufferPool {
    /// A pool that keeps at most `keep` buffers of at most `largest` bytes each.
    pub fn new(keep: usize, largest: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                free: Mutex::new(Vec::new()),
                keep,
                largest,
            }),
        }
    }

    /// An empty buffer, with room for at least `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Buffer {
        let reused = self
            .shared
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut bytes = reused.unwrap_or_default();
        bytes.reserve(capacity);
        Buffer {
            bytes,
            home: Some(Arc::clone(&self.shared)),
        }
    }
}

impl Buffer {
    /// As shared bytes, without a copy.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(home) = self.home.take() else { return };
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() == 0 || bytes.capacity() > home.largest {
            return;
        }
        bytes.clear();
        let mut free = home.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < home.keep {
            free.push(bytes);
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_gone() {
        let pool = BufferPool::new(2, 1 << 20);
        let mut buffer = pool.take(1000);
        buffer.extend_from_slice(b"abc");
        let address = buffer.as_ptr();
        let bytes = buffer.freeze();
        let clone = bytes.clone();
        drop(bytes);
        assert_ne!(pool.take(1).as_ptr(), address, "still read by the clone");
        drop(clone);
        let again = pool.take(10);
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty(), "a buffer comes back empty");
    }

    #[test]
    fn the_pool_keeps_no_more_and_no_larger_than_told() {
        let pool = BufferPool::new(1, 100);
        drop(pool.take(1000));
        assert_eq!(pool.shared.free.lock().unwrap().len(), 0);
        let (a, b) = (pool.take(10), pool.take(10));
        drop((a, b));
        assert_eq!(pool.shared.free.lock().unwrap().len(), 1);
    }
}
