//! Where each gateway's sequence of events stands.

use crate::model::{GatewayId, Position};
use ahash::HashMap;

/// The positions of one shard's gateways, in one epoch. A gateway that never got an event costs nothing.
#[derive(Debug)]
pub struct Log {
    epoch: u64,
    last: HashMap<GatewayId, u64>,
}

impl Log {
    /// An empty log under a name that no log of the past has.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, last: HashMap::default() }
    }

    /// The position of the gateway's next event, which is its last from now on.
    pub fn append(&mut self, gateway: GatewayId) -> Position {
        let offset = self.last.entry(gateway).or_insert(0);
        *offset += 1;
        Position { epoch: self.epoch, offset: *offset }
    }

    /// The position of the gateway's last event.
    pub fn last(&self, gateway: GatewayId) -> Position {
        Position { epoch: self.epoch, offset: self.last.get(&gateway).copied().unwrap_or(0) }
    }
}
