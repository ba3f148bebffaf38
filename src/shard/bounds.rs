//! The bounds on the memory for records: what leaves first, and who is closed if that is not enough.

use super::{
    ConnectionKey, Shard,
    feed::{Feed, Recent},
    feed_key::FeedKey,
    in_flight::Outcome,
};
use crate::model::{CloseReason, Now};

impl Shard {
    /// Keeps the bounds after a feed has got records.
    pub(super) fn enforce_bounds(&mut self, now: Now, key: FeedKey) {
        while self.feeds.get(key).is_some_and(|feed| feed.held_bytes() > self.settings.gateway_recent_bytes_max) {
            self.evict(now, key);
        }
        // A quarter is for connections that catch up.
        if self.feeds.held_bytes() > self.settings.recent_bytes_max / 4 * 3
            || self.held_bytes() > self.settings.recent_bytes_max
        {
            self.evict_from_all(now);
        }
    }

    /// Memory of all records that connections have yet to take.
    pub fn held_bytes(&self) -> usize {
        self.feeds.held_bytes() + self.catch_ups.held_bytes()
    }

    /// Frees a third of the memory for feeds: those that hold more than their equal share lose their oldest records.
    fn evict_from_all(&mut self, now: Now) {
        let target = self.settings.recent_bytes_max / 2;
        // In one step for all, and down to a half: the look at all feeds is then rare, also under overload.
        let holding: Vec<FeedKey> =
            self.feeds.iter().filter(|(_, feed)| feed.held_bytes() > 0).map(|(key, _)| key).collect();
        let share = target / holding.len().max(1);
        for key in holding {
            while self.feeds.get(key).is_some_and(|feed| feed.held_bytes() > share) {
                self.evict(now, key);
            }
        }
        // What remains are records that sockets have begun to take. Each connection has one of those at most, but with
        // thousands of them and large events that is more than there is memory for.
        while self.held_bytes() > self.settings.recent_bytes_max {
            let Some(key) = self.most_held() else { return };
            self.close(now, key, CloseReason::SlowConsumer);
        }
    }

    fn most_held(&self) -> Option<ConnectionKey> {
        let held = self.registry.iter().filter_map(|(key, it)| Some((it.cursor.catch_up()?.held_bytes, key)));
        held.filter(|(bytes, _)| *bytes > 0).max_by_key(|(bytes, _)| *bytes).map(|(_, key)| key)
    }

    /// Removes the oldest record of a feed. Connections that need it get it from the log.
    fn evict(&mut self, now: Now, key: FeedKey) {
        let Some(feed) = self.feeds.get(key) else { return };
        let offset = feed.first();
        let needs = |member: &ConnectionKey| {
            self.registry.connection(*member).is_some_and(|it| it.cursor.is_live() && it.cursor.taken < offset)
        };
        let behind: Vec<_> = feed.connections().iter().copied().filter(needs).collect();
        for member in &behind {
            self.fall_behind(now, *member);
        }
        let Some((record, memory)) = self.feeds.get_mut(key).and_then(Feed::pop) else { return };
        self.feeds.free(memory);
        self.defer(&record);
        // Only now, because a connection whose next record is still there has caught up.
        for member in behind {
            self.continue_catching_up(now, member);
        }
    }

    /// A record goes that connections still hold, on the way to their sockets. Its publisher does not wait for them any more.
    pub(super) fn defer(&mut self, record: &Recent) {
        for _ in 0..record.counted {
            let Some(of) = record.of else { return };
            let reply = self.in_flight.decide(of, Outcome::Deferred);
            self.answer(reply);
        }
    }
}
