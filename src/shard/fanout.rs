//! Publishes events: hands each to the log, gives what the log tells to the connections of its gateway, and records how
//! each delivery ends.

use super::{
    ConnectionKey, DeliveryFailure, Effect, Origin, Shard, Undelivered,
    command::{DeliveryStats, NotKept},
    feed::{Feed, Recent},
    feed_key::FeedKey,
    in_flight::{EventRef, Outcome},
    processing::About,
};
use crate::model::{
    DeliveryMode, Event, Failure, GatewayId, Kept, Life, Now, Position,
    log::{AppendKey, Draft, NotAppended, Records, Why},
};
use std::sync::Arc;

impl Shard {
    /// Publishes `count` events with one reply to `origin`, which is [`super::Reply::PublishedMany`] if `many`. Those
    /// that are a part of a long batch are `bulk`: the log lets others overtake them.
    pub(super) fn publish(
        &mut self,
        now: Now,
        origin: Origin,
        events: impl Iterator<Item = Arc<Event>>,
        count: usize,
        (many, bulk): (bool, bool),
    ) {
        let publish = self.in_flight.open(origin, count, many, now.instant + self.settings.publish_timeout);
        for event in events {
            // A gateway that was deleted while the command moved between cores, or that does not exist yet, has no log.
            let Some(known) = self.lives.get(&event.gateway).copied() else {
                self.in_flight.add_without_gateway(publish);
                continue;
            };
            let feed = self.feeds.of(event.gateway).and_then(|key| self.feeds.get(key));
            if feed.is_some_and(|feed| feed.held_back) {
                self.in_flight.add_not_kept(publish, NotKept { kept: Kept::No, why: Why::Stuck });
                continue;
            }
            let life = Life { gateway: event.gateway, incarnation: known.incarnation };
            let waits = self.mode(Some(known)) == DeliveryMode::Processed;
            let of = self.in_flight.add(publish, Arc::clone(&event), waits);
            self.log.append(Draft { life, event, accepted: now.wall }, of, bulk);
        }
        debug_assert_eq!(self.in_flight.events(publish), count, "every event of a publish has its place in the answer");
        let reply = self.in_flight.seal(publish);
        self.answer(reply);
    }

    pub(super) fn answer(&mut self, reply: Option<(Origin, super::Reply)>) {
        self.effects.extend(reply.map(|(origin, reply)| Effect::Reply(origin, reply)));
    }

    /// Handles the log's answer to a part of an append.
    pub(super) fn handle_appended(
        &mut self,
        now: Now,
        key: AppendKey,
        from: usize,
        results: Vec<Result<Position, NotAppended>>,
        last: bool,
    ) {
        for (index, result) in results.into_iter().enumerate() {
            let Some(of) = self.log.publisher(key, from + index) else {
                debug_assert!(false, "each event of an append has a publisher");
                continue;
            };
            match result {
                Ok(position) => self.handle_kept(now, of, position),
                Err(NotAppended::NoSuchGateway) => {
                    let reply = self.in_flight.reject_without_gateway(of);
                    self.answer(reply);
                }
                Err(NotAppended::Refused(why)) => self.reject(of, NotKept { kept: Kept::No, why }),
                Err(NotAppended::Unknown(why)) => self.reject(of, NotKept { kept: Kept::Unknown, why }),
            }
        }
        if last {
            self.log.end_append(key);
        }
    }

    pub(super) fn reject(&mut self, of: EventRef, why: NotKept) {
        let reply = self.in_flight.reject(of, why);
        self.answer(reply);
    }

    /// An event is kept. If its gateway has connections, it is delivered once the log tells it.
    fn handle_kept(&mut self, now: Now, of: EventRef, position: Position) {
        let Some((event, is_proved)) = self.in_flight.appending(of) else { return };
        let gateway = event.gateway;
        let key = self.feeds.of(gateway);
        let feed = key.and_then(|key| self.feeds.get_mut(key));
        let has_lost_its_place = |feed: &&&mut Feed| !feed.begun || feed.end().epoch != position.epoch;
        let behind = feed.as_ref().filter(has_lost_its_place).map_or(0, |feed| feed.connections().len());
        // A feed that has begun in front of this event is told it. One that begins behind it is not, and its connections
        // are later than the event.
        let feed =
            feed.filter(|feed| feed.begun && feed.end().epoch == position.epoch && feed.end().offset < position.offset);
        let connections = feed.as_ref().map_or(0, |feed| feed.connections().len());
        if feed.is_none() && is_proved {
            // Its gateway gets it later, and may then drop another one with this id.
            self.ids_repeated += u64::from(self.recent_ids.note(event));
        }
        self.in_flight.keep(of, position, u32::try_from(connections).unwrap_or(u32::MAX));
        match feed.filter(|_| connections > 0) {
            Some(feed) => feed.await_record(position.offset, of, &mut self.spares),
            // The feed has lost its place, and its connections get the event from the log.
            None => self.deliver_behind(now, of, gateway, behind),
        }
    }

    /// Counts an event as pending for this number of connections, which get it from the log. Without any it has failed.
    pub(super) fn deliver_behind(&mut self, now: Now, of: EventRef, gateway: GatewayId, connections: usize) {
        if connections == 0 {
            return self.deliver_to_none(now, of, gateway);
        }
        let reply = self.in_flight.deliver(of, u32::try_from(connections).unwrap_or(u32::MAX), 0, false);
        self.answer(reply);
    }

    /// Counts an event whose gateway has no connection as failed, or as one that waits for it.
    pub(super) fn deliver_to_none(&mut self, now: Now, of: EventRef, gateway: GatewayId) {
        // If its delivery has changed since the event was handed in, the gateway does not get it any more, and one that
        // was deleted since then does not come back.
        let comes_back = self.in_flight.waits(of) && self.lives.contains_key(&gateway);
        if comes_back && self.mode_of(gateway) == DeliveryMode::Processed {
            self.report_waiting(of, gateway);
            let reply = self.in_flight.deliver(of, 0, 0, true);
            return self.answer(reply);
        }
        self.fail(now, of, gateway, None, Failure::NOT_CONNECTED);
        let reply = self.in_flight.deliver(of, 0, 0, false);
        self.answer(reply);
    }

    /// Queues an event for the log that waits for its gateway.
    fn report_waiting(&mut self, of: EventRef, gateway: GatewayId) {
        if let Some((kind, correlation)) = self.in_flight.kept(of) {
            let kind = kind.clone();
            self.failures.push_waiting(Undelivered { gateway, kind, correlation });
        }
    }

    /// Handles records that the log tells of a feed: they are kept, in order and without a gap.
    pub(super) fn handle_live(&mut self, now: Now, key: FeedKey, records: Records) {
        let Some(feed) = self.feeds.get(key) else { return };
        let is_proved = feed.is_proved();
        let (connections, live) = (u32::try_from(feed.connections().len()).unwrap_or(u32::MAX), feed.live());
        let is_of_gateway = |member| self.registry.connection(member).is_some_and(|connection| connection.is_proved);
        let is_away = is_proved && !feed.connections().iter().any(|member| is_of_gateway(*member));
        for record in records {
            let counted = if is_proved { self.count_windows(key, record.position.offset) } else { live };
            let Some(feed) = self.feeds.get_mut(key) else { return };
            let (position, event) = (record.position, &record.event);
            debug_assert_eq!(
                position,
                Position { offset: feed.end().offset + 1, ..feed.end() },
                "in order, none left out"
            );
            let of = feed.take_awaiting(position.offset, &mut self.spares);
            if connections > 0 || is_proved {
                // Only for gateways that get it: with the delivery `written` one that is away does not receive the id, so publishing
                // it again is no repetition.
                self.ids_repeated += u64::from(self.recent_ids.note(event));
            }
            // Encoded once and shared: a server does not mask its frames (RFC 6455 section 5.1), so the bytes are the same
            // for each connection.
            let frame = (self.settings.encoding.encode)(&record, is_proved, self.spares.texts.take());
            let recent = Recent {
                frame,
                about: is_proved.then(|| About { kind: event.kind.clone(), correlation: event.correlation }),
                is_skipped: is_proved && self.settings.delivery.skips_in_replay(&event.kind),
                before: feed.bytes(),
                of: of.filter(|_| counted > 0),
                holders: live,
                counted,
            };
            let held = feed.push(recent, record.bytes, &mut self.spares);
            self.feeds.hold(held);
            match of {
                Some(of) if connections == 0 => self.deliver_to_none(now, of, event.gateway),
                Some(of) => {
                    if is_away {
                        self.report_waiting(of, event.gateway);
                    }
                    let reply = self.in_flight.deliver(of, connections, counted, is_away);
                    self.answer(reply);
                }
                None => {}
            }
        }
        self.wake_feed(key);
        self.enforce_bounds(now, key);
    }

    /// Number of live connections whose windows have room for the next event. The publisher does not wait for the others.
    fn count_windows(&mut self, key: FeedKey, offset: u64) -> u32 {
        let Some(feed) = self.feeds.get(key) else { return 0 };
        let mut counted = 0;
        for member in feed.connections() {
            let Some(connection) = self.registry.connection_mut(*member) else { continue };
            let cursor = &mut connection.cursor;
            if !cursor.is_live() {
                continue;
            }
            let before = usize::try_from(offset - cursor.taken - 1).unwrap_or(usize::MAX);
            if cursor.room() > before {
                counted += 1;
            } else if let Some(processing) = &mut cursor.processing {
                processing.leave_uncounted(offset);
            }
        }
        counted
    }

    /// Counts the records that were handed over as delivered: the socket has taken all of their bytes, and `sent_bytes` since the
    /// connection began. Returns the connection's first event in flight, as [`Shard::first_in_flight`] does.
    pub fn handle_written(&mut self, now: Now, key: ConnectionKey, sent_bytes: u64) -> Option<u64> {
        let connection = self.registry.connection_mut(key)?;
        debug_assert!(now.instant >= connection.connected);
        let feed_key = connection.feed;
        let held = self.feeds.get(feed_key).and_then(|feed| connection.cursor.held(feed));
        let cursor = &mut connection.cursor;
        let (confirmed, taken) = (cursor.confirmed, cursor.taken);
        if confirmed == taken {
            return cursor.first_in_flight();
        }
        cursor.confirmed = taken;
        let clock = (now.instant, now.wall);
        let sent = match &mut cursor.processing {
            Some(processing) => {
                let sent = processing.handle_written(clock, sent_bytes);
                let is_replayed = taken <= processing.replay_until;
                self.counters.replayed += if is_replayed { sent } else { 0 };
                sent
            }
            None => taken - confirmed,
        };
        let first = cursor.first_in_flight();
        connection.events_sent += sent;
        self.totals.total_events_sent += sent;
        let Some(feed) = self.feeds.get_mut(feed_key) else { return first };
        let Some(held) = held else { return first };
        for offset in (confirmed + 1).max(*held.start())..=taken.min(*held.end()) {
            let Some(record) = feed.record_mut(offset) else { continue };
            let of = record.let_go(connection.cursor.counts(offset));
            if let Some(of) = of
                && let Some((origin, reply)) = self.in_flight.decide(of, Outcome::Delivered)
            {
                self.effects.push_back(Effect::Reply(origin, reply));
            }
        }
        if let Some(processing) = &mut connection.cursor.processing {
            processing.forget_uncounted(taken);
        }
        self.release(feed_key);
        first
    }

    /// Frees the records that no connection of a feed has yet to take.
    pub(super) fn release(&mut self, key: FeedKey) {
        let Some(feed) = self.feeds.get_mut(key) else { return };
        // Without connections they stay, for the gateway that comes back at once and asks for what it has missed. With one
        // that is behind they stay, too: it reaches them, and under load it would never reach the end.
        if feed.behind == 0 && !feed.is_idle() {
            let freed = feed.release(&mut self.spares);
            self.feeds.free(freed);
        }
    }

    /// The connection does not hold the records of this range any more. Where a publisher waits, the delivery has failed
    /// for this reason; without one the publisher only stops waiting.
    pub(super) fn let_go(
        &mut self,
        now: Now,
        key: ConnectionKey,
        offsets: std::ops::RangeInclusive<u64>,
        failed: Option<&'static str>,
    ) {
        let Some(connection) = self.registry.connection(key) else { return };
        let (id, gateway, feed_key) = (connection.id, connection.gateway, connection.feed);
        let held = self.feeds.get(feed_key).and_then(|feed| connection.cursor.held(feed));
        let Some(held) = held else { return };
        for offset in (*offsets.start()).max(*held.start())..=(*offsets.end()).min(*held.end()) {
            let record = self.feeds.get_mut(feed_key).and_then(|feed| feed.record_mut(offset));
            let Some(record) = record else { continue };
            let counts =
                record.of.is_some() && self.registry.connection(key).is_some_and(|it| it.cursor.counts(offset));
            let Some(of) = record.let_go(counts) else { continue };
            if let Some(reason) = failed {
                self.fail(now, of, gateway, Some(key), reason);
            }
            let outcome = failed.map_or(Outcome::Deferred, |reason| Outcome::Failed(id, reason));
            let reply = self.in_flight.decide(of, outcome);
            self.answer(reply);
        }
    }

    /// Counts a failed delivery, and queues it for the log.
    fn fail(&mut self, now: Now, of: EventRef, gateway: GatewayId, key: Option<ConnectionKey>, reason: &'static str) {
        let failure = DeliveryStats {
            total_events_sent: 0,
            failed_deliveries: 1,
            last_failure_time: Some(now.wall),
            last_failure_reason: Some(reason),
        };
        self.totals.add(&failure);
        let connection = key.and_then(|key| self.registry.connection_mut(key)).map(|connection| {
            connection.failures.get_or_insert_default().add(&failure);
            connection.id
        });
        if let Some((kind, correlation)) = self.in_flight.kept(of) {
            let kind = kind.clone();
            self.failures.push(DeliveryFailure { gateway, connection, kind, correlation, reason });
        }
    }
}
