//! What waits for one socket below the events: plain bytes of the protocol itself, and sealed bytes that it did not
//! take.

use crate::{limits, model::Instant, transport::Inbound};
use std::time::Duration;

/// Buffers that a whole core shares: a connection holds none of its own while nothing waits for it.
#[derive(Default)]
pub struct Scratch {
    /// Plain bytes that came, or that are to be sealed.
    pub plain: Vec<u8>,
    /// Sealed bytes for the socket.
    pub wire: Vec<u8>,
    /// Messages of one reading.
    pub inbound: Vec<Inbound>,
}

impl Scratch {
    /// Empties the buffers; one that grew far over its usual size gives the memory back.
    pub(super) fn clear(&mut self) {
        for buffer in [&mut self.plain, &mut self.wire] {
            buffer.clear();
            buffer.shrink_to(SCRATCH_BYTES_KEPT);
        }
    }
}

const SCRATCH_BYTES_KEPT: usize = 256 * 1024;

/// Where a session's events come from: a view, which the caller moves on once the bytes are sealed.
pub trait Source {
    /// Appends up to `budget` bytes of what comes next to `out`; with `stop`, not beyond the end of the frame that is
    /// begun. Returns how many.
    fn copy(&self, budget: usize, stop: bool, out: &mut Vec<u8>) -> usize;
    /// Whether another frame may stand before the next bytes.
    fn at_boundary(&self) -> bool;
    /// Whether no event bytes are left.
    fn is_drained(&self) -> bool;
}

/// A source without events: an HTTP connection's.
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

/// What [`super::Session::poll_transmit`] has put into the wire buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filled {
    /// Bytes of events among it.
    pub event_bytes: usize,
}

/// The two queues of one connection, and since when the socket has taken nothing.
#[derive(Default)]
pub(super) struct Transmit {
    plain: Queue,
    sealed: Queue,
    stalled_since: Option<Instant>,
}

/// Bytes in, bytes out, and no memory while empty.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    at: usize,
}

impl Queue {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.rest().len(), "only what is there can go");
        self.at += bytes;
        if self.at >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

impl Transmit {
    /// Where plain bytes of the protocol are appended: responses, control frames.
    pub(super) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain.bytes
    }

    /// Where TLS appends what it has to say itself.
    pub(super) fn sealed(&mut self) -> &mut Vec<u8> {
        &mut self.sealed.bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.plain.rest().is_empty() && self.sealed.rest().is_empty()
    }

    /// So much waits that no more may be caused by reading.
    pub(super) fn is_congested(&self) -> bool {
        self.plain.rest().len() + self.sealed.rest().len() > limits::READ_BATCH_BYTES
    }

    /// Moves the next plain bytes into `out`: the protocol's own where a frame may begin, then events. Returns how many
    /// bytes of events there are.
    pub(super) fn fill(&mut self, events: &impl Source, out: &mut Vec<u8>) -> usize {
        let own = self.plain.rest().len();
        if own > 0 && events.at_boundary() {
            out.extend_from_slice(self.plain.rest());
            self.plain.advance(own);
        }
        events.copy(limits::WRITE_BATCH_BYTES.saturating_sub(out.len()), !self.plain.rest().is_empty(), out)
    }

    /// Moves the next plain bytes of a connection without events into `out`.
    pub(super) fn fill_own(&mut self, out: &mut Vec<u8>) -> usize {
        let step = self.plain.rest().len().min(limits::READ_BATCH_BYTES);
        out.extend_from_slice(&self.plain.rest()[..step]);
        self.plain.advance(step);
        0
    }

    /// Bytes of both queues.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.plain.rest().len() + self.sealed.rest().len()
    }

    /// Sealed bytes that the socket did not take.
    pub(super) fn backlog(&self) -> &[u8] {
        self.sealed.rest()
    }

    /// The socket took `sent` bytes of `wire`, which was not in the backlog; the rest of it is from now on.
    pub(super) fn handle_sent(&mut self, now: Instant, sent: usize, wire: &[u8]) {
        debug_assert!(self.sealed.rest().is_empty(), "records go out in the order in which they were sealed");
        if sent < wire.len() {
            self.sealed.bytes.extend_from_slice(&wire[sent..]);
            self.stalled_since = Some(now);
        }
    }

    /// The socket took `sent` bytes of the backlog.
    pub(super) fn handle_backlog_sent(&mut self, now: Instant, sent: usize) {
        self.sealed.advance(sent);
        if self.sealed.rest().is_empty() {
            self.stalled_since = None;
        } else if sent > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
    }

    /// The peer has acknowledged something: the socket has its whole deadline once more.
    pub(super) fn restart_stall(&mut self, now: Instant) {
        if self.stalled_since.is_some() {
            self.stalled_since = Some(now);
        }
    }

    /// The same moment is `from` on the core that it comes from, and `to` on this one.
    pub(super) fn handle_moved(&mut self, from: Instant, to: Instant) {
        self.stalled_since = self.stalled_since.map(|since| to - from.since(since));
    }

    /// When the socket will have taken nothing for too long.
    pub(super) fn poll_stall(&self, write_deadline: Duration) -> Option<Instant> {
        self.stalled_since.map(|since| since + write_deadline)
    }
}
