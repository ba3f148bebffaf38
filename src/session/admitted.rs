//! What an admitted gateway is told in its ack.

use crate::model::{ConnectionId, GatewayId, Position};

/// What an admitted gateway is told.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// Whose connection it is.
    pub gateway: GatewayId,
    /// Which.
    pub connection: ConnectionId,
    /// Where its events begin.
    pub position: Position,
}
