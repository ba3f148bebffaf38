//! The live connections of one shard's gateways.

use super::{command::DeliveryStats, in_flight::EventRef, outbox::Outbox};
use crate::model::{ConnectionId, GatewayId, Instant, Timestamp, TokenId};
use ahash::HashMap;
use slab::Slab;
use std::net::SocketAddr;

/// Identifies a connection in its shard. Indices are used again, so the serial tells a connection from an earlier one
/// with the same index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ConnectionKey {
    /// Index in the registry; used again after the connection has left.
    pub index: u32,
    serial: u32,
}

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
    /// Since when its socket has taken no bytes although some were offered.
    pub blocked_since: Option<Instant>,
    /// Since when more bytes than the configured bound have waited for it.
    pub over_since: Option<Instant>,
    /// The events that wait for its socket.
    pub outbox: Outbox<EventRef>,
    /// Its deliveries and failures.
    pub stats: DeliveryStats,
    serial: u32,
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
}

/// All connections of one shard, by key and by gateway.
#[derive(Debug, Default)]
pub struct Registry {
    connections: Slab<Connection>,
    /// The connections that get events. One that is closing stays in `connections` until it has left, but not here.
    by_gateway: HashMap<GatewayId, Vec<ConnectionKey>>,
    /// The serial of the last connection.
    serial: u32,
}

impl Registry {
    /// Adds a connection; it gets events from now on.
    pub fn insert(&mut self, join: Join, at: Timestamp, now: Instant) -> ConnectionKey {
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
            blocked_since: None,
            over_since: None,
            outbox: Outbox::default(),
            stats: DeliveryStats::default(),
            serial: self.serial,
        });
        let index = u32::try_from(index).expect("connections are capped far below 2^32");
        let key = ConnectionKey { index, serial: self.serial };
        // A gateway usually has one connection, and a vector's first growth would reserve space for four.
        self.by_gateway.entry(join.gateway).or_insert_with(|| Vec::with_capacity(1)).push(key);
        key
    }

    /// The connection, or `None` once it has left.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections.get(key.index as usize).filter(|connection| connection.serial == key.serial)
    }

    /// The connection, or `None` once it has left.
    pub fn connection_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key.index as usize).filter(|connection| connection.serial == key.serial)
    }

    /// The connections of a gateway that get events, in the order in which they joined.
    pub fn of(&self, gateway: GatewayId) -> &[ConnectionKey] {
        self.by_gateway.get(&gateway).map_or(&[], Vec::as_slice)
    }

    /// Stops events to a connection. It stays in the registry until [`Registry::remove`].
    pub fn retire(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connection_mut(key) else { return };
        connection.closing = true;
        let gateway = connection.gateway;
        if let Some(keys) = self.by_gateway.get_mut(&gateway) {
            // `retain` and not `swap_remove`: the others keep their order, and a gateway has few connections.
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_gateway.remove(&gateway);
            }
        }
    }

    /// Removes a connection and returns it.
    pub fn remove(&mut self, key: ConnectionKey) -> Option<Connection> {
        self.connection(key)?;
        self.retire(key);
        Some(self.connections.remove(key.index as usize))
    }

    /// All connections, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.connections.iter().map(|(index, connection)| {
            let index = u32::try_from(index).expect("connections are capped far below 2^32");
            (ConnectionKey { index, serial: connection.serial }, connection)
        })
    }

    /// All connections.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.connections.iter_mut().map(|(_, connection)| connection)
    }

    /// Number of connections, including those that are closing.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Number of gateways with at least one connection that gets events.
    pub fn gateways(&self) -> usize {
        self.by_gateway.len()
    }
}
