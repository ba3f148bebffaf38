//! Accepts events: gives each its position, puts it into its gateway's outboxes, and records how each delivery ends.

use super::{
    Connection, ConnectionKey, DeliveryFailure, Effect, Shard,
    command::DeliveryStats,
    in_flight::{EventRef, Origin, Outcome},
    outbox,
};
use crate::{
    limits,
    model::{CloseReason, Event, GatewayId, Instant, Now, Position},
};

impl Shard {
    /// Publishes `count` events with one reply to `origin`, which is [`super::Reply::PublishedMany`] if `many`.
    pub(super) fn publish(
        &mut self,
        now: Now,
        origin: Origin,
        events: impl Iterator<Item = Event>,
        count: usize,
        many: bool,
    ) {
        let publish = self.in_flight.open(origin, count, many, now.instant + self.settings.publish_timeout);
        for event in events {
            self.accept(now, publish, &event);
        }
        debug_assert_eq!(self.in_flight.events(publish), count, "every event of a publish has its place in the answer");
        // Sealed only now: an event without connections is decided at once, and must not answer for those behind it.
        if let Some((origin, reply)) = self.in_flight.seal(publish) {
            self.effects.push_back(Effect::Reply(origin, reply));
        }
    }

    /// Gives one event its position, and delivers it. If its gateway was deleted while the command moved between cores,
    /// or does not exist yet, the event gets no position and no delivery, only its place in the reply.
    fn accept(&mut self, now: Now, publish: u32, event: &Event) {
        let Some(life) = self.life_of(event.gateway) else { return self.in_flight.add_without_gateway(publish) };
        // The event is accepted from here on. A position is taken even if there is no connection, so that a gateway
        // that comes back sees in its ack that it has missed something.
        let position = self.sequencer.append(life);
        self.deliver(now, publish, event, position);
    }

    /// Puts an event into the outbox of each of its gateway's connections.
    fn deliver(&mut self, now: Now, publish: u32, event: &Event, position: Position) {
        let keys = self.registry.of(event.gateway);
        debug_assert!(position.offset > 0, "an event has a position before it is delivered");
        let of = self.in_flight.add(publish, event, position, keys.len());
        if keys.is_empty() {
            self.in_flight.fail_unconnected(of);
            self.fail(now, of, event.gateway, None, crate::model::Failure::NOT_CONNECTED);
            return;
        }
        // Only for connected gateways: one that is away does not receive the id, so publishing it again is no
        // repetition.
        self.ids_repeated += u64::from(self.recent_ids.note(event));
        // Encoded once and shared: a server does not mask its frames (RFC 6455 section 5.1), so the bytes are the same
        // for each connection, and an outbox costs a reference, however large the payload is.
        let frame = (self.settings.encoding.encode)(event, position, now.wall);
        // Slow connections are closed after the loop: closing one removes it from the list that the loop reads by
        // index.
        let mut slow = Vec::new();
        for at in 0..self.registry.of(event.gateway).len() {
            let key = self.registry.of(event.gateway)[at];
            let Some(connection) = self.registry.connection_mut(key) else { continue };
            let idle = connection.outbox.is_empty();
            let bytes_max = connection.outbox_bytes_max(now.instant, self.settings.outbox_bytes_max);
            match connection.outbox.push(frame.clone(), of, bytes_max) {
                Ok(()) if idle => self.dirty.push_back(key),
                // Bytes wait already, so this connection is in the dirty list, or blocked until its socket is writable.
                Ok(()) => {}
                Err(outbox::Full) => slow.push(key),
            }
        }
        // This event first: it is not in the outbox, so that closing does not fail it.
        for key in slow {
            self.decide(now, key, of, Outcome::Failed(CloseReason::SlowConsumer.label()));
            self.close_slow(now, key);
        }
    }

    /// Closes a connection as a slow consumer, and fails all events in its outbox.
    pub(super) fn close_slow(&mut self, now: Now, key: ConnectionKey) {
        self.handle_closing(now, key, CloseReason::SlowConsumer);
        self.effects.push_back(Effect::Close(key, CloseReason::SlowConsumer));
    }

    /// Decides one delivery, and queues the publisher's reply if it was the last one.
    pub(super) fn decide(&mut self, now: Now, key: ConnectionKey, of: EventRef, outcome: Outcome) {
        let Some(connection) = self.registry.connection(key) else { return };
        let (id, gateway) = (connection.id, connection.gateway);
        if let Outcome::Failed(reason) = outcome {
            self.fail(now, of, gateway, Some(key), reason);
        }
        if let Some((origin, reply)) = self.in_flight.decide(of, id, outcome) {
            self.effects.push_back(Effect::Reply(origin, reply));
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
            connection.stats.add(&failure);
            connection.id
        });
        if let Some((kind, outcome)) = self.in_flight.event(of) {
            let (kind, correlation) = (kind.clone(), outcome.correlation_id);
            self.failures.push(DeliveryFailure { gateway, connection, kind, correlation, reason });
        }
    }
}

impl Connection {
    /// The number of bytes that may wait for this connection now: `configured` if it is slow. A connection is slow if
    /// its socket has taken nothing for a second, or if more than `configured` has waited for five seconds.
    fn outbox_bytes_max(&mut self, now: Instant, configured: usize) -> usize {
        // The size of the outbox alone does not show that a peer is slow. A batch of 8 MiB fills the outbox of a
        // healthy peer, because it is queued faster than a socket takes it. So a socket that takes bytes, or was not
        // offered any yet, may have a whole batch waiting. The second limit, of time, is for peers that take a byte now
        // and then.
        let over = self.outbox.is_over(configured);
        self.over_since = self.over_since.filter(|_| over).or(over.then_some(now));
        let lasts = |since: Option<Instant>, patience| since.is_some_and(|since| now.since(since) >= patience);
        let slow = lasts(self.blocked_since, limits::OUTBOX_PATIENCE) || lasts(self.over_since, limits::OVER_PATIENCE);
        if slow { configured } else { configured.max(limits::MOVING_OUTBOX_BYTES_MAX) }
    }
}
