//! What a core asks a shard, and what the shard answers: plain values, so that they can cross between cores.

use super::counters::Counters;
use crate::model::{ConnectionId, Event, GatewayId, PublishOutcome, ShardId, Timestamp};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// A question to the shard that owns what it is about.
#[derive(Debug)]
pub enum Command {
    /// Deliver one event. Answered by [`Reply::Published`] or [`Reply::NoSuchGateway`].
    Publish(Event),
    /// Deliver several, in this order. Answered by [`Reply::PublishedMany`], in this order.
    PublishMany(Vec<Event>),
    /// The same for deployments: each gets the time at which it is performed, which is its payload's last member and later than that
    /// of the gateway's deployment before.
    Deploy(Vec<Event>),
    /// How much is there, in all or for one gateway? Answered by [`Reply::Totals`].
    Totals(Option<GatewayId>),
    /// Connections in a stable order, from `skip`, at most `take`. Answered by [`Reply::Connections`].
    Connections {
        /// Only this gateway's.
        gateway: Option<GatewayId>,
        /// Rows left out at the front.
        skip: usize,
        /// Rows at the most, up to [`crate::limits::PAGE_ROWS_MAX`].
        take: usize,
    },
    /// May this address try to connect now? Answered by [`Reply::Attempt`].
    Attempt(IpAddr),
    /// How many live connections has each of these gateways? Answered by [`Reply::Live`], in this order.
    Live(Vec<GatewayId>),
}

/// A shard's answer.
#[derive(Debug)]
pub enum Reply {
    /// To [`Command::Publish`].
    Published(PublishOutcome),
    /// To [`Command::Publish`]: the gateway was deleted while the event was on its way, or is not made yet.
    NoSuchGateway,
    /// To [`Command::PublishMany`] and [`Command::Deploy`]; `None` in the place of an event whose gateway is not there.
    PublishedMany(Vec<Option<PublishOutcome>>),
    /// To [`Command::Totals`].
    Totals(Totals),
    /// To [`Command::Connections`].
    Connections(Vec<ConnectionRow>),
    /// To [`Command::Attempt`]: seconds to wait where it may not.
    Attempt(Result<(), u32>),
    /// To [`Command::Live`].
    Live(Vec<u32>),
}

/// One shard's sums (contract section 3). They cover connections that have gone, too.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Which shard.
    pub shard: ShardId,
    /// Live connections.
    pub connections: usize,
    /// Gateways with at least one of them.
    pub gateways: usize,
    /// What was delivered and what was not.
    #[serde(flatten)]
    pub deliveries: DeliveryStats,
    /// Events with a correlation id, given by the publisher, that their gateway had got before; for the metrics.
    #[serde(skip)]
    pub ids_repeated: u64,
    /// What gateways said; for the metrics.
    #[serde(skip)]
    pub inbound: InboundStats,
    /// What was refused and closed; for the metrics.
    #[serde(skip)]
    pub counters: Box<Counters>,
}

/// Messages that came from gateways.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct InboundStats {
    /// `deployment.ack` of a deployment that went well.
    pub acknowledged: u64,
    /// `deployment.ack` of one that did not.
    pub refused: u64,
    /// Text that is no JSON object with a type.
    pub malformed: u64,
}

/// Deliveries of one connection, one shard or the whole hub.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStats {
    /// Events written whole to a socket.
    pub total_events_sent: u64,
    /// Events that were not.
    pub failed_deliveries: u64,
    /// When the last one failed.
    pub last_failure_time: Option<Timestamp>,
    /// Why it did.
    pub last_failure_reason: Option<&'static str>,
}

impl DeliveryStats {
    /// Adds another's counts; the later failure is the last one.
    pub fn add(&mut self, other: &DeliveryStats) {
        self.total_events_sent += other.total_events_sent;
        self.failed_deliveries += other.failed_deliveries;
        if other.last_failure_time > self.last_failure_time {
            self.last_failure_time = other.last_failure_time;
            self.last_failure_reason = other.last_failure_reason;
        }
    }
}

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionStatus {
    /// Events go out, signs of life come back.
    Connected,
    /// No sign of life for the timeout, but the peer's kernel is there and the grace is not over.
    Stale,
    /// A close frame is on its way.
    Closing,
}

/// One live connection, as the statistics show it (contract section 3).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRow {
    /// Whose.
    pub gateway_id: GatewayId,
    /// Which.
    pub connection_id: ConnectionId,
    /// Since when.
    pub connected_at: Timestamp,
    /// When the peer last gave a sign of life.
    pub last_heartbeat: Timestamp,
    /// How it is.
    pub status: ConnectionStatus,
    /// From where.
    pub remote_address: SocketAddr,
    /// On which shard.
    pub shard: ShardId,
    /// Ping to pong, in milliseconds, of the last answered ping.
    pub round_trip_ms: Option<f64>,
    /// Bytes that wait for its socket.
    pub queued_bytes: usize,
    /// What it got and what it did not.
    pub delivery_stats: DeliveryStats,
}
