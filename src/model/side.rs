//! The side of a route or of a listening address: gateways, the platform, or both.

/// The callers that a route or a listening address is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Gateways and the platform.
    Both,
    /// Gateways: the connect path, their manifest, and the health of the hub.
    Gateways,
    /// The platform's calls.
    Platform,
}

impl Side {
    /// Whether an address of this side serves `route`.
    pub fn serves(self, route: Side) -> bool {
        self == route || self == Self::Both || route == Self::Both
    }
}
