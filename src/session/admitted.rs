//! The contents of a connection's ack.

use crate::model::{ConnectionId, GatewayId, Position};

/// The identity of an admitted connection, which its ack tells the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// The gateway.
    pub gateway: GatewayId,
    /// The id of this connection.
    pub connection: ConnectionId,
    /// The connection receives the events behind this position; `None` if the log did not say in time where it is.
    pub position: Option<Position>,
    /// Whether the connection goes on where the gateway asked it to; `None` if it did not ask.
    pub resumed: Option<bool>,
    /// Its pings name positions, and its pongs prove what the gateway has processed.
    pub proves: bool,
    /// Its place in the memory of its core.
    pub place: u32,
}
