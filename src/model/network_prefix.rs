//! What counts as one address where connections are counted by address.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 address: whoever has one address of a /64 usually has all of them (contract section 1).
/// An IPv4 address that was seen through an IPv6 socket is the IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetworkPrefix(u64);

impl From<IpAddr> for NetworkPrefix {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // 0:ffff::/32 is not given out (RFC 4291 section 2.4), so IPv4 fits in there.
            IpAddr::V4(v4) => Self(0x0000_ffff_0000_0000 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}
