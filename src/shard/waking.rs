//! The connections that have events to write, for the engine to take one at a time.
//!
//! An event for a thousand connections is one entry: if each were looked at before the first is written, the first would
//! wait for that.

use super::{ConnectionKey, Shard, dirty::Dirty, feed_key::FeedKey};

impl Shard {
    /// Queues a connection that has something to take now.
    pub(super) fn wake(&mut self, key: ConnectionKey) {
        self.dirty.push_back(Dirty::Connection(key));
    }

    /// Queues the connections of a feed that has got a record.
    pub(super) fn wake_feed(&mut self, key: FeedKey) {
        if self.feeds.get_mut(key).is_some_and(|feed| feed.begin_wake()) {
            self.dirty.push_back(Dirty::Feed(key));
        }
    }

    /// Takes the next connection that has events to write. It may have left in the meantime.
    pub fn poll_dirty(&mut self) -> Option<ConnectionKey> {
        loop {
            let key = match *self.dirty.front()? {
                Dirty::Feed(key) => key,
                Dirty::Connection(key) => {
                    self.dirty.pop_front();
                    return Some(key);
                }
            };
            let Some(feed) = self.feeds.get_mut(key) else {
                self.dirty.pop_front();
                continue;
            };
            let end = feed.end().offset;
            let Some(member) = feed.next_woken() else {
                let again = feed.end_wake();
                self.dirty.pop_front();
                // Behind the others: records that come fast to one gateway hold up no other.
                self.dirty.extend(again.then_some(Dirty::Feed(key)));
                continue;
            };
            let cursor = self.registry.connection(member).map(|connection| &connection.cursor);
            if cursor.is_some_and(|cursor| cursor.is_live() && cursor.taken < end && cursor.room() > 0) {
                return Some(member);
            }
        }
    }

    /// Whether [`Shard::poll_dirty`] may return something.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
}
