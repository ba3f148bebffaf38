//! The live connections of one shard's gateways.

use super::{command::DeliveryStats, in_flight::EventRef, outbox::Outbox};
use crate::model::{ConnectionId, GatewayId, Instant, Timestamp, TokenId};
use ahash::HashMap;
use slab::Slab;
use std::net::SocketAddr;

/// A connection's place in its shard. The serial tells it from one that had the same place before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ConnectionKey {
    /// The place; used again after the connection has left.
    pub index: u32,
    serial: u32,
}

/// One live connection.
#[derive(Debug)]
pub struct Connection {
    /// Whose.
    pub gateway: GatewayId,
    /// Which.
    pub id: ConnectionId,
    /// What it came with.
    pub token: TokenId,
    /// From where.
    pub address: SocketAddr,
    /// Since when, for people.
    pub connected_at: Timestamp,
    /// Since when, for durations.
    pub connected: Instant,
    /// The last sign of life.
    pub last_heartbeat: Timestamp,
    /// The last ping's way there and back, in microseconds; 0 before the first.
    pub round_trip_us: u32,
    /// A probe is out because the peer was silent for too long.
    pub stale: bool,
    /// It gets no more events.
    pub closing: bool,
    /// Since when its socket has taken nothing although something was offered to it.
    pub blocked_since: Option<Instant>,
    /// Since when more than the configured bound has waited for it.
    pub over_since: Option<Instant>,
    /// What waits for it.
    pub outbox: Outbox<EventRef>,
    /// What it got and what not.
    pub stats: DeliveryStats,
    serial: u32,
}

/// Who joins.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// Whose.
    pub gateway: GatewayId,
    /// Which.
    pub id: ConnectionId,
    /// What it came with.
    pub token: TokenId,
    /// From where.
    pub address: SocketAddr,
}

/// All of them, by place and by gateway.
#[derive(Debug, Default)]
pub struct Registry {
    connections: Slab<Connection>,
    by_gateway: HashMap<GatewayId, Vec<ConnectionKey>>,
    serial: u32,
}

impl Registry {
    /// Adds a connection, which gets events from now on.
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
        self.by_gateway.entry(join.gateway).or_insert_with(|| Vec::with_capacity(1)).push(key);
        key
    }

    /// The connection, while it is there.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.connections.get(key.index as usize).filter(|connection| connection.serial == key.serial)
    }

    /// The connection, while it is there.
    pub fn connection_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections.get_mut(key.index as usize).filter(|connection| connection.serial == key.serial)
    }

    /// The gateway's connections that get events, in the order in which they joined.
    pub fn of(&self, gateway: GatewayId) -> &[ConnectionKey] {
        self.by_gateway.get(&gateway).map_or(&[], Vec::as_slice)
    }

    /// The connection gets no more events; it is still there.
    pub fn retire(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connection_mut(key) else { return };
        connection.closing = true;
        let gateway = connection.gateway;
        if let Some(keys) = self.by_gateway.get_mut(&gateway) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_gateway.remove(&gateway);
            }
        }
    }

    /// The connection is gone.
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

    /// All connections, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.connections.iter_mut().map(|(_, connection)| connection)
    }

    /// How many there are, closing ones included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Gateways with at least one connection that gets events.
    pub fn gateways(&self) -> usize {
        self.by_gateway.len()
    }
}
