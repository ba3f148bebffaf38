//! Delivery `processed` (contract section 1): what pongs prove, how far a gateway has come by it, and the events that it is not
//! given.

use super::{
    Connection, ConnectionKey, Effect, Known, Shard, Skipped, counters, cursor::Passed, feed_key::FeedKey,
    processing::About,
};
use crate::model::{
    CloseReason, DeliveryMode, GatewayId, Life, Missing, Now, Position, Proof,
    log::{LogRequest, ProgressStep},
};

impl Shard {
    /// How the events of a gateway are delivered.
    pub(super) fn mode_of(&self, gateway: GatewayId) -> DeliveryMode {
        self.mode(self.lives.get(&gateway).copied())
    }

    /// The same, of what is known of a gateway.
    pub(super) fn mode(&self, known: Option<Known>) -> DeliveryMode {
        known.and_then(|known| known.delivery).unwrap_or(self.settings.delivery.mode)
    }

    /// A gateway is there: tells the log whether to keep how far it has processed its events.
    pub(super) fn track(&mut self, life: Life) {
        if self.settings.placement.of_gateway(life.gateway) == self.settings.id {
            let is_proved = self.mode_of(life.gateway) == DeliveryMode::Processed;
            let step = if is_proved { ProgressStep::Begin } else { ProgressStep::End };
            self.log.push(LogRequest::Progress { life, step });
        }
    }

    /// The delivery of a gateway was changed. Its connections are closed, because what they were given counts differently from now on.
    pub(super) fn change_delivery(&mut self, now: Now, life: Life, delivery: Option<DeliveryMode>) {
        let before = self.mode_of(life.gateway);
        let Some(known) = self.lives.get_mut(&life.gateway) else { return };
        known.delivery = delivery;
        let mode = self.mode_of(life.gateway);
        if mode == before || self.settings.placement.of_gateway(life.gateway) != self.settings.id {
            return;
        }
        let members: Vec<_> = self.members(life.gateway).copied().collect();
        for key in members {
            self.close(now, key, CloseReason::DeliveryChanged);
        }
        if let Some(key) = self.feeds.of(life.gateway) {
            self.remove_feed(now, key);
        }
        self.absences.forget(life.gateway);
        self.lose_waits(life.gateway, Missing::CHANGED);
        let step = if mode == DeliveryMode::Processed { ProgressStep::Restart } else { ProgressStep::End };
        self.log.push(LogRequest::Progress { life, step });
    }

    /// A pong came that names this position. It answers all pings before it.
    pub fn handle_pong(&mut self, now: Now, key: ConnectionKey, position: Option<Position>) -> Proof {
        let proof = position.map_or(Proof::Invented, |position| self.judge_pong(now, key, position));
        if proof == Proof::Processed {
            self.follow_processed(now, key);
        }
        proof
    }

    fn judge_pong(&mut self, now: Now, key: ConnectionKey, position: Position) -> Proof {
        let Some(connection) = self.registry.connection_mut(key) else { return Proof::Known };
        let epoch = self.feeds.get(connection.feed).map(|feed| feed.end().epoch);
        let Some(processing) = connection.cursor.processing.as_mut().filter(|_| epoch == Some(position.epoch)) else {
            return Proof::Invented;
        };
        if position.offset <= processing.processed() {
            return Proof::Known;
        }
        let times = &mut self.counters.processing;
        let clock = (now.instant, now.wall);
        match processing.handle_pong(clock, position.offset, |took| times.observe(took)) {
            true => Proof::Processed,
            false => Proof::Invented,
        }
    }

    /// Counts a pong that no ping asked for.
    pub fn count_unexpected_pong(&mut self) {
        self.counters.pongs_unexpected += 1;
    }

    /// The offset of the first event that a connection's gateway has and has not processed; `None` also if its pongs prove nothing.
    pub fn first_in_flight(&self, key: ConnectionKey) -> Option<u64> {
        self.registry.connection(key)?.cursor.first_in_flight()
    }

    /// A connection has processed more, perhaps: its gateway has, too, and its window is open for more.
    pub(super) fn follow_processed(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection(key) else { return };
        let Some(processing) = &connection.cursor.processing else { return };
        let (processed, begin, feed_key) = (processing.processed(), processing.begin(), connection.feed);
        let Some(feed) = self.feeds.get(feed_key) else { return };
        let gateway = feed.life.gateway;
        // Between the gateway's progress and a position that this connection has named, there may be events that nobody has processed.
        if feed.progress.as_ref().is_some_and(|progress| begin <= progress.processed()) {
            self.reach(now, feed_key, processed);
        }
        if self.waiting(key).is_drained() {
            // What was read for it from the log may have been given back while its window was full.
            self.handle_drained(now, key);
        } else {
            self.wake(key);
        }
        self.check_waits(gateway);
    }

    /// A gateway has processed, or never gets, everything up to an offset.
    pub(super) fn reach(&mut self, now: Now, key: FeedKey, offset: u64) {
        if let Some(progress) = self.feeds.get_mut(key).and_then(|feed| feed.progress.as_mut())
            && progress.reach(offset)
        {
            self.saves.note(now.instant, key, progress);
        }
    }

    /// Passes over the events that come next for a connection and that it is not given.
    pub(super) fn pass_over(&mut self, now: Now, key: ConnectionKey) {
        let mut passed = false;
        while let Some(connection) = self.registry.connection_mut(key) {
            let Connection { cursor, feed, gateway, .. } = connection;
            let gateway = *gateway;
            let feed = self.feeds.get(*feed);
            let Some(Passed { offset, about, why }) = cursor.next_passed(feed) else { break };
            let freed = cursor.pass_over(feed);
            // Nothing of it goes to the socket.
            let is_confirmed = cursor.confirmed + 1 == offset;
            cursor.confirmed += u64::from(is_confirmed);
            self.catch_ups.free(freed);
            if is_confirmed {
                self.let_go(now, key, offset..=offset, None);
            }
            self.counters.skipped.add(why);
            self.waits.skip(gateway, offset, why);
            // That of a type which is not delivered late is what the operator has asked for.
            if why != counters::REPLAY {
                self.report_skipped(key, offset, about, why);
            }
            passed = true;
        }
        if passed {
            self.follow_processed(now, key);
        }
    }

    fn report_skipped(&mut self, key: ConnectionKey, offset: u64, about: Option<About>, why: &'static str) {
        let Some(connection) = self.registry.connection(key) else { return };
        let Some(feed) = self.feeds.get(connection.feed) else { return };
        let position = Position { offset, ..feed.end() };
        self.effects.push_back(Effect::Skipped(Skipped { gateway: connection.gateway, position, about, why }));
    }

    /// A connection has ended. If its gateway had an event in its hands, that is held against the event.
    pub(super) fn count_attempt(&mut self, now: Now, key: ConnectionKey, reason: CloseReason, acknowledged_bytes: u64) {
        let Some(connection) = self.registry.connection(key) else { return };
        let feed_key = connection.feed;
        let processing = connection.cursor.processing.as_ref();
        let reached = processing.and_then(|it| it.reached(acknowledged_bytes)).map(|first| first.offset);
        // Where the hub ends connections of its own accord, the event is not to blame.
        let is_ours = matches!(
            reason,
            CloseReason::Shutdown
                | CloseReason::KeyRevoked
                | CloseReason::GatewayDeleted
                | CloseReason::DeliveryChanged
                | CloseReason::LogReplaced
                | CloseReason::InternalError
                | CloseReason::SlowConsumer
        );
        if let Some(feed) = self.feeds.get_mut(feed_key)
            && let Some(progress) = &mut feed.progress
            && reached.is_some_and(|offset| offset == progress.processed() + 1)
            && !is_ours
        {
            progress.attempt(now.instant);
            self.saves.note(now.instant, feed_key, progress);
        }
        self.save_progress(feed_key);
    }

    /// Tells the log how far a gateway is, if it was told less.
    pub(super) fn save_progress(&mut self, key: FeedKey) {
        // Of a feed whose gateway was deleted, or has another delivery now, nothing is kept.
        if self.feeds.is_detached(key) {
            return;
        }
        let Some(feed) = self.feeds.get_mut(key) else { return };
        let epoch = feed.end().epoch;
        if let Some(step) = feed.progress.as_mut().and_then(|progress| progress.take_unsaved(epoch)) {
            self.log.push(LogRequest::Progress { life: feed.life, step });
        }
    }

    /// Tells the log of all gateways that have come further in the last second.
    pub(super) fn save_due_progress(&mut self, now: Now) -> bool {
        let Some(unsaved) = self.saves.take_due(now.instant) else { return false };
        unsaved.into_iter().for_each(|key| self.save_progress(key));
        true
    }
}
