//! Finds the items of a slab by the gateway that each belongs to. The items have its id themselves, and it is not kept twice: there may
//! be many thousands.

use super::GatewayId;
use ahash::RandomState;
use hashbrown::HashTable;
use std::fmt;

/// The keys of items by their gateways. `of` says in each call which gateway the item with a key belongs to.
#[derive(Default)]
pub struct GatewayIndex {
    keys: HashTable<u32>,
    hasher: RandomState,
}

impl GatewayIndex {
    /// The key of a gateway's item.
    pub fn get(&self, gateway: GatewayId, of: impl Fn(u32) -> GatewayId) -> Option<u32> {
        self.keys.find(self.hasher.hash_one(gateway), |key| of(*key) == gateway).copied()
    }

    /// Adds an item whose gateway has none.
    pub fn insert(&mut self, gateway: GatewayId, key: u32, of: impl Fn(u32) -> GatewayId) {
        debug_assert!(self.get(gateway, &of).is_none(), "a gateway has one item");
        let hasher = &self.hasher;
        self.keys.insert_unique(hasher.hash_one(gateway), key, |key| hasher.hash_one(of(*key)));
    }

    /// Removes the item of a gateway; returns its key.
    pub fn remove(&mut self, gateway: GatewayId, of: impl Fn(u32) -> GatewayId) -> Option<u32> {
        let entry = self.keys.find_entry(self.hasher.hash_one(gateway), |key| of(*key) == gateway);
        entry.ok().map(|entry| entry.remove().0)
    }
}

impl fmt::Debug for GatewayIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayIndex").field("items", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_by_their_gateways_and_not_once_they_are_removed() {
        let gateways: Vec<_> = (0..1_000).map(|_| GatewayId::random()).collect();
        let of = |key: u32| gateways[key as usize];
        let mut index = GatewayIndex::default();
        for key in 0..1_000 {
            assert_eq!(index.get(of(key), of), None);
            index.insert(of(key), key, of);
        }
        for key in (0..1_000).step_by(2) {
            assert_eq!(index.remove(of(key), of), Some(key));
            assert_eq!(index.remove(of(key), of), None);
        }
        for key in 0..1_000 {
            assert_eq!(index.get(of(key), of), (key % 2 == 1).then_some(key));
        }
    }
}
