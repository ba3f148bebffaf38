//! Who is served where: the column of the route table, and the mark of a listening address.

/// Whom an address or a route serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Gateways and the platform.
    Both,
    /// Gateways: the connect path, their manifest, and whether the hub is alive.
    Gateways,
    /// The platform's calls.
    Platform,
}

impl Side {
    /// Whether an address of this side serves a route of the other.
    pub fn serves(self, route: Side) -> bool {
        self == route || self == Self::Both || route == Self::Both
    }
}
