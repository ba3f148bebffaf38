//! All feeds of a shard, and how long a feed without connections stays.

use super::{feed::Feed, feed_key::FeedKey};
use crate::model::{DeliveryMode, GatewayId, GatewayIndex, Instant, Life};
use slab::Slab;
use std::{collections::VecDeque, time::Duration};

/// Time for which a feed stays after its last connection has gone. A gateway that loses its connection comes back at once
/// (contract section 1), and then need not wait for the log.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// The feeds of the gateways that have connections, or had one a short while ago.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    feeds: Slab<(u32, Feed)>,
    /// The feed of each gateway, but for those that have ended.
    by_gateway: GatewayIndex,
    serial: u32,
    /// Feeds without connections, with the time at which each is removed unless it has one again.
    idle: VecDeque<(Instant, FeedKey)>,
    /// Memory of the records of all feeds.
    held_bytes: usize,
}

/// A feed is in the index only while it is here.
fn gateway_of(feeds: &Slab<(u32, Feed)>, index: u32) -> GatewayId {
    feeds[index as usize].1.life.gateway
}

impl Feeds {
    /// The feed of a gateway; a new one if there is none, and then `true`.
    pub(super) fn of_or_new(&mut self, life: Life, mode: DeliveryMode) -> (FeedKey, bool) {
        if let Some(key) = self.of(life.gateway) {
            return (key, false);
        }
        self.serial = self.serial.wrapping_add(1);
        let index =
            u32::try_from(self.feeds.insert((self.serial, Feed::new(life, mode)))).expect("gateways are bounded");
        let key = FeedKey { index, serial: self.serial };
        let feeds = &self.feeds;
        self.by_gateway.insert(life.gateway, index, |index| gateway_of(feeds, index));
        (key, true)
    }

    pub(super) fn of(&self, gateway: GatewayId) -> Option<FeedKey> {
        let index = self.by_gateway.get(gateway, |index| gateway_of(&self.feeds, index))?;
        Some(FeedKey { index, serial: self.feeds[index as usize].0 })
    }

    pub(super) fn get(&self, key: FeedKey) -> Option<&Feed> {
        self.feeds.get(key.index as usize).filter(|(serial, _)| *serial == key.serial).map(|(_, feed)| feed)
    }

    pub(super) fn get_mut(&mut self, key: FeedKey) -> Option<&mut Feed> {
        self.feeds.get_mut(key.index as usize).filter(|(serial, _)| *serial == key.serial).map(|(_, feed)| feed)
    }

    /// No connection joins this feed any more.
    pub(super) fn detach(&mut self, key: FeedKey) {
        let gateway = self.get(key).map(|feed| feed.life.gateway);
        if let Some(gateway) = gateway.filter(|gateway| self.of(*gateway) == Some(key)) {
            let feeds = &self.feeds;
            self.by_gateway.remove(gateway, |index| gateway_of(feeds, index));
        }
    }

    /// Whether a feed has ended, or will once its connections, which are closing, have gone.
    pub(super) fn is_detached(&self, key: FeedKey) -> bool {
        self.get(key).is_none_or(|feed| self.of(feed.life.gateway) != Some(key))
    }

    /// Whether a feed was detached and has no connection any more, not even one that is closing.
    pub(super) fn is_over(&self, key: FeedKey) -> bool {
        self.get(key).is_some_and(|feed| feed.members == 0) && self.is_detached(key)
    }

    pub(super) fn remove(&mut self, key: FeedKey) {
        if self.get(key).is_some() {
            debug_assert!(self.is_detached(key), "it is not in the index any more");
            let (_, feed) = self.feeds.remove(key.index as usize);
            self.held_bytes -= feed.held_bytes();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FeedKey, &Feed)> {
        self.feeds.iter().map(|(index, (serial, feed))| {
            let index = u32::try_from(index).expect("gateways are bounded");
            (FeedKey { index, serial: *serial }, feed)
        })
    }

    /// Counts memory of records that was taken.
    pub(super) fn hold(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    /// Counts memory of records that was freed.
    pub(super) fn free(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.held_bytes, "only what is held is freed");
        self.held_bytes -= bytes;
    }

    /// Memory of the records of all feeds.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A feed has lost its last connection.
    pub(super) fn linger(&mut self, now: Instant, key: FeedKey) {
        if let Some(feed) = self.get_mut(key) {
            feed.idle_until = Some(now + LINGER);
            self.idle.push_back((now + LINGER, key));
        }
    }

    /// When the next feed without connections may be removed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.idle.front().map(|(at, _)| *at)
    }

    /// Takes a feed that has had no connection for [`LINGER`].
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<FeedKey> {
        while let Some((at, key)) = self.idle.front().copied() {
            if at > now {
                return None;
            }
            self.idle.pop_front();
            // A feed that had a connection in between and lost it again has a later entry.
            if self.get(key).is_some_and(|feed| feed.is_idle() && feed.idle_until == Some(at)) {
                return Some(key);
            }
        }
        None
    }
}
