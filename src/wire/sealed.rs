//! Sealed bytes for one write.

use std::ops::Deref;

/// A buffer whose memory stays initialised when it is emptied: rustls writes into a slice only, and setting 10 KB to zero for each
/// delivery of as much costs a percent of it.
#[derive(Default)]
pub struct Sealed {
    memory: Vec<u8>,
    bytes: usize,
}

impl Sealed {
    /// Empties it, and frees the memory beyond `kept` bytes.
    pub fn clear(&mut self, kept: usize) {
        self.bytes = 0;
        if self.memory.len() > kept {
            self.memory.truncate(kept);
            self.memory.shrink_to_fit();
        }
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.append(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            bytes.len()
        });
    }

    /// Lets `put` write into room for up to `most` bytes behind its end, and appends as many as that returns.
    pub fn append(&mut self, most: usize, put: impl FnOnce(&mut [u8]) -> usize) {
        let end = self.bytes + most;
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        let written = put(&mut self.memory[self.bytes..end]);
        debug_assert!(written <= most);
        self.bytes += written;
    }
}

impl Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_appended_and_keeps_bounded_memory() {
        let mut sealed = Sealed::default();
        sealed.extend_from_slice(b"one");
        sealed.append(10, |room| {
            room[..2].copy_from_slice(b"tw");
            2
        });
        assert_eq!(&*sealed, b"onetw");
        sealed.clear(8);
        assert!(sealed.is_empty() && sealed.memory.capacity() <= 8);
        sealed.append(2, |room| {
            assert_eq!(room.len(), 2, "no more room than asked for");
            0
        });
        assert!(sealed.is_empty());
    }
}
