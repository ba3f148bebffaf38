//! An entry of the list of connections that have events to write.

use super::{connection_key::ConnectionKey, feed_key::FeedKey};

/// An entry of [`super::Shard::poll_dirty`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Dirty {
    /// A connection that had nothing to take before.
    Connection(ConnectionKey),
    /// The connections of a feed that has a new record.
    Feed(FeedKey),
}
