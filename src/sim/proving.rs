//! What the oracle knows about the delivery `processed`: the events in flight on each connection, and what each gateway has handled.

use crate::model::{DeliveryMode, Instant};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One connection.
#[derive(Default, Debug)]
pub(super) struct Proving {
    /// How its events are delivered; `None` if the delivery was perhaps changed around its connect.
    pub(super) mode: Option<DeliveryMode>,
    /// Its gateway has had this delivery since then.
    pub(super) since: Instant,
    /// When it began, at the latest: some types are not delivered late, that is, if they were published before.
    pub(super) begun: Option<Instant>,
    /// What pongs had proved of its gateway when the hub read its request.
    pub(super) floor: u64,
    /// Events that are whole on the wire, each with its time, and that no pong has answered.
    pub(super) in_flight: VecDeque<(u64, Instant)>,
    /// Events that a pong has answered while the socket was blocked: the hub may not have taken their pings for written.
    pub(super) doubtful: Vec<u64>,
    /// The last event that a ping has named.
    pub(super) pinged: u64,
    /// When a pong last proved something.
    pub(super) proved_at: Option<Instant>,
    /// Pongs on their way: where each ends in the peer's stream, and the offset that it names.
    pub(super) pongs: VecDeque<(u64, u64)>,
    /// The event that was just written whole; the peer takes it with the message.
    pub(super) last_event: Option<u64>,
    /// All its events up to here are handled.
    pub(super) handled: u64,
}

impl Proving {
    pub(super) fn is_processed(&self) -> bool {
        self.mode == Some(DeliveryMode::Processed)
    }

    /// The first event in flight, and since when the gateway can be at work on it.
    pub(super) fn first(&self) -> Option<(u64, Instant)> {
        let (offset, written) = *self.in_flight.front()?;
        Some((offset, self.proved_at.map_or(written, |at| at.max(written))))
    }
}

/// All gateways, by their index in the roster.
#[derive(Default, Debug)]
pub(super) struct Handled {
    /// Events that were handled: gateway and offset.
    pub(super) events: BTreeSet<(usize, u64)>,
    /// The highest offset that a pong has proved to the hub.
    pub(super) proved: BTreeMap<usize, u64>,
    /// For each event the connections that have ended with it in flight, and when.
    pub(super) attempts: BTreeMap<(usize, u64), BTreeMap<usize, Instant>>,
    /// Connections that had not handled an event when its publisher was told that all have: right if they were closing already.
    pub(super) doubts: Vec<(usize, Instant, String)>,
}
