//! Rare events of a core that are worth a log line or a counter. The engine reports them as values and does not log
//! itself.

use super::live_tokens::LiveTokens;
use crate::{
    model::{CloseReason, ConnectionId, DeploymentAck, GatewayId, KeyHash, Refused},
    shard::{DeliveryFailure, Missed, Repeated, Skipped, Undelivered},
};
use std::{net::SocketAddr, time::Duration};

/// Something that happened on one core.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A gateway has connected and receives events from now on.
    Connected {
        /// The gateway.
        gateway: GatewayId,
        /// The connection's id.
        connection: ConnectionId,
        /// The peer's address.
        address: SocketAddr,
    },
    /// A gateway's connection has ended.
    Disconnected {
        /// The gateway.
        gateway: GatewayId,
        /// The connection's id.
        connection: ConnectionId,
        /// The peer's address.
        address: SocketAddr,
        /// Why it ended.
        reason: CloseReason,
        /// The time between connect and end.
        lasted: Duration,
    },
    /// A connection that had not authenticated, or an idle one, was closed to accept another.
    MadeRoom {
        /// The peer's address.
        address: SocketAddr,
    },
    /// A gateway's connect was refused for a reason other than its key.
    Refused {
        /// The peer's address.
        address: SocketAddr,
        /// Why it was refused.
        refused: Refused,
    },
    /// An upgrade came from an origin that is neither listed nor the hub's own.
    OriginRefused {
        /// The peer's address.
        address: SocketAddr,
        /// The origin as the peer sent it, escaped and truncated.
        origin: &'a str,
        /// The tokens that must not appear in the log line.
        tokens: LiveTokens<'a>,
    },
    /// A key or the admin token was missing or wrong.
    Unauthorized {
        /// The peer's address.
        address: SocketAddr,
        /// The hash of the key that the peer sent; the log shows its fingerprint.
        key: Option<KeyHash>,
    },
    /// An event did not reach a connection, or its gateway had none.
    DeliveryFailed {
        /// The delivery, and why it failed.
        failure: &'a DeliveryFailure,
        /// The tokens that must not appear in the log line.
        tokens: LiveTokens<'a>,
    },
    /// An event waits, because its gateway has no connection; it is delivered when the gateway comes back.
    Waiting {
        /// The event.
        waiting: &'a Undelivered,
        /// The tokens that must not appear in the log line.
        tokens: LiveTokens<'a>,
    },
    /// A gateway has come back and is behind its last event.
    Missed(Missed),
    /// An event was not delivered, and will not be.
    Skipped {
        /// The event, and why.
        skipped: &'a Skipped,
        /// The tokens that must not appear in the log line.
        tokens: LiveTokens<'a>,
    },
    /// A publisher used a correlation id that the gateway has received before.
    IdRepeated(Repeated),
    /// The number of further deliveries that failed and got no notice of their own.
    FailuresLeftOut(u64),
    /// A gateway reported the result of a deployment.
    Acknowledged {
        /// The gateway.
        gateway: GatewayId,
        /// The connection's id.
        connection: ConnectionId,
        /// The report.
        ack: &'a DeploymentAck,
        /// The tokens that must not appear in the log line.
        tokens: LiveTokens<'a>,
    },
    /// A text message from a gateway that is JSON with a type that the hub does not know.
    UnknownMessage {
        /// The gateway.
        gateway: GatewayId,
        /// The connection's id.
        connection: ConnectionId,
    },
    /// A text message from a gateway that is not a JSON object with a `type`.
    Malformed {
        /// The gateway.
        gateway: GatewayId,
        /// The connection's id.
        connection: ConnectionId,
        /// The peer's address.
        address: SocketAddr,
    },
    /// A binary message, or a text message after a close frame, was ignored.
    Ignored {
        /// The peer's address.
        address: SocketAddr,
    },
    /// TLS with a peer failed.
    TlsFailed {
        /// The peer's address.
        address: SocketAddr,
        /// The error of rustls.
        error: &'a str,
    },
    /// The code of one connection panicked; that connection ends.
    Panicked {
        /// The peer's address.
        address: SocketAddr,
    },
    /// The kernel refused to accept a connection.
    CannotAccept(&'a std::io::Error),
    /// A reply to another core was lost because the lane to it was full. This is a bug of the hub.
    ReplyLost,
    /// The core did not run for this time: the process was stopped, or the machine gave it no processor.
    TimeLost(Duration),
    /// Connections of gateways were closed by force, because the time of the drain was over.
    Forced {
        /// Number of connections.
        connections: usize,
    },
}
