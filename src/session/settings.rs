//! What every connection of a hub has in common.

use std::time::Duration;

/// How signs of life are asked for (contract section 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// A ping goes out this often.
    pub interval: Duration,
    /// Closed after so long without a sign of life.
    pub timeout: Duration,
    /// How much longer a peer may be silent whose kernel still acknowledges.
    pub busy_grace: Duration,
}

/// The settings, shared by all sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins that a browser may connect from.
    pub origins: Vec<String>,
    /// TLS handshake and request head together.
    pub handshake_deadline: Duration,
    /// Pings and the silence that ends a connection.
    pub heartbeat: Heartbeat,
    /// How long a socket may take nothing while bytes wait.
    pub write_deadline: Duration,
    /// One inbound message.
    pub inbound_message_bytes_max: usize,
}
