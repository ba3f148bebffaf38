//! The time of each gateway's last deployment.

use crate::model::{GatewayId, Life, Timestamp};
use ahash::HashMap;

/// The last deployments of one shard's gateways. A gateway that never had one uses no memory.
#[derive(Debug, Default)]
pub(super) struct DeploymentTimes {
    /// With the incarnation of the gateway that had the deployment.
    last: HashMap<GatewayId, (u64, Timestamp)>,
}

impl DeploymentTimes {
    /// The time of a new deployment: `wall`, or a millisecond after the previous one if the clock has not advanced or was
    /// set back.
    pub(super) fn next(&mut self, Life { gateway, incarnation }: Life, wall: Timestamp) -> Timestamp {
        // A gateway ignores a deployment that is not later than its last one, so two must never have the same time.
        let before = self.last.get(&gateway).filter(|(of, _)| *of == incarnation);
        let at = before.map_or(wall, |(_, before)| wall.max(Timestamp(before.0.saturating_add(1))));
        self.last.insert(gateway, (incarnation, at));
        at
    }

    /// Removes the state of a deleted gateway.
    pub(super) fn forget(&mut self, gateway: GatewayId) {
        self.last.remove(&gateway);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_deployments_rise_even_if_the_clock_is_set_back() {
        let mut times = DeploymentTimes::default();
        let [one, other] = [(); 2].map(|()| Life { gateway: GatewayId::random(), incarnation: 1 });
        let mut at = |life, wall| times.next(life, Timestamp(wall)).0;
        assert_eq!([at(one, 100), at(one, 100), at(one, 50), at(one, 200), at(one, 201)], [100, 101, 102, 200, 201]);
        assert_eq!(at(other, 50), 50, "each gateway has its own times");
        assert_eq!(at(Life { incarnation: 2, ..one }, 50), 50, "a gateway that is made again begins anew");
        times.forget(one.gateway);
        assert_eq!(times.last.len(), 1);
    }
}
