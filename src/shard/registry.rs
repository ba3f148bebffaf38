//! The live connections of one shard's gateways.

use super::{command::DeliveryStats, connection_key::ConnectionKey, cursor::Cursor, feed_key::FeedKey};
use crate::model::{ConnectionId, GatewayId, Instant, Position, Timestamp, TokenId};
use slab::Slab;
use std::net::SocketAddr;

/// One live connection.
#[derive(Debug)]
pub struct Connection {
    /// The gateway it belongs to.
    pub gateway: GatewayId,
    /// Its id.
    pub id: ConnectionId,
    /// The token it was admitted with.
    pub token: TokenId,
    /// The peer's address.
    pub address: SocketAddr,
    /// Time at which it joined, for people.
    pub connected_at: Timestamp,
    /// Time at which it joined, for durations.
    pub connected: Instant,
    /// Time at which the peer last sent something.
    pub last_heartbeat: Timestamp,
    /// Time from the last answered ping to its pong, in microseconds; 0 before the first.
    pub round_trip_us: u32,
    /// The peer was silent for the heartbeat timeout, but its kernel acknowledges bytes.
    pub stale: bool,
    /// The connection is being closed and gets no more events.
    pub closing: bool,
    /// The position behind which it asks to go on, until it is admitted. Boxed, because few do.
    pub(super) resume: Option<Box<Position>>,
    /// Its pongs prove what its gateway has processed.
    pub(super) is_proved: bool,
    /// It asked that they do not.
    pub(super) written_only: bool,
    /// [`super::Effect::Admit`] was made for it.
    pub(super) admitted: bool,
    /// The caller has carried that out.
    pub(super) welcomed: bool,
    /// The feed of its gateway.
    pub(super) feed: FeedKey,
    /// The next event that it is given.
    pub(super) cursor: Cursor,
    /// Deliveries that were written whole to its socket.
    pub(super) events_sent: u64,
    /// Its deliveries that failed. Boxed, because few connections have one.
    pub(super) failures: Option<Box<DeliveryStats>>,
    serial: u32,
}

impl Connection {
    /// Whether its pongs prove what its gateway has processed.
    pub fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// Its deliveries and failures.
    pub(super) fn delivery_stats(&self) -> DeliveryStats {
        let failures = self.failures.as_deref().copied().unwrap_or_default();
        DeliveryStats { total_events_sent: self.events_sent, ..failures }
    }

    /// Whether [`super::Shard::handle_welcomed`] was called for it.
    pub fn is_welcomed(&self) -> bool {
        self.welcomed
    }
}

/// A connection that joins its gateway.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// The gateway it belongs to.
    pub gateway: GatewayId,
    /// Its id.
    pub id: ConnectionId,
    /// The token it was admitted with.
    pub token: TokenId,
    /// The peer's address.
    pub address: SocketAddr,
    /// The position behind which it asks to go on; `None` for a clean slate.
    pub resume: Option<Position>,
    /// Its pongs prove nothing, whatever the delivery of its gateway is.
    pub written_only: bool,
}

/// All connections of one shard.
#[derive(Debug, Default)]
pub struct Registry {
    connections: Slab<Connection>,
    /// The serial of the last connection.
    serial: u32,
}

impl Registry {
    /// Adds a connection.
    pub(super) fn insert(&mut self, join: Join, feed: FeedKey, at: Timestamp, now: Instant) -> ConnectionKey {
        self.serial = self.serial.wrapping_add(1);
        let index = self.connections.insert(Connection {
            gateway: join.gateway,
            id: join.id,
            token: join.token,
            address: join.address,
            connected_at: at,
            connected: now,
            last_heartbeat: at,
            round_trip_us: 0,
            stale: false,
            closing: false,
            resume: join.resume.map(Box::new),
            is_proved: false,
            written_only: join.written_only,
            admitted: false,
            welcomed: false,
            feed,
            cursor: Cursor::joining(),
            events_sent: 0,
            failures: None,
            serial: self.serial,
        });
        let index = u32::try_from(index).expect("connections are capped far below 2^32");
        ConnectionKey { index, serial: self.serial }
    }

    /// The connection, or `None` once it has left.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections.get(key.index as usize).filter(|connection| connection.serial == key.serial)
    }

    /// The connection, or `None` once it has left.
    pub fn connection_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key.index as usize).filter(|connection| connection.serial == key.serial)
    }

    /// Removes a connection and returns it.
    pub fn remove(&mut self, key: ConnectionKey) -> Option<Connection> {
        self.connection(key)?;
        Some(self.connections.remove(key.index as usize))
    }

    /// All connections, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.connections.iter().map(|(index, connection)| {
            let index = u32::try_from(index).expect("connections are capped far below 2^32");
            (ConnectionKey { index, serial: connection.serial }, connection)
        })
    }

    /// The connections from this index on, in the order of [`Registry::iter`], each with its index.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = (usize, &Connection)> {
        (from..self.connections.capacity()).filter_map(|index| Some((index, self.connections.get(index)?)))
    }

    /// Number of connections, including those that are closing.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}
