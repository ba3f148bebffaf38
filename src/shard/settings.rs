//! The settings of one shard, and how events are encoded.

use crate::model::{Event, Position, ShardId, Timestamp};
use bytes::Bytes;
use std::time::Duration;

/// How an event is encoded, as functions, so that the shard does not depend on a wire format.
#[derive(Clone, Copy)]
pub struct Encoding {
    /// Encodes an event as the bytes that all connections of its gateway share.
    pub encode: fn(&Event, Position, Timestamp) -> Bytes,
    /// From the length of an encoded event and an offset in it: the end of the frame there. Another frame may follow
    /// it.
    pub boundary: fn(usize, usize) -> usize,
}

/// The settings of a shard.
#[derive(Clone)]
pub struct Settings {
    /// The index of this shard.
    pub id: ShardId,
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
    /// The encoding of events.
    pub encoding: Encoding,
}
