//! Small buffers that one core uses again for one kind of text, so that what an event or a response needs for a moment costs no
//! allocation.

use std::cell::RefCell;

/// Empty buffers.
#[derive(Debug, Default)]
pub struct Buffers(RefCell<Vec<Vec<u8>>>);

/// Maximum number of buffers that are kept, and bytes of each.
const KEPT: usize = 64;
const BYTES_MAX: usize = 2048;

impl Buffers {
    /// An empty buffer: a used one, or a new one without memory.
    pub fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a buffer for later, without what is in it. A large one is freed.
    pub fn put(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if (1..=BYTES_MAX).contains(&buffer.capacity()) && kept.len() < KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_what_is_kept_is_bounded() {
        let buffers = Buffers::default();
        buffers.put(b"used".to_vec());
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() > 0);
        assert_eq!(buffers.take().capacity(), 0, "there was one");
        buffers.put(Vec::with_capacity(BYTES_MAX + 1));
        assert_eq!(buffers.take().capacity(), 0, "a large one is freed");
        (0..2 * KEPT).for_each(|_| buffers.put(vec![0]));
        assert_eq!(buffers.0.borrow().len(), KEPT);
    }
}
