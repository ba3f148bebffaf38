//! The name of a connection in its shard.

/// Identifies a connection in its shard. Indices are used again, so the serial tells a connection from an earlier one
/// with the same index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ConnectionKey {
    /// Index in the registry; used again after the connection has left.
    pub index: u32,
    pub(super) serial: u32,
}
