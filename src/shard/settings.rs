//! The settings of one shard, and how events are encoded.

use super::placement::Placement;
use crate::{
    limits,
    model::{DeliveryMode, EventType, Frame, ShardId, log::Record},
};
use std::{sync::Arc, time::Duration};

/// How an event is encoded, as functions, so that the shard does not depend on a wire format.
#[derive(Clone, Copy)]
pub struct Encoding {
    /// Encodes an event as the bytes that all connections of its gateway share, with a ping behind it if the second argument is true. The
    /// third is an empty buffer for them.
    pub encode: fn(&Record, bool, Vec<u8>) -> Frame,
    /// From the length of an encoded event and an offset in it: the end of the frame there. Another frame may follow
    /// it.
    pub boundary: fn(usize, usize) -> usize,
}

/// How the events of gateways are delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The mode of gateways that have none of their own.
    pub mode: DeliveryMode,
    /// Events that may be written to a connection and not processed, in the mode `processed`.
    pub window: u32,
    /// Types of events that a connection is not given if they lie before its gateway's last event when it connects: whole types,
    /// or their begin before a `*`.
    pub replay_skip: Arc<[String]>,
    /// Connections that end with a gateway's next event in its hands before that event is skipped.
    pub poison_connections: u32,
    /// Time that lies between the first and the last of these ends.
    pub poison_after: Duration,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            mode: DeliveryMode::Written,
            window: limits::DELIVERY_WINDOW,
            replay_skip: limits::DELIVERY_REPLAY_SKIP.iter().map(|kind| (*kind).to_owned()).collect(),
            poison_connections: limits::DELIVERY_POISON_CONNECTIONS,
            poison_after: limits::DELIVERY_POISON_AFTER,
        }
    }
}

impl Delivery {
    /// Whether an event of this type is not given to a connection for which it lies in the past.
    pub fn skips_in_replay(&self, kind: &EventType) -> bool {
        let kind = kind.as_str();
        self.replay_skip.iter().any(|skipped| match skipped.strip_suffix('*') {
            Some(begin) => kind.starts_with(begin),
            None => kind == skipped,
        })
    }
}

/// The settings of a shard.
#[derive(Clone)]
pub struct Settings {
    /// The index of this shard.
    pub id: ShardId,
    /// The owners of gateways.
    pub placement: Placement,
    /// Memory of records that connections have yet to take. Over it: the connections that need the oldest get them from
    /// the log.
    pub recent_bytes_max: usize,
    /// The same for one gateway.
    pub gateway_recent_bytes_max: usize,
    /// Maximum number of connections of one gateway; 0 for no limit.
    pub connections_per_gateway_max: usize,
    /// Time from the acceptance of a publish to its answer at the latest.
    pub publish_timeout: Duration,
    /// Connection attempts of one address in a window; 0 for no limit.
    pub rate_per_window: u32,
    /// Length of the rate limit's window.
    pub rate_window: Duration,
    /// Addresses that this shard's rate limit remembers.
    pub rate_addresses_max: usize,
    /// How events are delivered.
    pub delivery: Delivery,
    /// The encoding of events.
    pub encoding: Encoding,
}
