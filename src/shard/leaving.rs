//! How a connection stops getting events and leaves, and what goes with a gateway: its feed, and its state.

use super::{Connection, ConnectionKey, Shard, absences::Absence, cursor::Stage, feed::Feed, feed_key::FeedKey};
use crate::model::{
    CloseReason, GatewayId, Missing, Now, Position,
    log::{ForgetKey, LogRequest},
};

impl Shard {
    /// Stops events to a connection that is sent a close frame. Events that were not handed to its socket have failed. What
    /// is on the way to the socket is decided once it is there, or once the connection has left.
    pub fn handle_closing(&mut self, now: Now, key: ConnectionKey, reason: CloseReason) {
        let boundary = self.settings.encoding.boundary;
        self.cancel_read(key);
        let Some(connection) = self.registry.connection_mut(key).filter(|it| !it.closing) else { return };
        connection.closing = true;
        let feed_key = connection.feed;
        // What it was not given comes with the next connection.
        let failed = (!connection.is_proved).then_some(reason.label());
        let (caught_up, confirmed) = (connection.cursor.is_live(), connection.cursor.confirmed);
        let (written_only, has_begun) = (connection.written_only, !connection.cursor.is_joining());
        let was_behind = connection.cursor.catch_up().is_some_and(|catch_up| !catch_up.is_undecided);
        let (end, freed) = connection.cursor.stop(self.feeds.get(feed_key), boundary);
        self.catch_ups.free(freed);
        self.read_next(now);
        let Some(feed) = self.feeds.get_mut(feed_key) else { return };
        feed.remove_connection(key);
        feed.behind -= u32::from(was_behind);
        if has_begun && !written_only && !feed.is_proved() {
            // Its gateway may be back before it has left.
            feed.leave_at(confirmed);
        }
        let (last, idle, gateway) = (feed.end().offset, feed.is_idle(), feed.life.gateway);
        if caught_up {
            self.let_go(now, key, end + 1..=last, failed);
        }
        if idle {
            self.feeds.linger(now.instant, feed_key);
        }
        self.release(feed_key);
        // Those who wait for its pongs wait for the others only.
        self.check_waits(gateway);
    }

    /// Removes a connection that has ended, fails what its socket did not take, and returns it.
    /// `acknowledged_bytes` are those that the peer's kernel has.
    pub fn handle_leave(
        &mut self,
        now: Now,
        key: ConnectionKey,
        reason: CloseReason,
        acknowledged_bytes: u64,
    ) -> Option<Connection> {
        self.handle_closing(now, key, reason);
        let connection = self.registry.connection(key)?;
        let (confirmed, feed_key) = (connection.cursor.confirmed, connection.feed);
        let completes = matches!(&connection.cursor.stage, Stage::Closing(rest) if rest.completes());
        let handed_over = connection.cursor.taken + u64::from(completes);
        let failed = (!connection.is_proved).then_some(reason.label());
        let (written_only, is_proved) = (connection.written_only, connection.is_proved);
        self.let_go(now, key, confirmed + 1..=handed_over, failed);
        self.release(feed_key);
        if is_proved {
            self.count_attempt(now, key, reason, acknowledged_bytes);
        } else if let Some(feed) = self.feeds.get_mut(feed_key).filter(|feed| !written_only && !feed.is_proved()) {
            feed.leave_at(confirmed);
        }
        let left = self.remove(key);
        if left.is_some() {
            self.counters.closed.add(reason.label());
        }
        debug_assert!(left.as_ref().is_none_or(|it| it.closing), "a connection that leaves gets no more events");
        debug_assert!(self.registry.connection(key).is_none(), "a connection that has left is not in the registry");
        left
    }

    /// Removes a connection whose gateway was not told where it begins, and that got no event.
    pub fn handle_withdrawal(&mut self, now: Now, key: ConnectionKey) {
        self.handle_closing(now, key, CloseReason::GatewayGone);
        self.remove(key);
    }

    fn remove(&mut self, key: ConnectionKey) -> Option<Connection> {
        let left = self.registry.remove(key)?;
        if let Some(feed) = self.feeds.get_mut(left.feed) {
            feed.members -= 1;
        }
        if self.feeds.is_over(left.feed) {
            self.feeds.remove(left.feed);
        }
        Some(left)
    }

    /// Removes the state of a deleted gateway, and closes its connections. They get no event of a later gateway with the
    /// same id.
    pub(super) fn delete_gateway(&mut self, now: Now, gateway: GatewayId) {
        let Some(life) = self.life_of(gateway) else { return };
        self.lives.remove(&gateway);
        self.deployment_times.forget(gateway);
        self.recent_ids.forget(gateway);
        self.absences.forget(gateway);
        // Now, not when the close is carried out: the next command may already be for the new gateway.
        let members: Vec<_> = self.members(gateway).copied().collect();
        for key in members {
            self.close(now, key, CloseReason::GatewayDeleted);
        }
        if let Some(key) = self.feeds.of(gateway) {
            self.remove_feed(now, key);
        }
        self.lose_waits(gateway, Missing::DELETED);
        self.end_events(gateway);
        // Behind the last append: the log is first in, first out.
        let key = ForgetKey(self.log.forget_key());
        self.log.push(LogRequest::Forget { key, life });
    }

    /// Ends a feed. Its records stay until the last of its connections, which are closing, has gone: they say whether the
    /// sockets have taken what is on its way.
    pub(super) fn remove_feed(&mut self, now: Now, key: FeedKey) {
        let Some(feed) = self.feeds.get_mut(key) else { return };
        let gateway = feed.life.gateway;
        for (_, of) in feed.take_all_awaiting() {
            self.deliver_to_none(now, of, gateway);
        }
        self.save_progress(key);
        self.log.push(LogRequest::Unfollow(key.into()));
        self.note_absence(key);
        self.feeds.detach(key);
        if self.feeds.is_over(key) {
            self.feeds.remove(key);
        }
    }

    /// Remembers where a gateway has left whose feed is removed.
    fn note_absence(&mut self, key: FeedKey) {
        let Some(feed) = self.feeds.get(key) else { return };
        if self.lives.contains_key(&feed.life.gateway) {
            let left_at = feed.left_at().map(|offset| Position { offset, ..feed.end() });
            let attempted = feed.progress.as_ref().and_then(|progress| progress.attempted());
            self.absences.note(feed.life, Absence { left_at, attempted });
        }
    }

    /// The records of a feed go. Whoever still holds one is not seen any more to take it.
    pub(super) fn drop_records(&mut self, key: FeedKey) {
        while let Some((record, memory)) = self.feeds.get_mut(key).and_then(Feed::pop) {
            self.feeds.free(memory);
            self.defer(&record);
        }
    }

    /// Whether a request that is tried again is still of use.
    pub(super) fn wants(&self, request: &LogRequest) -> bool {
        match request {
            LogRequest::Follow { key, .. } => !self.feeds.is_detached((*key).into()),
            LogRequest::Read { key, .. } => self.catch_ups.is_asked(*key),
            _ => true,
        }
    }
}
