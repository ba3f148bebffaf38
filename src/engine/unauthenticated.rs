//! Connections that never authenticated, by address: who goes first where there is no room for another.

use super::link_key::LinkKey;
use crate::model::NetworkPrefix;
use std::collections::{BTreeMap, VecDeque};

/// Who has not shown a key or token yet. An address counts by how many of these it has, so a platform with thousands of
/// connections that have authenticated counts nothing.
#[derive(Default)]
pub(super) struct Unauthenticated {
    /// In the order in which they came; some have authenticated or gone since.
    queue: VecDeque<(NetworkPrefix, LinkKey)>,
    by_address: BTreeMap<NetworkPrefix, usize>,
    /// How many addresses have how many connections, so that the greatest number is known at once.
    sizes: BTreeMap<usize, usize>,
    count: usize,
}

/// The queue keeps this many entries of connections that are not its own any more, and as many as it has others.
const STALE_MAX: usize = 64;

impl Unauthenticated {
    /// A connection came. `is_unauthenticated` is asked about those that came before.
    pub(super) fn insert(
        &mut self,
        address: NetworkPrefix,
        key: LinkKey,
        is_unauthenticated: impl Fn(LinkKey) -> bool,
    ) {
        if self.queue.len() > self.count * 2 + STALE_MAX {
            self.queue.retain(|(_, key)| is_unauthenticated(*key));
        }
        self.queue.push_back((address, key));
        let size = self.by_address.entry(address).or_default();
        *size += 1;
        let size = *size;
        self.resized(size - 1, size);
        self.count += 1;
    }

    /// One of this address has authenticated, or is gone.
    pub(super) fn remove(&mut self, address: NetworkPrefix) {
        let Some(size) = self.by_address.get_mut(&address) else {
            debug_assert!(false, "who came is counted");
            return;
        };
        *size -= 1;
        let size = *size;
        if size == 0 {
            self.by_address.remove(&address);
        }
        self.resized(size + 1, size);
        self.count -= 1;
    }

    fn resized(&mut self, from: usize, to: usize) {
        if let Some(addresses) = self.sizes.get_mut(&from) {
            *addresses -= 1;
            if *addresses == 0 {
                self.sizes.remove(&from);
            }
        }
        if to > 0 {
            *self.sizes.entry(to).or_default() += 1;
        }
    }

    /// How many connections the address with the most has; 0 where every address has one at most: whoever is the only one of
    /// its address is in its handshake, most likely, and is not closed for another.
    pub(super) fn max_per_address(&self) -> usize {
        self.sizes.last_key_value().map(|(size, _)| *size).filter(|size| *size > 1).unwrap_or(0)
    }

    /// The one to close first: the oldest of the addresses that have the most.
    pub(super) fn first(&self, is_unauthenticated: impl Fn(LinkKey) -> bool) -> Option<LinkKey> {
        let max = self.max_per_address();
        let mut oldest = self.queue.iter().filter(|(address, _)| max > 0 && self.by_address.get(address) == Some(&max));
        oldest.find(|(_, key)| is_unauthenticated(*key)).map(|(_, key)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> NetworkPrefix {
        std::net::IpAddr::from([10, 0, 0, last]).into()
    }

    fn key(index: u32) -> LinkKey {
        LinkKey { index, serial: index + 1 }
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_goes_first() {
        let mut unauthenticated = Unauthenticated::default();
        for (index, last) in [1, 2, 2, 1, 2].into_iter().enumerate() {
            unauthenticated.insert(address(last), key(index as u32), |_| true);
        }
        assert_eq!((unauthenticated.first(|_| true), unauthenticated.max_per_address()), (Some(key(1)), 3));
        assert_eq!(unauthenticated.first(|it| it != key(1)), Some(key(2)), "one that has authenticated is passed over");
        unauthenticated.remove(address(2));
        assert_eq!(unauthenticated.first(|it| it != key(1)), Some(key(0)), "a draw: the oldest of both");
        unauthenticated.remove(address(2));
        assert_eq!(unauthenticated.first(|_| true), Some(key(0)));
        unauthenticated.remove(address(1));
        assert_eq!(unauthenticated.first(|_| true), None, "one of each is nobody's crowd");
        assert_eq!(unauthenticated.max_per_address(), 0);
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let mut unauthenticated = Unauthenticated::default();
        for index in 0..10_000 {
            unauthenticated.insert(address(1), key(index), |_| false);
            unauthenticated.remove(address(1));
        }
        assert!(
            unauthenticated.queue.len() <= STALE_MAX + 1
                && unauthenticated.by_address.is_empty()
                && unauthenticated.sizes.is_empty()
        );
        assert_eq!(unauthenticated.first(|_| false), None);
    }
}
