//! Where gateways without connections have left: by it a gateway that comes back is told apart from one that has missed nothing.

use crate::model::{GatewayId, Instant, Life, Position};
use ahash::HashMap;

/// What is known of a gateway whose feed is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    /// The last position that it had when its last connection ended, with the delivery `written`.
    pub(super) left_at: Option<Position>,
    /// When its last connection ended with an event in its hands, with the delivery `processed`.
    pub(super) attempted: Option<Instant>,
}

/// The gateways whose feed is gone. Only those that have connected since the hub started.
#[derive(Debug, Default)]
pub(super) struct Absences {
    left: HashMap<GatewayId, (u64, Absence)>,
}

impl Absences {
    pub(super) fn note(&mut self, Life { gateway, incarnation }: Life, absence: Absence) {
        if absence.left_at.is_some() || absence.attempted.is_some() {
            self.left.insert(gateway, (incarnation, absence));
        }
    }

    /// Takes what is known of a gateway that has come back.
    pub(super) fn take(&mut self, life: Life) -> Option<Absence> {
        let (incarnation, absence) = self.left.remove(&life.gateway)?;
        (incarnation == life.incarnation).then_some(absence)
    }

    /// Removes the state of a deleted gateway.
    pub(super) fn forget(&mut self, gateway: GatewayId) {
        self.left.remove(&gateway);
    }
}
