//! The part of an address by which connections are counted.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address (contract section 1): a host usually has a whole /64, and could
/// otherwise use a new address for each attempt. An IPv4 address that came through an IPv6 socket counts as IPv4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetworkPrefix(u64);

impl From<IpAddr> for NetworkPrefix {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // `0:ffff::/32` is never assigned (RFC 4291 section 2.4), so IPv4 addresses have a range of their own
            // there.
            IpAddr::V4(v4) => Self(0x0000_ffff_0000_0000 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}
