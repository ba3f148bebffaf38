//! The output of one connection besides its events: plain bytes that are not sealed yet, and sealed bytes that the
//! socket has not taken.

use crate::{
    limits,
    model::{Buffers, Instant, Position},
    transport::Reading,
    wire::sealed::Sealed,
};
use std::time::Duration;

/// Buffers that all connections of a core share, so that an idle connection holds none.
#[derive(Default)]
pub struct Scratch {
    /// Plain bytes that a gateway sent, or that are to be sealed.
    pub plain: Vec<u8>,
    /// A buffer for what an HTTP connection sends. It is lent while that is handled.
    pub spare: Vec<u8>,
    /// Sealed bytes for the socket.
    pub wire: Sealed,
    /// For the messages of gateways.
    pub reading: Reading,
    /// For the responses to publishes: their bodies, and the queues in which they wait to be sealed.
    pub buffers: Buffers,
}

impl Scratch {
    /// Empties the buffers, and frees the memory beyond [`SCRATCH_BYTES_KEPT`].
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.plain.shrink_to(SCRATCH_BYTES_KEPT);
        self.wire.clear(SCRATCH_BYTES_KEPT);
    }
}

/// Bytes that an empty scratch buffer keeps.
pub(super) const SCRATCH_BYTES_KEPT: usize = 256 * 1024;

/// A connection's queued events. This is a view: the caller advances the queue once the bytes are sent.
pub trait Source {
    /// Appends up to `budget` bytes of what comes next to `out`; with `stop`, not beyond the end of the frame that is
    /// begun. Returns how many.
    fn copy(&self, budget: usize, stop: bool, out: &mut Vec<u8>) -> usize;
    /// Whether another frame may go out before the next event bytes.
    fn at_boundary(&self) -> bool;
    /// Whether no event bytes are queued.
    fn is_drained(&self) -> bool;
    /// Whether the next byte of events is the first of one.
    fn begins_event(&self) -> bool {
        false
    }
    /// The position of the last event that was handed over whole; `None` if pings name none.
    fn ping_position(&self) -> Option<Position> {
        None
    }
    /// Whether events were handed over whole that the gateway has not processed.
    fn is_processing(&self) -> bool {
        false
    }
}

/// The source of an HTTP connection, which has no events.
pub struct NoEvents;

impl Source for NoEvents {
    fn copy(&self, _: usize, _: bool, _: &mut Vec<u8>) -> usize {
        0
    }

    fn at_boundary(&self) -> bool {
        true
    }

    fn is_drained(&self) -> bool {
        true
    }
}

/// The bytes that [`super::Session::poll_transmit`] has put into the wire buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filled {
    /// Plain bytes of events among them.
    pub event_bytes: usize,
}

/// The two output queues of one connection, and since when its socket has been blocked.
#[derive(Default)]
pub(super) struct Transmit {
    /// Output of the session's own: responses and control frames.
    plain: Queue,
    /// Records that the socket has not taken.
    sealed: Queue,
    /// Since when the socket has taken none of the sealed bytes.
    stalled_since: Option<Instant>,
    /// Bytes that the socket has taken.
    sent_bytes: u64,
}

/// A queue of bytes, which holds no memory once it is empty.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    at: usize,
    /// Its memory is one of the core's buffers.
    is_lent: bool,
}

impl Queue {
    fn unsent(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Removes the first bytes. Returns its memory once it is empty, if that was lent.
    fn advance(&mut self, bytes: usize) -> Option<Vec<u8>> {
        debug_assert!(bytes <= self.unsent().len(), "at most the queued bytes are sent");
        self.at += bytes;
        let emptied = (self.at >= self.bytes.len()).then(|| std::mem::take(self))?;
        emptied.is_lent.then_some(emptied.bytes)
    }
}

impl Transmit {
    /// The buffer to which responses and control frames are appended.
    pub(super) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain.bytes
    }

    /// A response follows. Lends the queue one of the core's buffers if it has no memory; not if the response does not allow that, because it
    /// may have a token in it, and then the memory that is lent already does not go back.
    pub(super) fn lend(&mut self, buffers: &Buffers, reuses: bool) {
        if !reuses {
            self.plain.is_lent = false;
        } else if self.plain.bytes.capacity() == 0 {
            (self.plain.bytes, self.plain.is_lent) = (buffers.take(), true);
        }
    }

    /// The buffer to which TLS appends its own records: handshake, alerts.
    pub(super) fn sealed(&mut self) -> &mut Vec<u8> {
        &mut self.sealed.bytes
    }

    /// Whether both queues are empty.
    pub(super) fn is_empty(&self) -> bool {
        self.plain.unsent().is_empty() && self.sealed.unsent().is_empty()
    }

    /// Whether more output waits than [`limits::READ_BATCH_BYTES`]: nothing is read until it is less.
    pub(super) fn is_congested(&self) -> bool {
        self.plain.unsent().len() + self.sealed.unsent().len() > limits::READ_BATCH_BYTES
    }

    /// Moves the next plain bytes into `out`: the protocol's own where a frame may begin, then events. Returns how many
    /// bytes of events there are.
    pub(super) fn fill(&mut self, events: &impl Source, out: &mut Vec<u8>, buffers: &Buffers) -> usize {
        let own = self.plain.unsent().len();
        if own > 0 && events.at_boundary() {
            out.extend_from_slice(self.plain.unsent());
            self.advance_plain(own, buffers);
        }
        // If output of our own is left, `copy` stops at the end of the current frame, and the output follows there.
        events.copy(limits::WRITE_BATCH_BYTES.saturating_sub(out.len()), !self.plain.unsent().is_empty(), out)
    }

    /// Moves the next plain bytes of a connection without events into `out`. Returns 0, the bytes of events.
    pub(super) fn fill_own(&mut self, out: &mut Vec<u8>, buffers: &Buffers) -> usize {
        let step = self.plain.unsent().len().min(limits::READ_BATCH_BYTES);
        out.extend_from_slice(&self.plain.unsent()[..step]);
        self.advance_plain(step, buffers);
        0
    }

    fn advance_plain(&mut self, bytes: usize, buffers: &Buffers) {
        if let Some(buffer) = self.plain.advance(bytes) {
            buffers.put(buffer);
        }
    }

    /// Bytes of both queues.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.plain.unsent().len() + self.sealed.unsent().len()
    }

    /// Sealed bytes that the socket has not taken.
    pub(super) fn backlog(&self) -> &[u8] {
        self.sealed.unsent()
    }

    /// The socket took the first `sent` bytes of `wire`. The others become the backlog.
    pub(super) fn handle_sent(&mut self, now: Instant, sent: usize, wire: &[u8]) {
        self.sent_bytes += sent as u64;
        debug_assert!(self.sealed.unsent().is_empty(), "records go out in the order in which they were sealed");
        if sent < wire.len() {
            // Only what the socket refused is copied: in the usual case it takes all, and nothing is.
            self.sealed.bytes.extend_from_slice(&wire[sent..]);
            self.stalled_since = Some(now);
        }
    }

    /// The socket took the first `sent` bytes of the backlog.
    pub(super) fn handle_backlog_sent(&mut self, now: Instant, sent: usize) {
        self.sent_bytes += sent as u64;
        let lent = self.sealed.advance(sent);
        debug_assert!(lent.is_none(), "only the queue of responses is lent memory");
        if self.sealed.unsent().is_empty() {
            self.stalled_since = None;
        } else if sent > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
    }

    /// Bytes that the socket has taken since the connection began.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// The peer has acknowledged bytes: the write deadline begins anew.
    pub(super) fn restart_stall(&mut self, now: Instant) {
        if self.stalled_since.is_some() {
            self.stalled_since = Some(now);
        }
    }

    /// Converts the stall to the clock of another core: the same moment is `from` on the old core and `to` on this one.
    pub(super) fn handle_moved(&mut self, from: Instant, to: Instant) {
        self.stalled_since = self.stalled_since.map(|since| to - from.since(since));
    }

    /// When the write deadline passes; `None` while the socket is not blocked.
    pub(super) fn poll_stall(&self, write_deadline: Duration) -> Option<Instant> {
        self.stalled_since.map(|since| since + write_deadline)
    }
}
