//! A shard owns the gateways that hash to one core: their connections, the order of their events, and their counters.
//!
//! ```text
//!   Command ──▶ ┌───────────────────────────────────────────┐ ──▶ poll_effect: replies, closes; poll_failure: to log
//!   join, leave▶│ sequencer → registry → outbox → in_flight │ ──▶ poll_dirty: connections with events to write
//!   written ──▶ └───────────────────────────────────────────┘ ◀── waiting: the bytes for a socket; advance: sent
//! ```
//!
//! It has no clock, no socket and no lock: its caller passes the time in and carries its effects out, so tests run the
//! rules of order, slowness and delivery in virtual time. It never calls its caller, which could call it again while it
//! is half changed. So after each `handle_*` the caller drains `poll_effect` and `poll_dirty`.

pub mod command;
pub mod counters;
pub mod directory;
mod failures;
mod fanout;
mod in_flight;
pub mod outbox;
pub mod placement;
pub mod rate_limit;
mod recent_ids;
pub mod registry;
mod sequencer;
mod settings;
mod stats;
mod waiting;

pub use command::{Command, InboundStats, Reply};
pub use directory::Directory;
pub use failures::{DeliveryFailure, Failed};
pub use in_flight::{Origin, RequestKey};
pub use placement::Placement;
pub use recent_ids::Repeated;
pub use registry::{Connection, ConnectionKey, Join};
pub use settings::{Encoding, Settings};
pub use waiting::Waiting;

use crate::model::{Change, CloseReason, GatewayId, Instant, Life, Now, Position, Refused};
use ahash::HashMap;
use command::DeliveryStats;
use counters::Counters;
use failures::Failures;
use in_flight::{InFlight, Outcome};
use rate_limit::RateLimit;
use recent_ids::RecentIds;
use registry::Registry;
use sequencer::Sequencer;
use std::{collections::VecDeque, net::IpAddr, time::Duration};

/// What the engine has to carry out.
#[derive(Debug)]
pub enum Effect {
    /// Send this reply to the core that sent the command.
    Reply(Origin, Reply),
    /// Close this connection.
    Close(ConnectionKey, CloseReason),
    /// Log that publishers gave correlation ids which their gateways had received before.
    Repeated(Repeated),
}

/// The state of one core's gateways.
pub struct Shard {
    settings: Settings,
    /// The incarnation of each existing gateway.
    lives: HashMap<GatewayId, u64>,
    sequencer: Sequencer,
    registry: Registry,
    in_flight: InFlight,
    rate_limit: RateLimit,
    totals: DeliveryStats,
    inbound: InboundStats,
    recent_ids: RecentIds,
    /// Events whose correlation id their gateway had received before.
    ids_repeated: u64,
    counters: Counters,
    /// Connections whose outbox was empty until an event came. A list, so that an event for a thousand connections is
    /// queued at once and written in the shares of time that the engine gives to writes.
    dirty: VecDeque<ConnectionKey>,
    effects: VecDeque<Effect>,
    failures: Failures,
}

impl Shard {
    /// A shard without gateways. The caller passes each gateway to [`Shard::handle_change`], existing ones included.
    pub fn new(settings: Settings) -> Self {
        Self {
            lives: HashMap::default(),
            sequencer: Sequencer::new(settings.epoch),
            registry: Registry::default(),
            in_flight: InFlight::default(),
            rate_limit: RateLimit::new(settings.rate_per_window, settings.rate_window, settings.rate_addresses_max),
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

    /// Runs a command. Its reply is an effect, now or later: that of a publish once its last delivery is decided.
    pub fn handle_command(&mut self, now: Now, origin: Origin, command: Command) {
        let reply = match command {
            Command::Publish(event) if self.life_of(event.gateway).is_none() => Reply::NoSuchGateway,
            Command::Publish(event) => return self.publish(now, origin, std::iter::once(event), 1, false),
            Command::PublishMany(events) => {
                let count = events.len();
                return self.publish(now, origin, events.into_iter(), count, true);
            }
            Command::Deploy(mut events) => {
                // Here and not in the API: only the owner of a gateway knows the time of its previous deployment.
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

    /// Counts a connection attempt from an address whose attempts this shard counts.
    ///
    /// # Errors
    /// The number of seconds until the address may try again.
    pub fn handle_attempt(&mut self, now: Now, address: IpAddr) -> Result<(), u32> {
        self.rate_limit.attempt(now.instant, address)
    }

    /// Adds a connection to its gateway. It receives every event accepted after this call, and none accepted before.
    /// Returns the position of the last event before it.
    ///
    /// # Errors
    /// If the gateway has its maximum number of connections, or was deleted while the connection moved between cores.
    pub fn handle_join(&mut self, now: Now, join: Join) -> Result<(ConnectionKey, Position), Refused> {
        let life = self.life_of(join.gateway).ok_or(Refused::Unauthorized)?;
        let bound = self.settings.connections_per_gateway_max;
        if bound > 0 && self.registry.of(join.gateway).len() >= bound {
            return Err(Refused::CapacityExceeded);
        }
        let position = self.sequencer.last(life);
        Ok((self.registry.insert(join, now.wall, now.instant), position))
    }

    /// Stops events to a connection that is sent a close frame, and fails those that were not written whole.
    pub fn handle_closing(&mut self, now: Now, key: ConnectionKey, reason: CloseReason) {
        self.registry.retire(key);
        let boundary = self.settings.encoding.boundary;
        let Some(connection) = self.registry.connection_mut(key) else { return };
        for event in connection.outbox.abort(boundary) {
            self.decide(now, key, event, Outcome::Failed(reason.label()));
        }
    }

    /// Removes a connection that has ended, fails its unwritten events, and returns it.
    pub fn handle_leave(&mut self, now: Now, key: ConnectionKey, reason: CloseReason) -> Option<Connection> {
        self.handle_closing(now, key, reason);
        let left = self.registry.remove(key);
        if left.is_some() {
            self.counters.closed.add(reason.label());
        }
        debug_assert!(left.as_ref().is_none_or(|it| it.closing), "a connection that leaves gets no more events");
        debug_assert!(self.registry.connection(key).is_none(), "a connection that has left is not in the registry");
        left
    }

    /// Records that the peer sent something; `round_trip` is the time from a ping to its pong, if it was a pong.
    pub fn handle_life(&mut self, now: Now, key: ConnectionKey, round_trip: Option<Duration>) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        debug_assert!(now.instant >= connection.connected, "the clock does not run backwards");
        connection.last_heartbeat = now.wall;
        connection.stale = false;
        if let Some(round_trip) = round_trip {
            connection.round_trip_us = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        }
    }

    /// Counts a `deployment.ack`; `went_well` if its status is `success`.
    pub fn handle_ack(&mut self, went_well: bool) {
        let count = if went_well { &mut self.inbound.acknowledged } else { &mut self.inbound.refused };
        *count += 1;
    }

    /// Counts a text message that is not a JSON object with a `type`.
    pub fn handle_malformed(&mut self) {
        self.inbound.malformed += 1;
    }

    /// Marks a connection as stale: its peer was silent for the heartbeat timeout, but its kernel acknowledges bytes.
    pub fn handle_stale(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.stale = true;
        }
    }

    /// The events that wait for this connection, as a view. Reading it changes nothing; [`Shard::advance`] does.
    pub fn waiting(&self, key: ConnectionKey) -> Waiting<'_> {
        let outbox = self.registry.connection(key).map(|connection| &connection.outbox);
        Waiting { outbox, boundary: self.settings.encoding.boundary }
    }

    /// Removes the first `event_bytes` of the waiting bytes: they were handed to the connection's socket.
    pub fn advance(&mut self, key: ConnectionKey, event_bytes: usize) {
        if let Some(connection) = self.registry.connection_mut(key) {
            debug_assert!(event_bytes == 0 || !connection.outbox.is_empty(), "only waiting bytes can be handed over");
            connection.outbox.advance(event_bytes);
            if !connection.outbox.is_over(self.settings.outbox_bytes_max) {
                connection.over_since = None;
            }
        }
    }

    /// Counts the events that were handed over as delivered: the socket has taken all of their bytes.
    pub fn handle_written(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let id = connection.id;
        // Not through `Shard::decide`: the iterator borrows the registry, and a delivery has no failure to log.
        let mut sent = 0;
        for event in connection.outbox.confirm() {
            sent += 1;
            if let Some((origin, reply)) = self.in_flight.decide(event, id, Outcome::Delivered) {
                self.effects.push_back(Effect::Reply(origin, reply));
            }
        }
        connection.outbox.shrink();
        connection.blocked_since = None;
        connection.stats.total_events_sent += sent;
        self.totals.total_events_sent += sent;
        debug_assert!(now.instant >= connection.connected);
    }

    /// Records that the connection's socket takes no more bytes now; `progress` if it took some in this visit.
    pub fn handle_blocked(&mut self, now: Now, key: ConnectionKey, progress: bool) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        debug_assert!(
            connection.blocked_since.is_none_or(|since| since <= now.instant),
            "the clock does not run backwards"
        );
        // Only time without any progress counts. A slow socket that takes bytes starts anew, however often it blocks.
        if progress || connection.blocked_since.is_none() {
            connection.blocked_since = Some(now.instant);
        }
    }

    /// Moves all times of slowness by the time in which the core did not run.
    pub fn handle_lost(&mut self, lost: Duration) {
        // No socket was offered any bytes meanwhile, so a pause of the hub must not make a peer count as slow.
        for connection in self.registry.iter_mut() {
            connection.blocked_since = connection.blocked_since.map(|since| since + lost);
            connection.over_since = connection.over_since.map(|since| since + lost);
        }
    }

    /// Applies a change of gateways or tokens, and closes the connections that it affects. The state of a deleted
    /// gateway is removed at once, and its connections get no event of a later gateway with the same id.
    pub fn handle_change(&mut self, change: Change) {
        // The store answers the caller of a change only after every core has applied it. So a publish that follows the
        // answer to a created gateway finds it here, and one that follows a deletion reaches no connection.
        let gone: Vec<_> = match change {
            Change::GatewayCreated(Life { gateway, incarnation }) => {
                self.lives.insert(gateway, incarnation);
                return;
            }
            // Keys are checked in the directory, before a connection joins.
            Change::TokenCreated { .. } => return,
            Change::GatewayDeleted(gateway) => {
                self.lives.remove(&gateway);
                // The sequence starts anew if the id is used again. No position repeats, because each incarnation has
                // its own epoch.
                self.sequencer.forget(gateway);
                self.recent_ids.forget(gateway);
                // Retired now, not when the close is carried out: the next command may already be for the new gateway.
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

    /// Answers up to `most` publishes whose timeout has passed, and returns how many it answered.
    pub fn handle_timeout(&mut self, now: Now, most: usize) -> usize {
        self.rate_limit.forget(now.instant);
        for answered in 0..most {
            let Some((origin, reply)) = self.in_flight.expire(now.instant) else { return answered };
            self.effects.push_back(Effect::Reply(origin, reply));
        }
        most
    }

    /// The time at which to call [`Shard::handle_timeout`].
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.in_flight.poll_timeout()
    }

    /// Takes the next failed delivery to log.
    pub fn poll_failure(&mut self) -> Option<Failed> {
        self.failures.pop()
    }

    /// Whether [`Shard::poll_effect`] or [`Shard::poll_failure`] would return something.
    pub fn has_effect(&self) -> bool {
        !self.effects.is_empty() || !self.failures.is_empty() || self.recent_ids.has_repeated()
    }

    /// Takes the next effect.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front().or_else(|| self.recent_ids.poll_repeated().map(Effect::Repeated))
    }

    /// Takes the next connection that has new events to write. It may have left in the meantime.
    pub fn poll_dirty(&mut self) -> Option<ConnectionKey> {
        self.dirty.pop_front()
    }

    /// Whether [`Shard::poll_dirty`] would return something.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The connection, or `None` once it has left.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.registry.connection(key)
    }

    /// Number of connections, including those that are closing.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.registry.is_empty()
    }

    /// All connections, in a stable order.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.registry.iter()
    }

    /// The existing gateway with this id.
    fn life_of(&self, gateway: GatewayId) -> Option<Life> {
        self.lives.get(&gateway).map(|incarnation| Life { gateway, incarnation: *incarnation })
    }

    /// Number of publishes with undecided deliveries.
    pub fn undecided(&self) -> usize {
        self.in_flight.len()
    }
}

#[cfg(test)]
mod tests;
