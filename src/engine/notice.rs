//! What is rare and worth telling, said once as a value: log lines and counters are made of it outside.

use super::live_tokens::LiveTokens;
use crate::{
    model::{CloseReason, ConnectionId, DeploymentAck, GatewayId, KeyHash, Refused},
    shard::{DeliveryFailure, Repeated},
};
use std::{net::SocketAddr, time::Duration};

/// Something that happened on one core.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A gateway's connection gets its events from now on.
    Connected {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        connection: ConnectionId,
        /// From where.
        address: SocketAddr,
    },
    /// A gateway's connection has ended.
    Disconnected {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        connection: ConnectionId,
        /// From where.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
        /// For how long it was connected.
        lasted: Duration,
    },
    /// A connection that never authenticated, or that had nothing under way, was closed to accept another.
    MadeRoom {
        /// From where.
        address: SocketAddr,
    },
    /// A gateway was not let in, for a reason that is not its key.
    Refused {
        /// From where.
        address: SocketAddr,
        /// Why.
        refused: Refused,
    },
    /// An upgrade came from an origin that is neither listed nor the hub's own.
    OriginRefused {
        /// From where.
        address: SocketAddr,
        /// The origin, escaped and cut.
        origin: &'a str,
        /// The tokens that must not be in the line.
        tokens: LiveTokens<'a>,
    },
    /// A key or the admin token was missing or wrong.
    Unauthorized {
        /// From where.
        address: SocketAddr,
        /// The key that was presented, for its fingerprint.
        key: Option<KeyHash>,
    },
    /// An event did not reach a connection, or its gateway had none.
    DeliveryFailed {
        /// Which delivery, and why.
        failure: &'a DeliveryFailure,
        /// The tokens that must not be in the line.
        tokens: LiveTokens<'a>,
    },
    /// A publisher gave a correlation id that its gateway has got before.
    IdRepeated(Repeated),
    /// This many more deliveries failed, and were only counted.
    FailuresLeftOut(u64),
    /// A gateway says how a deployment went.
    Acknowledged {
        /// Whose.
        gateway: GatewayId,
        /// On which connection.
        connection: ConnectionId,
        /// What it says.
        ack: &'a DeploymentAck,
        /// The tokens that must not be in the line.
        tokens: LiveTokens<'a>,
    },
    /// A text message from a gateway that is JSON with a type that the hub does not know.
    UnknownMessage {
        /// Whose.
        gateway: GatewayId,
        /// On which connection.
        connection: ConnectionId,
    },
    /// A text message from a gateway that is not a JSON object with a `type`.
    Malformed {
        /// Whose.
        gateway: GatewayId,
        /// On which connection.
        connection: ConnectionId,
        /// From where.
        address: SocketAddr,
    },
    /// A binary message, or a text behind a close.
    Ignored {
        /// From where.
        address: SocketAddr,
    },
    /// TLS with a peer failed.
    TlsFailed {
        /// From where.
        address: SocketAddr,
        /// What rustls says.
        error: &'a str,
    },
    /// The code of one connection panicked; that connection ends.
    Panicked {
        /// From where.
        address: SocketAddr,
    },
    /// The kernel gives no more connections for now.
    CannotAccept(&'a std::io::Error),
    /// A reply found no room in its core's lane: a bug of ours.
    ReplyLost,
    /// The core did not run for this long: the process was stopped, or the machine had no time for it.
    TimeLost(Duration),
    /// The drain's time was over for this many gateways' connections.
    Forced {
        /// How many.
        connections: usize,
    },
}
