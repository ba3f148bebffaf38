//! The name of one connection, used by the driver and the core.

/// An index into the links of a core, with a serial. An event for a closed link must not reach the link that got its
/// index next: their serials differ. The serial is never 0, which the driver uses for descriptors that are not links.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LinkKey {
    /// The index.
    pub index: u32,
    /// The serial of the link, never 0.
    pub serial: u32,
}
