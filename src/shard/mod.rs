//! A shard owns the gateways that hash to one core: their connections, the order of their events, and their counters.
//!
//! ```text
//!   Command ──▶ ┌────────────────────────────────────────┐ ──▶ poll_effect: replies, acks, closes; poll_failure: to log
//!   join, leave▶│ in_flight · registry · feeds · cursors │ ──▶ poll_dirty: connections with events to write
//!   written ──▶ └────────────────────────────────────────┘ ◀── waiting: the bytes for a socket; advance: sent
//!                    poll_log: requests ▼    ▲ handle_log: replies
//!                              the log of events
//! ```
//!
//! It has no clock, no socket and no lock: its caller passes the time in and carries its effects out, so tests run the
//! rules of order, slowness and delivery in virtual time. It never calls its caller, which could call it again while it
//! is half changed. So after each `handle_*` the caller drains `poll_effect` and `poll_dirty`.

mod absences;
mod awaiting;
mod beginning;
mod bounds;
mod catch_up;
mod catch_ups;
mod catching_up;
pub mod command;
mod connection_key;
pub mod counters;
mod cursor;
mod deployment_times;
pub mod directory;
mod dirty;
mod effect;
mod failures;
mod fanout;
mod feed;
mod feed_key;
mod feeds;
mod gateway_progress;
mod history;
mod in_flight;
mod inbound;
mod joining;
mod joins;
mod leaving;
mod log;
mod log_exchange;
mod piece;
pub mod placement;
mod processing;
mod proving;
mod queues;
pub mod rate_limit;
mod reading;
mod recent_ids;
pub mod registry;
mod retries;
mod settings;
mod stats;
mod waiting;
mod waits;
mod waking;

pub use command::{Command, Events, InboundStats, NotKept, Published, Reply};
pub use connection_key::ConnectionKey;
pub use directory::Directory;
pub use effect::{Effect, Missed, Skipped};
pub use failures::{DeliveryFailure, Failed, Undelivered};
pub use in_flight::{Origin, RequestKey};
pub use joins::Begin;
pub use placement::Placement;
pub use processing::About;
pub use recent_ids::Repeated;
pub use registry::{Connection, Join};
pub use settings::{Delivery, Encoding, Settings};
pub use waiting::Waiting;

use crate::model::{Change, CloseReason, DeliveryMode, GatewayId, Instant, Life, Now, log::LogRequest};
use absences::Absences;
use ahash::HashMap;
use catch_ups::CatchUps;
use command::DeliveryStats;
use counters::Counters;
use deployment_times::DeploymentTimes;
use dirty::Dirty;
use failures::Failures;
use feed::Spares;
use feeds::Feeds;
use gateway_progress::ProgressSaves;
use history::History;
use in_flight::InFlight;
use joins::JoinDeadlines;
use log::LogRequests;
use rate_limit::RateLimit;
use recent_ids::RecentIds;
use registry::Registry;
use retries::Retries;
use std::{collections::VecDeque, net::IpAddr, sync::Arc};
use waits::Waits;

/// A gateway that exists.
#[derive(Clone, Copy, Debug)]
struct Known {
    incarnation: u64,
    /// `None` for the default.
    delivery: Option<DeliveryMode>,
}

/// The state of one core's gateways.
pub struct Shard {
    settings: Settings,
    /// The existing gateways.
    lives: HashMap<GatewayId, Known>,
    absences: Absences,
    saves: ProgressSaves,
    waits: Waits,
    deployment_times: DeploymentTimes,
    registry: Registry,
    feeds: Feeds,
    catch_ups: CatchUps,
    history: History,
    joins: JoinDeadlines,
    log: LogRequests,
    retries: Retries,
    in_flight: InFlight,
    rate_limit: RateLimit,
    totals: DeliveryStats,
    inbound: InboundStats,
    recent_ids: RecentIds,
    /// Events whose correlation id their gateway had received before.
    ids_repeated: u64,
    counters: Counters,
    dirty: VecDeque<Dirty>,
    effects: VecDeque<Effect>,
    failures: Failures,
    spares: Spares,
}

impl Shard {
    /// A shard without gateways. The caller passes each gateway to [`Shard::handle_change`], existing ones included.
    pub fn new(settings: Settings) -> Self {
        Self {
            lives: HashMap::default(),
            absences: Absences::default(),
            saves: ProgressSaves::default(),
            waits: Waits::default(),
            deployment_times: DeploymentTimes::default(),
            registry: Registry::default(),
            feeds: Feeds::default(),
            catch_ups: CatchUps::default(),
            history: History::default(),
            joins: JoinDeadlines::default(),
            log: LogRequests::default(),
            retries: Retries::default(),
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
            spares: Spares::default(),
            settings,
        }
    }

    /// Runs a command. Its reply is an effect, now or later: that of a publish once its last delivery is decided.
    pub fn handle_command(&mut self, now: Now, origin: Origin, command: Command) {
        let reply = match command {
            Command::Publish(event) => return self.publish(now, origin, std::iter::once(event), 1, (false, false)),
            Command::PublishMany(events) => {
                let count = events.len();
                return self.publish(now, origin, events.into_iter().map(Arc::new), count, (true, true));
            }
            Command::Deploy(mut events) => {
                // Here and not in the API: only the owner of a gateway knows the time of its previous deployment.
                for event in &mut events {
                    if let Some(life) = self.life_of(event.gateway) {
                        event.add_performed_at(self.deployment_times.next(life, now.wall));
                    }
                }
                let count = events.len();
                return self.publish(now, origin, events.into_iter().map(Arc::new), count, (true, false));
            }
            Command::AndWait(publish, wait) => return self.publish_and_wait(now, origin, *publish, wait),
            Command::Events { gateway, from, limit } => return self.read_events(origin, gateway, from, limit),
            Command::Totals(gateway) => Reply::Totals(self.totals(gateway)),
            Command::Connections { gateway, from, skip, take } => {
                Reply::Connections(self.rows(gateway, from, skip, take))
            }
            Command::Attempt(address) => Reply::Attempt(self.handle_attempt(now, address)),
            Command::Live(gateways) => {
                Reply::Live(gateways.iter().map(|gateway| self.live_connections(*gateway)).collect())
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

    /// The events that wait for this connection, as a view. Reading it changes nothing; [`Shard::advance`] does.
    pub fn waiting(&self, key: ConnectionKey) -> Waiting<'_> {
        let connection = self.registry.connection(key);
        Waiting {
            cursor: connection.map(|connection| &connection.cursor),
            feed: connection.and_then(|connection| self.feeds.get(connection.feed)),
            boundary: self.settings.encoding.boundary,
        }
    }

    /// Moves the connection's cursor by the first `event_bytes` of the waiting bytes: they were handed to its socket.
    pub fn advance(&mut self, now: Now, key: ConnectionKey, event_bytes: usize) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let feed = self.feeds.get(connection.feed);
        let freed = connection.cursor.advance(feed, event_bytes);
        let catches_up = connection.cursor.catch_up().is_some();
        let is_proved = connection.is_proved;
        self.catch_ups.free(freed);
        if catches_up {
            self.continue_catching_up(now, key);
            self.read_next(now);
        }
        if is_proved {
            self.pass_over(now, key);
        }
    }

    /// Applies a change of gateways or tokens, and closes the connections that it affects. The state of a deleted
    /// gateway is removed at once, and its connections get no event of a later gateway with the same id.
    pub fn handle_change(&mut self, now: Now, change: Change) {
        // The store answers the caller of a change only after every core has applied it. So a publish that follows the
        // answer to a created gateway finds it here, and one that follows a deletion reaches no connection.
        let gone: Vec<_> = match change {
            Change::GatewayCreated { life, delivery } => {
                self.lives.insert(life.gateway, Known { incarnation: life.incarnation, delivery });
                return self.track(life);
            }
            Change::DeliveryChanged { life, delivery } => return self.change_delivery(now, life, delivery),
            // Keys are checked in the directory, before a connection joins.
            Change::TokenCreated { .. } => return,
            Change::GatewayDeleted(gateway) => return self.delete_gateway(now, gateway),
            Change::TokenRevoked { gateway, token, .. } => {
                let with = |key: &&ConnectionKey| self.registry.connection(**key).is_some_and(|c| c.token == token);
                self.members(gateway).filter(with).copied().collect()
            }
        };
        self.effects.extend(gone.into_iter().map(|key| Effect::Close(key, CloseReason::KeyRevoked)));
    }

    /// Handles up to `most` deadlines that have passed, such as those of publishes, and returns how many there were.
    pub fn handle_timeout(&mut self, now: Now, most: usize) -> usize {
        self.rate_limit.forget(now.instant);
        for handled in 0..most {
            if !self.handle_next_timeout(now) {
                return handled;
            }
        }
        most
    }

    fn handle_next_timeout(&mut self, now: Now) -> bool {
        self.poll_join_timeout();
        if let Some(key) = self.joins.pop(now.instant) {
            self.handle_join_timeout(key);
        } else if let Some(request) = self.retries.pop_request(now.instant) {
            if self.wants(&request) {
                if let LogRequest::Follow { key, .. } = &request
                    && let Some(feed) = self.feeds.get_mut((*key).into())
                {
                    feed.held_back = false;
                }
                self.log.push(request);
            }
        } else if let Some(key) = self.retries.pop_read(now.instant) {
            self.continue_catching_up(now, key);
        } else if self.catch_ups.take_look(now.instant) {
            self.look_for_memory(now);
        } else if let Some(key) = self.feeds.pop_expired(now.instant) {
            self.remove_feed(now, key);
        } else if !self.save_due_progress(now) && !self.answer_expired_wait(now) {
            let reply = self.in_flight.expire(now.instant);
            let answered = reply.is_some();
            self.answer(reply);
            return answered;
        }
        true
    }

    /// The time at which to call [`Shard::handle_timeout`].
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let publish = self.in_flight.poll_timeout();
        let others = [
            self.poll_join_timeout(),
            self.retries.poll_timeout(),
            self.catch_ups.poll_timeout(),
            self.feeds.poll_timeout(),
            self.saves.poll_timeout(),
            self.waits.poll_timeout(),
        ];
        others.into_iter().chain([publish]).flatten().min()
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
        while let Some(effect) = self.effects.pop_front() {
            let effect = match effect {
                Effect::Reply(origin, reply) => self.hold_back_reply(origin, reply),
                other => Some(other),
            };
            if effect.is_some() {
                return effect;
            }
        }
        self.recent_ids.poll_repeated().map(Effect::Repeated)
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
        self.lives.get(&gateway).map(|known| Life { gateway, incarnation: known.incarnation })
    }

    /// The connections of a gateway, those that join included and those that are closing left out.
    fn members(&self, gateway: GatewayId) -> impl Iterator<Item = &ConnectionKey> {
        let feed = self.feeds.of(gateway).and_then(|key| self.feeds.get(key));
        feed.into_iter().flat_map(|feed| feed.open())
    }

    fn live_connections(&self, gateway: GatewayId) -> u32 {
        let feed = self.feeds.of(gateway).and_then(|key| self.feeds.get(key));
        feed.map_or(0, |feed| u32::try_from(feed.connections().len()).unwrap_or(u32::MAX))
    }

    /// Number of publishes with undecided deliveries.
    pub fn undecided(&self) -> usize {
        self.in_flight.len()
    }
}

#[cfg(test)]
mod tests;
