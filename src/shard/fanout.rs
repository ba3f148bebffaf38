//! From an accepted event to decided deliveries: position, outboxes, answers, failures.

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
        if let Some((origin, reply)) = self.in_flight.seal(publish) {
            self.effects.push_back(Effect::Reply(origin, reply));
        }
    }

    /// Gives one event its position. A gateway that was deleted while the event was on its way here, or is not made yet,
    /// gives it none: the event is answered, and nothing else.
    fn accept(&mut self, now: Now, publish: u32, event: &Event) {
        let Some(life) = self.life_of(event.gateway) else { return self.in_flight.add_without_gateway(publish) };
        let position = self.sequencer.append(life);
        self.deliver(now, publish, event, position);
    }

    /// Puts an event that has its position into every outbox of its gateway.
    fn deliver(&mut self, now: Now, publish: u32, event: &Event, position: Position) {
        let keys = self.registry.of(event.gateway);
        debug_assert!(position.offset > 0, "an event that is delivered has its position");
        let of = self.in_flight.add(publish, event, position, keys.len());
        if keys.is_empty() {
            self.in_flight.unconnected(of);
            self.fail(now, of, event.gateway, None, crate::model::Failure::NOT_CONNECTED);
            return;
        }
        self.ids_repeated += u64::from(self.recent_ids.note(event));
        let frame = (self.settings.encoding.encode)(event, position, now.wall);
        // By index: a connection that overflows is retired, and must not shift those behind it.
        let mut slow = Vec::new();
        for at in 0..self.registry.of(event.gateway).len() {
            let key = self.registry.of(event.gateway)[at];
            let Some(connection) = self.registry.connection_mut(key) else { continue };
            let idle = connection.outbox.is_empty();
            let bytes_max = connection.outbox_bytes_max(now.instant, self.settings.outbox_bytes_max);
            match connection.outbox.push(frame.clone(), of, bytes_max) {
                Ok(()) if idle => self.dirty.push_back(key),
                Ok(()) => {}
                Err(outbox::Full) => slow.push(key),
            }
        }
        for key in slow {
            self.decide(now, key, of, Outcome::Failed(CloseReason::SlowConsumer.label()));
            self.close_slow(now, key);
        }
    }

    pub(super) fn close_slow(&mut self, now: Now, key: ConnectionKey) {
        self.handle_closing(now, key, CloseReason::SlowConsumer);
        self.effects.push_back(Effect::Close(key, CloseReason::SlowConsumer));
    }

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

    /// Counts and reports a failed delivery.
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
        if let Some((kind, outcome)) = self.in_flight.about(of) {
            let (kind, correlation) = (kind.clone(), outcome.correlation_id);
            self.failures.push(DeliveryFailure { gateway, connection, kind, correlation, reason });
        }
    }
}

impl Connection {
    /// What may wait for this connection now, where `configured` is what may wait for a slow one. A socket that takes bytes, or
    /// was offered none yet, is not slow for as long as a batch needs: that much may wait for it.
    fn outbox_bytes_max(&mut self, now: Instant, configured: usize) -> usize {
        let over = self.outbox.is_over(configured);
        self.over_since = self.over_since.filter(|_| over).or(over.then_some(now));
        let lasts = |since: Option<Instant>, patience| since.is_some_and(|since| now.since(since) >= patience);
        let slow = lasts(self.blocked_since, limits::OUTBOX_PATIENCE) || lasts(self.over_since, limits::OVER_PATIENCE);
        if slow { configured } else { configured.max(limits::MOVING_OUTBOX_BYTES_MAX) }
    }
}
