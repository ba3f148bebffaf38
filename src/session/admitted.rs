//! The contents of a connection's ack.

use crate::model::{ConnectionId, GatewayId, Position};

/// The identity of an admitted connection, which its ack tells the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// The gateway.
    pub gateway: GatewayId,
    /// The id of this connection.
    pub connection: ConnectionId,
    /// The position of the gateway's last event: the connection receives those after it.
    pub position: Position,
}
