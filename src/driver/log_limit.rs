//! Limits log lines by address: one line a second for each address and kind. So one address cannot use up the hub's
//! limit for a kind of line (`line_limit.rs`).

use super::line_limit::LineKind;
use crate::{
    limits::LOG_ADDRESSES_MAX,
    model::{Instant, NetworkPrefix},
};
use ahash::HashMap;
use std::{net::IpAddr, time::Duration};

const INTERVAL: Duration = Duration::from_secs(1);

/// The time of the last line for each address and kind.
#[derive(Default)]
pub(super) struct LogLimit {
    last: HashMap<(NetworkPrefix, LineKind), Instant>,
}

impl LogLimit {
    /// Returns whether a line of this kind about this address may be written now.
    pub(super) fn allow(&mut self, now: Instant, address: IpAddr, kind: LineKind) -> bool {
        // At worst an address gets one line too many. A list in order of use would cost more than such a line.
        if self.last.len() >= LOG_ADDRESSES_MAX {
            self.last.clear();
        }
        // A host with one address of an IPv6 /64 can use all of them, and would get a line for each.
        let address = NetworkPrefix::from(address);
        match self.last.get(&(address, kind)) {
            Some(at) if now.since(*at) < INTERVAL => false,
            _ => {
                self.last.insert((address, kind), now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_one_line_a_second_of_each_kind() {
        let mut limit = LogLimit::default();
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for (at, address, kind, expected) in [
            (0, a, LineKind::Unauthorized, true),
            (1, a, LineKind::Unauthorized, false),
            (1, a, LineKind::RateLimited, true),
            (1, b, LineKind::Unauthorized, true),
            (999_999, a, LineKind::Unauthorized, false),
            (1_000_000, a, LineKind::Unauthorized, true),
        ] {
            assert_eq!(limit.allow(Instant(at), address, kind), expected, "{address} {kind:?} at {at}");
        }
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let mut limit = LogLimit::default();
        let mut allow = |address: &str| limit.allow(Instant(0), address.parse().unwrap(), LineKind::Unauthorized);
        assert!(allow("2001:db8:0:1::1"));
        assert!(!allow("2001:db8:0:1:ffff::2"), "an address of the same /64");
        assert!(allow("2001:db8:0:2::1"), "an address of another /64");
        assert!(allow("192.0.2.1"));
        assert!(!allow("::ffff:192.0.2.1"), "the same IPv4 address, mapped to IPv6");
    }
}
