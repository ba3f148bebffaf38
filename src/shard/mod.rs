//! What exactly one core owns: the gateways that hash to it. No bytes, no clock, no socket.
//!
//! ```text
//!   Command ──▶ ┌────────────────────────────────────────┐ ──▶ Effect (replies, closes), failures to log
//!   join/leave ▶│ sequencer → registry → outbox → ticket │ ──▶ poll_dirty: connections with something to write
//!   confirm ──▶ └────────────────────────────────────────┘ ◀── waiting: a view of the bytes for a socket, moved on by advance
//! ```
//!
//! After each `handle_*` the caller drains `poll_effect` and `poll_dirty`; nothing in here calls out.

pub mod command;
pub mod counters;
pub mod directory;
mod failures;
mod fanout;
pub mod outbox;
pub mod placement;
pub mod rate_limit;
mod recent_ids;
pub mod registry;
mod sequencer;
mod stats;
mod tickets;
mod waiting;

pub use command::{Command, InboundStats, Reply};
pub use directory::Directory;
pub use failures::{DeliveryFailure, Failed};
pub use placement::Placement;
pub use recent_ids::Repeated;
pub use registry::{Connection, ConnectionKey, Join};
pub use tickets::{Origin, RequestKey};
pub use waiting::Waiting;

use crate::model::{Change, CloseReason, Event, GatewayId, Instant, Life, Now, Position, Refused, ShardId, Timestamp};
use ahash::HashMap;
use bytes::Bytes;
use command::DeliveryStats;
use counters::Counters;
use failures::Failures;
use rate_limit::RateLimit;
use recent_ids::RecentIds;
use registry::Registry;
use sequencer::Sequencer;
use std::{collections::VecDeque, net::IpAddr, time::Duration};
use tickets::{Outcome, Tickets};

/// How an event becomes the bytes that every connection shares, and where other frames may stand among them.
#[derive(Clone, Copy)]
pub struct Encoding {
    /// Encodes an event.
    pub encode: fn(&Event, Position, Timestamp) -> Bytes,
    /// The next frame's end in an encoded event of a length, from an offset.
    pub boundary: fn(usize, usize) -> usize,
}

/// What a shard is made with.
#[derive(Clone)]
pub struct Settings {
    /// Which shard.
    pub id: ShardId,
    /// The name of this process's log; no other process ever had it.
    pub epoch: u64,
    /// Bytes that may wait for one socket above the event in flight.
    pub outbox_bytes_max: usize,
    /// Connections of one gateway; 0 for no bound.
    pub connections_per_gateway_max: usize,
    /// A publisher waits no longer for its answer.
    pub publish_timeout: Duration,
    /// Attempts of one address in a window; 0 for no bound.
    pub rate_per_window: u32,
    /// The window.
    pub rate_window: Duration,
    /// Addresses that this shard remembers.
    pub rate_addresses_max: usize,
    /// How events look on the wire.
    pub encoding: Encoding,
}

/// What the driver has to carry out.
#[derive(Debug)]
pub enum Effect {
    /// An answer to a command.
    Reply(Origin, Reply),
    /// End this connection.
    Close(ConnectionKey, CloseReason),
    /// Tell that a publisher gave an id which its gateway has got before.
    Repeated(Repeated),
}

/// One core's gateways.
pub struct Shard {
    settings: Settings,
    /// The incarnations of the gateways that there are.
    lives: HashMap<GatewayId, u64>,
    sequencer: Sequencer,
    registry: Registry,
    tickets: Tickets,
    rate: RateLimit,
    totals: DeliveryStats,
    inbound: InboundStats,
    recent_ids: RecentIds,
    /// Events whose id their gateway had got before.
    ids_repeated: u64,
    counters: Counters,
    dirty: VecDeque<ConnectionKey>,
    effects: VecDeque<Effect>,
    failures: Failures,
}

impl Shard {
    /// A shard without gateways: [`Shard::handle_change`] tells it of each, those that are there already included.
    pub fn new(settings: Settings) -> Self {
        Self {
            lives: HashMap::default(),
            sequencer: Sequencer::new(settings.epoch),
            registry: Registry::default(),
            tickets: Tickets::default(),
            rate: RateLimit::new(settings.rate_per_window, settings.rate_window, settings.rate_addresses_max),
            totals: DeliveryStats::default(),
            inbound: InboundStats::default(),
            recent_ids: RecentIds::default(),
            ids_repeated: 0,
            counters: Counters::default(),
            dirty: VecDeque::new(),
            effects: VecDeque::new(),
            failures: Failures::default(),
            settings,
        }
    }

    /// Carries a command out. The reply comes as an effect, at once or later.
    pub fn handle_command(&mut self, now: Now, origin: Origin, command: Command) {
        let reply = match command {
            Command::Publish(event) if self.life_of(event.gateway).is_none() => Reply::NoSuchGateway,
            Command::Publish(event) => return self.publish(now, origin, std::iter::once(event), 1, false),
            Command::PublishMany(events) => {
                let count = events.len();
                return self.publish(now, origin, events.into_iter(), count, true);
            }
            Command::Deploy(mut events) => {
                for event in &mut events {
                    if let Some(life) = self.life_of(event.gateway) {
                        event.add_performed_at(self.sequencer.performed_at(life, now.wall));
                    }
                }
                let count = events.len();
                return self.publish(now, origin, events.into_iter(), count, true);
            }
            Command::Totals(gateway) => Reply::Totals(self.totals(gateway)),
            Command::Connections { gateway, skip, take } => Reply::Connections(self.rows(gateway, skip, take)),
            Command::Attempt(address) => Reply::Attempt(self.handle_attempt(now, address)),
            Command::Live(gateways) => {
                let live = |gateway: &GatewayId| u32::try_from(self.registry.of(*gateway).len()).unwrap_or(u32::MAX);
                Reply::Live(gateways.iter().map(live).collect())
            }
        };
        self.effects.push_back(Effect::Reply(origin, reply));
    }

    /// Counts an attempt to connect of an address that this shard keeps.
    ///
    /// # Errors
    /// Seconds until the address may try again.
    pub fn handle_attempt(&mut self, now: Now, address: IpAddr) -> Result<(), u32> {
        self.rate.attempt(now.instant, address)
    }

    /// A connection joins its gateway; events published from now on are its events. Returns the position that it joins at.
    ///
    /// # Errors
    /// Where the gateway has all the connections that it may have, or was deleted while the connection was on its way.
    pub fn handle_join(&mut self, now: Now, join: Join) -> Result<(ConnectionKey, Position), Refused> {
        let life = self.life_of(join.gateway).ok_or(Refused::Unauthorized)?;
        let bound = self.settings.connections_per_gateway_max;
        if bound > 0 && self.registry.of(join.gateway).len() >= bound {
            return Err(Refused::CapacityExceeded);
        }
        let position = self.sequencer.last(life);
        Ok((self.registry.insert(join, now.wall, now.instant), position))
    }

    /// A close frame goes out: the connection gets no more events, and what it has not got has failed.
    pub fn handle_closing(&mut self, now: Now, key: ConnectionKey, reason: CloseReason) {
        self.registry.retire(key);
        let boundary = self.settings.encoding.boundary;
        let Some(connection) = self.registry.connection_mut(key) else { return };
        for ticket in connection.outbox.abort(boundary) {
            self.decide(now, key, ticket, Outcome::Failed(reason.label()));
        }
    }

    /// The connection is gone. Returns what it was.
    pub fn handle_leave(&mut self, now: Now, key: ConnectionKey, reason: CloseReason) -> Option<Connection> {
        self.handle_closing(now, key, reason);
        let left = self.registry.remove(key);
        if left.is_some() {
            self.counters.closed.add(reason.label());
        }
        debug_assert!(left.as_ref().is_none_or(|it| it.closing), "who leaves gets no more events");
        debug_assert!(self.registry.connection(key).is_none(), "who has left is not there");
        left
    }

    /// The peer gave a sign of life; an answered ping took `round_trip`.
    pub fn handle_life(&mut self, now: Now, key: ConnectionKey, round_trip: Option<Duration>) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        debug_assert!(now.instant >= connection.connected, "the clock does not run backwards");
        connection.last_heartbeat = now.wall;
        connection.stale = false;
        if let Some(round_trip) = round_trip {
            connection.round_trip_us = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        }
    }

    /// A gateway says how a deployment went.
    pub fn handle_ack(&mut self, went_well: bool) {
        let count = if went_well { &mut self.inbound.acknowledged } else { &mut self.inbound.refused };
        *count += 1;
    }

    /// A gateway sent what is no message.
    pub fn handle_malformed(&mut self) {
        self.inbound.malformed += 1;
    }

    /// The peer has been silent for the timeout, but has a grace.
    pub fn handle_stale(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.stale = true;
        }
    }

    /// What waits for the connection: a view, which [`Shard::advance`] moves on.
    pub fn waiting(&self, key: ConnectionKey) -> Waiting<'_> {
        let outbox = self.registry.connection(key).map(|connection| &connection.outbox);
        Waiting { outbox, boundary: self.settings.encoding.boundary }
    }

    /// The first `event_bytes` of what waits for the connection were handed to its socket.
    pub fn advance(&mut self, key: ConnectionKey, event_bytes: usize) {
        if let Some(connection) = self.registry.connection_mut(key) {
            debug_assert!(event_bytes == 0 || !connection.outbox.is_empty(), "only what waits can be handed over");
            connection.outbox.advance(event_bytes);
            if !connection.outbox.is_over(self.settings.outbox_bytes_max) {
                connection.over_since = None;
            }
        }
    }

    /// Everything handed to the connection's socket is in it: those events are delivered.
    pub fn handle_written(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let id = connection.id;
        let mut sent = 0;
        for ticket in connection.outbox.confirm() {
            sent += 1;
            if let Some((origin, reply)) = self.tickets.decide(ticket, id, Outcome::Delivered) {
                self.effects.push_back(Effect::Reply(origin, reply));
            }
        }
        connection.outbox.shrink();
        connection.blocked_since = None;
        connection.stats.total_events_sent += sent;
        self.totals.total_events_sent += sent;
        debug_assert!(now.instant >= connection.connected);
    }

    /// The connection's socket takes no more now; `progress` where it took something before.
    pub fn handle_blocked(&mut self, now: Now, key: ConnectionKey, progress: bool) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        debug_assert!(
            connection.blocked_since.is_none_or(|since| since <= now.instant),
            "the clock does not run backwards"
        );
        if progress || connection.blocked_since.is_none() {
            connection.blocked_since = Some(now.instant);
        }
    }

    /// The core did not run for a while: no socket was offered anything meanwhile.
    pub fn handle_lost(&mut self, lost: Duration) {
        for connection in self.registry.iter_mut() {
            connection.blocked_since = connection.blocked_since.map(|since| since + lost);
            connection.over_since = connection.over_since.map(|since| since + lost);
        }
    }

    /// Gateways or tokens changed: whoever came with what is gone now has to go, too. What was kept of a deleted gateway
    /// is forgotten at once, and its connections get nothing that is published to the next gateway with its id.
    pub fn handle_change(&mut self, change: Change) {
        let gone: Vec<_> = match change {
            Change::GatewayCreated(Life { gateway, incarnation }) => {
                self.lives.insert(gateway, incarnation);
                return;
            }
            Change::TokenCreated { .. } => return,
            Change::GatewayDeleted(gateway) => {
                self.lives.remove(&gateway);
                self.sequencer.forget(gateway);
                self.recent_ids.forget(gateway);
                let keys = self.registry.of(gateway).to_vec();
                keys.iter().for_each(|key| self.registry.retire(*key));
                keys.into_iter().map(|key| (key, CloseReason::GatewayDeleted)).collect()
            }
            Change::TokenRevoked { gateway, token, .. } => {
                let with = |key: &&ConnectionKey| self.registry.connection(**key).is_some_and(|c| c.token == token);
                self.registry.of(gateway).iter().filter(with).map(|key| (*key, CloseReason::KeyRevoked)).collect()
            }
        };
        self.effects.extend(gone.into_iter().map(|(key, reason)| Effect::Close(key, reason)));
    }

    /// Answers up to `most` publishes whose time is up; returns how many.
    pub fn handle_timeout(&mut self, now: Now, most: usize) -> usize {
        self.rate.forget(now.instant);
        for answered in 0..most {
            let Some((origin, reply)) = self.tickets.expire(now.instant) else { return answered };
            self.effects.push_back(Effect::Reply(origin, reply));
        }
        most
    }

    /// When [`Shard::handle_timeout`] is due.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.tickets.poll_timeout()
    }

    /// The next failed delivery to tell.
    pub fn poll_failure(&mut self) -> Option<Failed> {
        self.failures.pop()
    }

    /// Whether [`Shard::poll_effect`] or [`Shard::poll_failure`] has something.
    pub fn has_effect(&self) -> bool {
        !self.effects.is_empty() || !self.failures.is_empty() || self.recent_ids.is_untold()
    }

    /// The next thing to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front().or_else(|| self.recent_ids.poll().map(Effect::Repeated))
    }

    /// The next connection that has something new to write. It may have left since.
    pub fn poll_dirty(&mut self) -> Option<ConnectionKey> {
        self.dirty.pop_front()
    }

    /// Whether [`Shard::poll_dirty`] has something.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The connection, while it is there.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.registry.connection(key)
    }

    /// How many connections there are, closing ones included.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.registry.is_empty()
    }

    /// All connections.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.registry.iter()
    }

    /// Which gateway bears this id now.
    fn life_of(&self, gateway: GatewayId) -> Option<Life> {
        self.lives.get(&gateway).map(|incarnation| Life { gateway, incarnation: *incarnation })
    }

    /// Publishes that are not decided.
    pub fn undecided(&self) -> usize {
        self.tickets.len()
    }
}

#[cfg(test)]
mod tests;
