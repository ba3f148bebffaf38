//! Where gateways without connections have left: by it a gateway that comes back is told apart from one that has missed nothing.

use crate::model::{GatewayId, Life, Position};
use ahash::HashMap;

/// The last position that each gateway had when its last connection ended. Only for gateways whose feed is gone, and only those that
/// have connected since the hub started.
#[derive(Debug, Default)]
pub(super) struct Absences {
    left: HashMap<GatewayId, (u64, Position)>,
}

impl Absences {
    pub(super) fn note(&mut self, Life { gateway, incarnation }: Life, at: Position) {
        self.left.insert(gateway, (incarnation, at));
    }

    /// Takes the offset at which a gateway has left, if the log has the same epoch.
    pub(super) fn take(&mut self, life: Life, epoch: u64) -> Option<u64> {
        let (incarnation, at) = self.left.remove(&life.gateway)?;
        (incarnation == life.incarnation && at.epoch == epoch).then_some(at.offset)
    }

    /// Removes the state of a deleted gateway.
    pub(super) fn forget(&mut self, gateway: GatewayId) {
        self.left.remove(&gateway);
    }
}
