//! What a shard asks its engine to carry out.

use super::{
    command::Reply, connection_key::ConnectionKey, in_flight::Origin, joins::Begin, processing::About,
    recent_ids::Repeated,
};
use crate::model::{CloseReason, ConnectionId, GatewayId, Position};

/// What the engine has to carry out.
#[derive(Debug)]
pub enum Effect {
    /// Send this reply to the core that sent the command.
    Reply(Origin, Reply),
    /// Tell the gateway of this connection where it begins.
    Admit(ConnectionKey, Begin),
    /// Refuse this connection, which asks to resume: the log cannot say where it is.
    Refuse(ConnectionKey),
    /// Close this connection.
    Close(ConnectionKey, CloseReason),
    /// Log that publishers gave correlation ids which their gateways had received before.
    Repeated(Repeated),
    /// Log that a gateway has come back and has missed events.
    Missed(Missed),
    /// Log that an event was not delivered, because its gateway never got past it, or because it cannot be read.
    Skipped(Skipped),
}

/// A gateway that has come back and is behind its last event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its new connection.
    pub connection: ConnectionId,
    /// Number of events.
    pub events: u64,
    /// Whether it does not get them: otherwise they are delivered now.
    pub is_lost: bool,
}

/// An event that its gateway is not given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// Its gateway.
    pub gateway: GatewayId,
    /// Its position.
    pub position: Position,
    /// Its type and correlation id; `None` if it cannot be read.
    pub about: Option<About>,
    /// Why, as in the metrics.
    pub why: &'static str,
}
