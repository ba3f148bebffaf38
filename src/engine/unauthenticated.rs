//! Connections that have not authenticated, by address, and which of them to close first.

use super::link_key::LinkKey;
use crate::model::NetworkPrefix;
use std::collections::{BTreeMap, VecDeque};

/// The connections that have presented no valid key or token. Authenticated ones do not count: all of a platform's
/// publishers may come from one address.
#[derive(Default)]
pub(super) struct Unauthenticated {
    /// In order of arrival, with stale entries of connections that have authenticated or closed since. Removing those
    /// at once would need a search of the queue for every connection that authenticates.
    queue: VecDeque<(NetworkPrefix, LinkKey)>,
    by_address: BTreeMap<NetworkPrefix, usize>,
    /// How many addresses have a given number of connections; its last key is the largest number.
    sizes: BTreeMap<usize, usize>,
    count: usize,
}

/// Stale entries are removed once there are this many more of them than of current ones.
const STALE_MAX: usize = 64;

impl Unauthenticated {
    /// Adds a connection. `is_unauthenticated` tells current entries of the queue from stale ones.
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

    /// Removes one connection of this address: it has authenticated or closed.
    pub(super) fn remove(&mut self, address: NetworkPrefix) {
        let Some(size) = self.by_address.get_mut(&address) else {
            debug_assert!(false, "a removed connection was counted");
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

    /// The largest number of connections of one address; 0 if no address has more than one. The only connection of an
    /// address is most likely in its handshake, so it is not closed before idle ones.
    pub(super) fn max_per_address(&self) -> usize {
        self.sizes.last_key_value().map(|(size, _)| *size).filter(|size| *size > 1).unwrap_or(0)
    }

    /// The connection to close first: the oldest one of the addresses with the most.
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
    fn the_oldest_connection_of_the_address_with_the_most_is_closed_first() {
        let mut unauthenticated = Unauthenticated::default();
        for (index, last) in [1, 2, 2, 1, 2].into_iter().enumerate() {
            unauthenticated.insert(address(last), key(index as u32), |_| true);
        }
        assert_eq!((unauthenticated.first(|_| true), unauthenticated.max_per_address()), (Some(key(1)), 3));
        assert_eq!(unauthenticated.first(|it| it != key(1)), Some(key(2)), "an authenticated connection is skipped");
        unauthenticated.remove(address(2));
        assert_eq!(
            unauthenticated.first(|it| it != key(1)),
            Some(key(0)),
            "two addresses with the same number: the oldest of both"
        );
        unauthenticated.remove(address(2));
        assert_eq!(unauthenticated.first(|_| true), Some(key(0)));
        unauthenticated.remove(address(1));
        assert_eq!(unauthenticated.first(|_| true), None, "an address with one connection is spared");
        assert_eq!(unauthenticated.max_per_address(), 0);
    }

    #[test]
    fn closed_connections_leave_a_bounded_queue_and_no_counts() {
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
