//! A read-only view of the events that wait for one connection. The session reads them through it, and cannot change
//! the shard.

use super::{in_flight::EventRef, outbox::Outbox};

/// The events that were not handed to a connection's socket yet; empty if the connection has left.
#[derive(Clone, Copy)]
pub struct Waiting<'a> {
    pub(super) outbox: Option<&'a Outbox<EventRef>>,
    pub(super) boundary: fn(usize, usize) -> usize,
}

impl Waiting<'_> {
    /// See [`Outbox::copy`].
    pub fn copy(&self, budget: usize, stop: bool, out: &mut Vec<u8>) -> usize {
        self.outbox.map_or(0, |outbox| outbox.copy(budget, stop, self.boundary, out))
    }

    /// Whether another frame may be sent before the next bytes of events.
    pub fn at_boundary(&self) -> bool {
        self.outbox.is_none_or(|outbox| outbox.at_boundary(self.boundary))
    }

    /// Whether all events were handed over.
    pub fn is_drained(&self) -> bool {
        self.outbox.is_none_or(Outbox::is_empty)
    }
}
