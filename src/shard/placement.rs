//! Which shard owns a gateway: a pure function of id, shard count and a seed, the same for the life of the process.

use crate::model::{GatewayId, NetworkPrefix, ShardId};
use ahash::RandomState;
use std::net::IpAddr;

/// The rule of one process; every core holds the same copy.
#[derive(Clone, Debug)]
pub struct Placement {
    state: RandomState,
    shards: u16,
}

impl Placement {
    /// A rule for `shards` shards. The seed makes the placement unpredictable to whoever chooses gateway ids.
    ///
    /// # Panics
    /// With no shards at all.
    pub fn new(shards: u16, seed: u64) -> Self {
        assert!(shards > 0, "a hub has at least one shard");
        Self { state: RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0x6761_7465_6361_7374), shards }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The owner of a gateway, with all of its connections.
    pub fn of_gateway(&self, gateway: GatewayId) -> ShardId {
        self.pick(self.state.hash_one(gateway))
    }

    /// The keeper of an address's connection attempts, which makes the rate limit exact over all shards. What counts as one
    /// address there has one keeper.
    pub fn of_address(&self, address: IpAddr) -> ShardId {
        self.pick(self.state.hash_one(NetworkPrefix::from(address)))
    }

    fn pick(&self, hash: u64) -> ShardId {
        // The high half times the count, shifted: even, and without a division.
        let index = ((hash >> 32) * u64::from(self.shards)) >> 32;
        ShardId(u16::try_from(index).expect("below the shard count, which is 16 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_gets_its_part_and_an_owner_never_changes() {
        let placement = Placement::new(7, 42);
        let mut counts = [0; 7];
        for _ in 0..7_000 {
            let gateway = GatewayId::random();
            let owner = placement.of_gateway(gateway);
            assert_eq!(owner, placement.clone().of_gateway(gateway));
            counts[owner.index()] += 1;
        }
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn what_the_rate_limit_counts_as_one_address_has_one_keeper() {
        let placement = Placement::new(7, 42);
        let keeper = |text: &str| placement.of_address(text.parse().unwrap());
        for host in 0..100 {
            assert_eq!(keeper(&format!("2001:db8:0:1::{host:x}")), keeper("2001:db8:0:1:ffff::"), "host {host}");
            assert_eq!(keeper(&format!("::ffff:10.0.0.{host}")), keeper(&format!("10.0.0.{host}")), "host {host}");
        }
    }
}
