//! The bytes that a connection has received in its HTTP stage and not parsed yet.
//!
//! While a read is handled they are in a buffer of the core, so a request that came whole is parsed where TLS has opened
//! it. What is left then is put aside, into a buffer of the connection's own.

use super::transmit::SCRATCH_BYTES_KEPT;
use zeroize::{Zeroize, Zeroizing};

/// Received bytes. They may contain a key, so no copy of them may stay in memory: neither where they were before they moved
/// to the front, nor in a buffer that became too small.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Bytes at the front that are parsed already.
    used: usize,
    /// `bytes` is the core's buffer.
    is_lent: bool,
}

impl Input {
    /// The bytes that are not parsed yet.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// The buffer for new bytes, which can take `most` without growing: `spare`, the core's, if nothing is pending.
    pub(super) fn receive(&mut self, most: usize, spare: &mut Vec<u8>) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = std::mem::take(spare);
            self.is_lent = true;
        }
        self.move_to_front();
        let needed = self.bytes.len() + most;
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.bytes.len()));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        &mut self.bytes
    }

    fn move_to_front(&mut self) {
        let used = std::mem::take(&mut self.used);
        if used > 0 {
            let pending = self.bytes.len() - used;
            self.bytes.copy_within(used.., 0);
            self.bytes[pending..].zeroize();
            self.bytes.truncate(pending);
        }
    }

    /// Marks bytes as parsed. A buffer of the connection's own is freed once all of it is, not shifted after each of many
    /// pipelined requests.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        debug_assert!(self.used <= self.bytes.len(), "only what was received is parsed");
        if self.pending().is_empty() && !self.is_lent {
            *self = Self::default();
        }
    }

    /// Overwrites the first pending bytes, which contain a key.
    pub(super) fn erase_front(&mut self, bytes: usize) {
        self.bytes[self.used..self.used + bytes].zeroize();
    }

    /// Overwrites and drops all bytes.
    pub(super) fn erase(&mut self) {
        self.bytes[..].zeroize();
        self.used = self.bytes.len();
        self.consume(0);
    }

    /// The pending bytes, which leave it. Nothing stays here.
    pub(super) fn take(&mut self) -> Zeroizing<Vec<u8>> {
        let pending = Zeroizing::new(self.pending().to_vec());
        self.erase();
        pending
    }

    /// Gives the core its buffer back, and keeps what is pending. With `is_secret` there may be a key in the buffer.
    pub(super) fn put_aside(&mut self, is_secret: bool, spare: &mut Vec<u8>) {
        if !self.is_lent {
            return;
        }
        let own = Self { bytes: self.pending().to_vec(), ..Self::default() };
        let mut lent = std::mem::replace(self, own).bytes;
        if is_secret {
            // Only what was received, not the whole buffer.
            lent[..].zeroize();
        }
        lent.clear();
        lent.shrink_to(SCRATCH_BYTES_KEPT);
        *spare = lent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(input: &mut Input, bytes: &[u8], spare: &mut Vec<u8>) {
        input.receive(bytes.len(), spare).extend_from_slice(bytes);
    }

    #[test]
    fn what_came_whole_leaves_the_cores_buffer_and_no_memory() {
        let (mut input, mut spare) = (Input::default(), Vec::with_capacity(64));
        let buffer = spare.as_ptr();
        receive(&mut input, b"request", &mut spare);
        assert_eq!((input.pending(), spare.capacity()), (&b"request"[..], 0), "the buffer is lent");
        input.consume(7);
        input.put_aside(false, &mut spare);
        assert_eq!((spare.as_ptr(), spare.len(), input.bytes.capacity()), (buffer, 0, 0));
    }

    #[test]
    fn what_is_pending_is_put_aside_and_continued() {
        let (mut input, mut spare) = (Input::default(), Vec::with_capacity(64));
        receive(&mut input, b"first sec", &mut spare);
        input.consume(6);
        input.put_aside(true, &mut spare);
        assert_eq!(input.pending(), b"sec");
        let lent = spare.clone();
        receive(&mut input, b"ond", &mut spare);
        assert_eq!((input.pending(), &spare), (&b"second"[..], &lent), "it has a buffer of its own");
        input.put_aside(true, &mut spare);
        assert_eq!(input.pending(), b"second");
        input.consume(6);
        assert_eq!(input.bytes.capacity(), 0);
    }

    #[test]
    fn pipelined_requests_move_to_the_front() {
        let (mut input, mut spare) = (Input::default(), Vec::new());
        receive(&mut input, b"aaabbb", &mut spare);
        input.consume(3);
        receive(&mut input, b"ccc", &mut spare);
        assert_eq!(input.pending(), b"bbbccc");
        assert_eq!(input.take().as_slice(), b"bbbccc");
        assert!(input.pending().is_empty());
        assert!(input.bytes.iter().all(|byte| *byte == 0), "they may have a key in them");
    }
}
