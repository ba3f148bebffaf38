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
        let copied: Result<(), ()> = self.append(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        debug_assert!(copied.is_ok());
    }

    /// Lets `put` write into room for up to `most` bytes behind its end, and appends as many as that returns.
    ///
    /// # Errors
    /// That of `put`; nothing is appended then.
    pub fn append<E>(&mut self, most: usize, put: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        let end = self.bytes + most;
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        let written = put(&mut self.memory[self.bytes..end])?;
        debug_assert!(written <= most);
        self.bytes += written;
        Ok(())
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
        let put = |room: &mut [u8]| {
            room[..2].copy_from_slice(b"tw");
            Ok::<_, ()>(2)
        };
        assert_eq!(sealed.append(10, put), Ok(()));
        assert_eq!(&*sealed, b"onetw");
        sealed.clear(8);
        assert!(sealed.is_empty() && sealed.memory.capacity() <= 8);
        assert_eq!(sealed.append(2, |room| Err(room.len())), Err(2), "no more room than asked for");
        assert!(sealed.is_empty());
    }
}
