//! The connections of one core that have not authenticated yet, and the choice of one to close when there is no room
//! for a new connection (docs/decisions/0011).

use super::link_key::LinkKey;
use crate::model::{Instant, NetworkPrefix};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Time that a connection has to authenticate before it may be closed for another. TLS and a request head take a few
/// round trips.
pub(super) const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// An address is a crowd if it has at least this many unauthenticated connections, and at least one in [`CROWD_SHARE`]
/// of all.
const CROWD_MIN: usize = 8;
/// The divisor of a crowd's minimum share: 4 means a quarter of all unauthenticated connections.
const CROWD_SHARE: usize = 4;

/// Unauthenticated connections by age and by address. Authenticated connections do not count, so a platform with
/// thousands of connections from one address is not a crowd.
#[derive(Default)]
pub(super) struct Unauthenticated {
    next: u64,
    /// All of them, oldest first.
    arrivals: BTreeMap<u64, Arrival>,
    by_address: BTreeMap<NetworkPrefix, BTreeSet<u64>>,
    /// Addresses by their number of connections. Of two with the same number, the one with the older connection is
    /// last.
    by_size: BTreeSet<(usize, Reverse<u64>, NetworkPrefix)>,
}

struct Arrival {
    address: NetworkPrefix,
    key: LinkKey,
    at: Instant,
}

/// Identifies a connection in [`Unauthenticated`], to remove it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct UnauthenticatedTicket(u64);

/// What a core publishes to the other cores about its unauthenticated connections.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Pressure {
    /// Number of connections of the largest crowd; 0 if there is none.
    pub(super) crowd: usize,
    /// When the oldest connection was accepted; `None` if there is none.
    pub(super) oldest: Option<Instant>,
}

impl Pressure {
    /// The core with the greatest rank closes a connection. A core whose oldest connection is past [`HANDSHAKE_GRACE`]
    /// ranks first; between equals, the larger crowd.
    pub(super) fn rank(self, now: Instant) -> (bool, usize) {
        (self.oldest.is_some_and(|at| now.since(at) >= HANDSHAKE_GRACE), self.crowd)
    }
}

impl Unauthenticated {
    /// Adds a connection that was accepted at `at`.
    pub(super) fn insert(&mut self, address: NetworkPrefix, key: LinkKey, at: Instant) -> UnauthenticatedTicket {
        let number = self.next;
        self.next += 1;
        self.arrivals.insert(number, Arrival { address, key, at });
        self.change(address, |numbers| {
            numbers.insert(number);
        });
        UnauthenticatedTicket(number)
    }

    /// Removes a connection that has authenticated or was closed.
    pub(super) fn remove(&mut self, ticket: UnauthenticatedTicket) {
        let Some(arrival) = self.arrivals.remove(&ticket.0) else {
            debug_assert!(false, "a ticket is removed once");
            return;
        };
        self.change(arrival.address, |numbers| {
            numbers.remove(&ticket.0);
        });
    }

    fn change(&mut self, address: NetworkPrefix, edit: impl FnOnce(&mut BTreeSet<u64>)) {
        // The entry of an address in `by_size` contains its size and its oldest connection, so each change moves it.
        let entry = |numbers: &BTreeSet<u64>| numbers.first().map(|oldest| (numbers.len(), Reverse(*oldest), address));
        let numbers = self.by_address.entry(address).or_default();
        let before = entry(numbers);
        edit(numbers);
        let after = entry(numbers);
        if let Some(before) = before {
            self.by_size.remove(&before);
        }
        match after {
            Some(after) => {
                self.by_size.insert(after);
            }
            None => {
                self.by_address.remove(&address);
            }
        }
    }

    /// Returns the connection to close for a new one, or `None` if all may still be in their handshake.
    ///
    /// The order is: the oldest of the largest crowd, then the oldest of all, each only if it is older than
    /// [`HANDSHAKE_GRACE`]. So a new connection has this time even while thousands of addresses hold one connection
    /// each, and several gateways behind one address are not mistaken for a crowd. If no connection is that old, only a
    /// crowd's oldest is closed: connections arrive too fast to wait.
    pub(super) fn candidate(&self, now: Instant) -> Option<LinkKey> {
        let is_due = |arrival: &&Arrival| now.since(arrival.at) >= HANDSHAKE_GRACE;
        let oldest = self.arrivals.first_key_value().map(|(_, arrival)| arrival);
        let of_crowd = self.crowd().and_then(|(_, number)| self.arrivals.get(&number));
        let due = of_crowd.filter(is_due).or(oldest.filter(is_due));
        due.or(of_crowd).map(|arrival| arrival.key)
    }

    /// The values that this core publishes to the others.
    pub(super) fn pressure(&self) -> Pressure {
        let oldest = self.arrivals.first_key_value().map(|(_, arrival)| arrival.at);
        Pressure { crowd: self.crowd().map_or(0, |(size, _)| size), oldest }
    }

    /// The size and the oldest connection of the address with the most connections, if it is a crowd.
    fn crowd(&self) -> Option<(usize, u64)> {
        let (size, Reverse(oldest), _) = *self.by_size.last()?;
        (size >= CROWD_MIN && size * CROWD_SHARE >= self.arrivals.len()).then_some((size, oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(0);

    fn address(last: u16) -> NetworkPrefix {
        std::net::IpAddr::from([10, 0, (last >> 8) as u8, last as u8]).into()
    }

    fn key(index: u32) -> LinkKey {
        LinkKey { index, serial: index + 1 }
    }

    /// Adds connections of these addresses, in this order, all accepted at `at`; returns their tickets.
    fn arrive(
        unauthenticated: &mut Unauthenticated,
        addresses: impl IntoIterator<Item = u16>,
        at: Instant,
    ) -> Vec<UnauthenticatedTicket> {
        let first = unauthenticated.next as u32;
        let insert = |(index, last)| unauthenticated.insert(address(last), key(index), at);
        (first..).zip(addresses).map(insert).collect()
    }

    #[test]
    fn the_oldest_of_a_crowd_is_closed_first() {
        let mut unauthenticated = Unauthenticated::default();
        let mut tickets = arrive(&mut unauthenticated, [1], START);
        tickets.extend(arrive(&mut unauthenticated, [2; 20], START));
        assert_eq!(unauthenticated.candidate(START), Some(key(1)), "even before the handshake grace is over");
        assert_eq!(unauthenticated.candidate(START + HANDSHAKE_GRACE), Some(key(1)));
        unauthenticated.remove(tickets[1]);
        assert_eq!(unauthenticated.candidate(START), Some(key(2)));
        assert_eq!(unauthenticated.pressure(), Pressure { crowd: 19, oldest: Some(START) });
    }

    #[test]
    fn a_new_connection_keeps_its_grace_while_many_addresses_hold_one_each() {
        let mut unauthenticated = Unauthenticated::default();
        arrive(&mut unauthenticated, 0..300, START);
        assert_eq!(unauthenticated.candidate(START), None, "all of them may be in their handshake");
        let now = START + HANDSHAKE_GRACE;
        arrive(&mut unauthenticated, [400], now);
        assert_eq!(unauthenticated.candidate(now), Some(key(0)), "the oldest of all");
    }

    #[test]
    fn several_gateways_behind_one_address_are_not_a_crowd_among_many() {
        let mut unauthenticated = Unauthenticated::default();
        arrive(&mut unauthenticated, 0..100, START);
        let now = START + HANDSHAKE_GRACE;
        let gateways = arrive(&mut unauthenticated, [400; 24], now);
        assert_eq!(unauthenticated.candidate(now), Some(key(0)));
        // Even if they are a crowd: they are within the grace, and others are not.
        arrive(&mut unauthenticated, [400; 24], now);
        assert_eq!(unauthenticated.pressure().crowd, 48);
        assert_eq!(unauthenticated.candidate(now), Some(key(0)));
        assert_eq!(gateways.len(), 24);
    }

    #[test]
    fn a_core_with_old_connections_ranks_above_one_with_a_young_crowd() {
        let now = START + HANDSHAKE_GRACE;
        let (old, young) = (Pressure { crowd: 0, oldest: Some(START) }, Pressure { crowd: 9, oldest: Some(now) });
        assert!(old.rank(now) > young.rank(now));
        assert!(young.rank(now) > Pressure::default().rank(now));
    }

    #[test]
    fn removed_connections_leave_no_entries() {
        let mut unauthenticated = Unauthenticated::default();
        for round in 0..1_000 {
            let tickets = arrive(&mut unauthenticated, [1, 2, 1, 3], Instant(round));
            tickets.into_iter().for_each(|ticket| unauthenticated.remove(ticket));
        }
        assert!(
            unauthenticated.arrivals.is_empty()
                && unauthenticated.by_address.is_empty()
                && unauthenticated.by_size.is_empty()
        );
        assert_eq!((unauthenticated.candidate(START), unauthenticated.pressure()), (None, Pressure::default()));
    }
}
