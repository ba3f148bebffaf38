//! How the world and the core name one connection.

/// A link's place among those of its core; the serial, which is never 0, tells it from one that had the same place before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LinkKey {
    /// The place.
    pub index: u32,
    /// Which link that had the place.
    pub serial: u32,
}
