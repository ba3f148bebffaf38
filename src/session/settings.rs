//! The settings that all connections of a hub share.

use std::time::Duration;

/// The heartbeat of a gateway's connection (contract section 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Time between two pings.
    pub interval: Duration,
    /// Time without a byte from the peer after which the connection is closed.
    pub timeout: Duration,
    /// Time added to `timeout` for a peer whose kernel still acknowledges bytes.
    pub busy_grace: Duration,
}

/// The settings, shared by all sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins that are allowed besides the hub's own.
    pub origins: Vec<String>,
    /// Time for the TLS handshake and the first request head together, and for each later head.
    pub handshake_deadline: Duration,
    /// Pings and the silence that ends a connection.
    pub heartbeat: Heartbeat,
    /// Time for which a socket may take no bytes while some wait.
    pub write_deadline: Duration,
    /// Time for which a gateway may process one event, in the delivery `processed`.
    pub processing_timeout: Duration,
    /// Bytes of one message from a gateway.
    pub inbound_message_bytes_max: usize,
}
