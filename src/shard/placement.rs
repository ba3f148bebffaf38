//! The shard that owns a gateway or an address: a pure function of id, shard count and a seed, which stays the same as
//! long as the process runs.
//!
//! A function needs no table that cores would have to share and keep up to date. The cost is that gateways never move:
//! a core with several busy ones stays busier than the others.

use crate::model::{GatewayId, NetworkPrefix, ShardId};
use ahash::RandomState;
use std::net::IpAddr;

/// The placement of one process; every core has the same copy.
#[derive(Clone, Debug)]
pub struct Placement {
    state: RandomState,
    shards: u16,
}

impl Placement {
    /// A placement on `shards` shards. Because of the seed nobody can choose gateway ids that all have the same owner.
    ///
    /// # Panics
    /// If `shards` is 0.
    pub fn new(shards: u16, seed: u64) -> Self {
        assert!(shards > 0, "a hub has at least one shard");
        Self { state: RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0x6761_7465_6361_7374), shards }
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The owner of a gateway and of all its connections.
    pub fn of_gateway(&self, gateway: GatewayId) -> ShardId {
        self.pick(self.state.hash_one(gateway))
    }

    /// The shard that counts the connection attempts of an address. There is one for all addresses that the rate limit
    /// counts as one, so the limit is exact over all shards.
    pub fn of_address(&self, address: IpAddr) -> ShardId {
        self.pick(self.state.hash_one(NetworkPrefix::from(address)))
    }

    fn pick(&self, hash: u64) -> ShardId {
        // Multiply and shift instead of a remainder: spread as evenly, and without a division.
        let index = ((hash >> 32) * u64::from(self.shards)) >> 32;
        ShardId(u16::try_from(index).expect("below the shard count, which is 16 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_spread_evenly_and_an_owner_never_changes() {
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
    fn addresses_that_the_rate_limit_counts_as_one_have_one_owner() {
        let placement = Placement::new(7, 42);
        let owner = |text: &str| placement.of_address(text.parse().unwrap());
        for host in 0..100 {
            assert_eq!(owner(&format!("2001:db8:0:1::{host:x}")), owner("2001:db8:0:1:ffff::"), "host {host}");
            assert_eq!(owner(&format!("::ffff:10.0.0.{host}")), owner(&format!("10.0.0.{host}")), "host {host}");
        }
    }
}
