//! The commands that a core sends to a shard and the shard's replies: plain values, so that they can cross between
//! cores.

use super::counters::Counters;
use crate::model::{
    ConnectionId, CorrelationId, DeliveryMode, Event, GatewayId, Kept, Position, PublishOutcome, ShardId, Timestamp,
    log::{Head, ReadFrom, Record, Why},
};
use serde::Serialize;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// A command to the shard that owns the gateway or address in it.
#[derive(Debug)]
pub enum Command {
    /// Deliver one event. Answered by [`Reply::Published`].
    Publish(Arc<Event>),
    /// Deliver several events, in this order. Answered by [`Reply::PublishedMany`], in this order.
    PublishMany(Vec<Event>),
    /// Like [`Command::PublishMany`], for deployments. The shard adds `performedAt` as the last member of each payload,
    /// later than that of the gateway's previous deployment.
    Deploy(Vec<Event>),
    /// Publish by this command, and answer it only once its events are processed, or after this time.
    AndWait(Box<Command>, Duration),
    /// Read events of a gateway from its log. Answered by [`Reply::Events`].
    Events {
        /// The gateway.
        gateway: GatewayId,
        /// Where to begin.
        from: ReadFrom,
        /// Maximum number of events, up to [`crate::limits::PAGE_ROWS_MAX`].
        limit: usize,
    },
    /// Count connections and deliveries, in all or for one gateway. Answered by [`Reply::Totals`].
    Totals(Option<GatewayId>),
    /// List connections in a stable order. Answered by [`Reply::Connections`].
    Connections {
        /// Only connections of this gateway.
        gateway: Option<GatewayId>,
        /// Where to begin: 0, or [`Rows::next`] of the rows before.
        from: usize,
        /// Number of rows to skip.
        skip: usize,
        /// Maximum number of rows, up to [`crate::limits::STATS_SLICE_ROWS`].
        take: usize,
    },
    /// Count a connection attempt of this address against its rate limit. Answered by [`Reply::Attempt`].
    Attempt(IpAddr),
    /// Count the live connections of each of these gateways. Answered by [`Reply::Live`], in this order.
    Live(Vec<GatewayId>),
}

impl Command {
    /// Publishes one event.
    pub fn publish(event: Event) -> Self {
        Self::Publish(Arc::new(event))
    }
}

/// A shard's answer.
#[derive(Debug)]
pub enum Reply {
    /// To [`Command::Publish`].
    Published(Published),
    /// To [`Command::PublishMany`] and [`Command::Deploy`], in the order of the events.
    PublishedMany(Vec<Published>),
    /// To [`Command::Events`].
    Events(Events),
    /// To [`Command::Totals`].
    Totals(Totals),
    /// To [`Command::Connections`].
    Connections(Rows),
    /// To [`Command::Attempt`]: an error is the number of seconds to wait.
    Attempt(Result<(), u32>),
    /// To [`Command::Live`].
    Live(Vec<u32>),
}

/// The answer to [`Command::Connections`].
#[derive(Debug)]
pub struct Rows {
    /// The rows; fewer than asked for if there are no more.
    pub rows: Vec<ConnectionRow>,
    /// Where those behind them begin.
    pub next: usize,
}

/// The answer to [`Command::Events`].
#[derive(Debug)]
pub enum Events {
    /// Events of the gateway, in order, none left out.
    Page {
        /// The events.
        records: Vec<Record>,
        /// Whether more follow now.
        more: bool,
        /// The ends of the gateway's log.
        head: Head,
    },
    /// Events after the position to begin after were trimmed.
    Trimmed(Head),
    /// The position to begin after is not one of this log.
    UnknownPosition(Head),
    /// The log could not be read.
    Unavailable(Why),
    /// Too many reads wait for the log.
    Overloaded,
    /// The gateway was deleted, or does not exist yet.
    NoSuchGateway,
}

/// What became of one event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Published {
    /// It has a position.
    Outcome(PublishOutcome),
    /// The log did not keep it, or cannot tell.
    NotKept(NotKept),
    /// The gateway was deleted while the command moved between cores, or does not exist yet.
    NoSuchGateway,
}

/// An event that was not delivered, because the log did not say that it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotKept {
    /// Whether it may be kept, and delivered, all the same.
    pub kept: Kept,
    /// What is wrong with the log.
    pub why: Why,
}

/// One shard's totals (contract section 3). Deliveries to connections that have ended are included.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// The shard that counted.
    pub shard: ShardId,
    /// Number of live connections.
    pub connections: usize,
    /// Number of gateways with at least one live connection.
    pub gateways: usize,
    /// Numbers of deliveries and failures.
    #[serde(flatten)]
    pub deliveries: DeliveryStats,
    /// Connections that get their events from the log; for the metrics.
    #[serde(skip)]
    pub behind: u64,
    /// Bytes of payloads that the farthest connection is behind its gateway's log; for the metrics.
    #[serde(skip)]
    pub behind_bytes_max: u64,
    /// Number of events that the gateway which is the farthest behind has not processed, connections that are closing left out; for the
    /// metrics.
    #[serde(skip)]
    pub unprocessed_max: u64,
    /// Memory of events that connections have yet to take; for the metrics.
    #[serde(skip)]
    pub recent_bytes: u64,
    /// Events with a correlation id from their publisher that their gateway had received before; for the metrics.
    #[serde(skip)]
    pub ids_repeated: u64,
    /// Messages from gateways; for the metrics.
    #[serde(skip)]
    pub inbound: InboundStats,
    /// What was refused and closed; for the metrics.
    #[serde(skip)]
    pub counters: Box<Counters>,
}

/// Numbers of messages from gateways, by kind.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct InboundStats {
    /// `deployment.ack` with the status `success`.
    pub acknowledged: u64,
    /// `deployment.ack` with any other status, or none.
    pub refused: u64,
    /// Text messages that were not JSON objects with a `type`.
    pub malformed: u64,
}

/// Deliveries of one connection, one shard or the whole hub.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStats {
    /// Deliveries that were written whole to a socket.
    pub total_events_sent: u64,
    /// Deliveries that failed.
    pub failed_deliveries: u64,
    /// Time of the last failure.
    pub last_failure_time: Option<Timestamp>,
    /// Reason of the last failure.
    pub last_failure_reason: Option<&'static str>,
}

impl DeliveryStats {
    /// Adds the counts of `other`, and takes over its last failure if that is later.
    pub fn add(&mut self, other: &DeliveryStats) {
        self.total_events_sent += other.total_events_sent;
        self.failed_deliveries += other.failed_deliveries;
        if other.last_failure_time > self.last_failure_time {
            self.last_failure_time = other.last_failure_time;
            self.last_failure_reason = other.last_failure_reason;
        }
    }
}

/// The state of a connection in the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionStatus {
    /// The peer was heard from within the heartbeat timeout.
    Connected,
    /// The peer was silent for the heartbeat timeout, but its kernel answers, so it gets an additional grace.
    Stale,
    /// The hub is closing the connection: it gets no more events.
    Closing,
}

/// An event that a gateway is at work on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessingRow {
    /// Its position.
    pub position: Position,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its correlation id.
    pub correlation_id: CorrelationId,
    /// When it was written, or the event before it was processed, if that was later.
    pub since: Timestamp,
}

/// One live connection, as the statistics show it (contract section 3).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRow {
    /// The gateway it belongs to.
    pub gateway_id: GatewayId,
    /// The connection's id.
    pub connection_id: ConnectionId,
    /// Time at which it joined.
    pub connected_at: Timestamp,
    /// Time at which the peer last sent something.
    pub last_heartbeat: Timestamp,
    /// Its state.
    pub status: ConnectionStatus,
    /// The peer's address.
    pub remote_address: SocketAddr,
    /// The shard that owns it.
    pub shard: ShardId,
    /// Time from the last answered ping to its pong, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Bytes of payloads that it is behind its gateway's log.
    pub queued_bytes: u64,
    /// What its pongs prove: `processed`, or nothing with `written`.
    pub delivery: DeliveryMode,
    /// The event that its gateway is at work on, with the delivery `processed`.
    pub processing: Option<ProcessingRow>,
    /// Each event up to this position was processed, with the delivery `processed`.
    pub processed: Option<Position>,
    /// Number of events behind that one.
    pub unprocessed: Option<u64>,
    /// Number of events that its gateway had missed when it came back the last time.
    pub missed: u64,
    /// Its deliveries and failures.
    pub delivery_stats: DeliveryStats,
}
