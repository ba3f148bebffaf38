//! The correlation ids of each gateway's last events. A gateway may drop an event whose id it has seen before, so the
//! hub warns when a publisher gives an id twice.

use crate::{
    limits,
    model::{CorrelationId, Event, GatewayId},
};
use ahash::{HashMap, RandomState};

/// A warning for the log: events had correlation ids that their gateway had received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The gateway of the last such event.
    pub gateway: GatewayId,
    /// The correlation id of that event.
    pub correlation: CorrelationId,
    /// Number of such events since the last warning, over all gateways of the shard.
    pub count: u64,
}

/// The ids by gateway. A gateway uses no memory until a publisher gives an id for it, and then at most 8 KiB.
#[derive(Default)]
pub(super) struct RecentIds {
    rings: HashMap<GatewayId, Ring>,
    hasher: RandomState,
    /// The next warning. One, not a queue: a publisher that repeats ids must not fill memory or the log.
    repeated: Option<Repeated>,
}

/// Hashes of the last [`limits::RECENT_IDS_MAX`] ids; a new one overwrites the oldest. The hash has 64 bits and a
/// random key, so two different ids are taken for the same about once in 10^16 events.
#[derive(Default)]
struct Ring {
    hashes: Vec<u64>,
    next: usize,
}

impl Ring {
    fn push(&mut self, hash: u64) {
        if self.hashes.len() < limits::RECENT_IDS_MAX {
            self.hashes.push(hash);
        } else {
            self.hashes[self.next] = hash;
            self.next = (self.next + 1) % limits::RECENT_IDS_MAX;
        }
    }
}

impl RecentIds {
    /// Records the id of an event that is given to connections. Returns whether its publisher gave an id that the gateway
    /// received before.
    pub(super) fn note(&mut self, event: &Event) -> bool {
        let hash = || self.hasher.hash_one(event.correlation.0.as_u128());
        if !event.correlation_given {
            // The hub's own ids never repeat. They are recorded because a publisher may take one from an answer and
            // send it again.
            if !self.rings.is_empty()
                && let Some(ring) = self.rings.get_mut(&event.gateway)
            {
                ring.push(hash());
            }
            return false;
        }
        let hash = hash();
        let ring = self.rings.entry(event.gateway).or_default();
        // A scan of 8 KiB: a set beside the ring would double the memory for the few publishers that give ids.
        let repeated = ring.hashes.contains(&hash);
        ring.push(hash);
        if repeated {
            let count = self.repeated.map_or(0, |repeated| repeated.count) + 1;
            self.repeated = Some(Repeated { gateway: event.gateway, correlation: event.correlation, count });
        }
        repeated
    }

    /// Takes the next warning.
    pub(super) fn poll_repeated(&mut self) -> Option<Repeated> {
        self.repeated.take()
    }

    /// Whether [`RecentIds::poll_repeated`] would return something.
    pub(super) fn has_repeated(&self) -> bool {
        self.repeated.is_some()
    }

    /// Removes the ids of a deleted gateway.
    pub(super) fn forget(&mut self, gateway: GatewayId) {
        self.rings.remove(&gateway);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventType;
    use bytes::Bytes;

    fn event(gateway: GatewayId, correlation: CorrelationId, correlation_given: bool) -> Event {
        let (kind, payload) = (EventType::parse("t").unwrap(), Bytes::from_static(b"{}"));
        Event { gateway, kind, payload, correlation, correlation_given, user_id: None }
    }

    #[test]
    fn an_id_is_known_for_as_many_events_as_the_ring_holds() {
        let mut recent = RecentIds::default();
        let (gateway, id) = (GatewayId::random(), CorrelationId::random());
        assert!(!recent.note(&event(gateway, id, true)));
        for _ in 1..limits::RECENT_IDS_MAX {
            assert!(!recent.note(&event(gateway, CorrelationId::random(), false)));
        }
        assert!(recent.note(&event(gateway, id, true)), "it is the oldest in the ring");
        assert_eq!(recent.poll_repeated(), Some(Repeated { gateway, correlation: id, count: 1 }));
        assert_eq!(recent.poll_repeated(), None);
        let id = CorrelationId::random();
        recent.note(&event(gateway, id, true));
        for _ in 0..limits::RECENT_IDS_MAX {
            recent.note(&event(gateway, CorrelationId::random(), true));
        }
        assert!(!recent.note(&event(gateway, id, true)), "it was overwritten");
        let ring = &recent.rings[&gateway].hashes;
        assert_eq!((ring.len(), ring.capacity()), (limits::RECENT_IDS_MAX, limits::RECENT_IDS_MAX));
    }

    #[test]
    fn gateways_whose_publishers_give_no_ids_use_no_memory() {
        let mut recent = RecentIds::default();
        let (one, other) = (GatewayId::random(), GatewayId::random());
        for _ in 0..10 {
            recent.note(&event(one, CorrelationId::random(), false));
        }
        assert!(recent.rings.is_empty());
        let id = CorrelationId::random();
        assert!(
            !recent.note(&event(one, id, true)) && !recent.note(&event(other, id, true)),
            "each gateway has its own ids"
        );
        recent.forget(one);
        assert!(!recent.note(&event(one, id, true)) && recent.note(&event(other, id, true)));
    }

    #[test]
    fn repeats_between_two_warnings_are_counted() {
        let mut recent = RecentIds::default();
        let (gateway, id) = (GatewayId::random(), CorrelationId::random());
        let repeated = (0..4).filter(|_| recent.note(&event(gateway, id, true))).count();
        assert_eq!(repeated, 3);
        assert!(recent.has_repeated());
        assert_eq!(recent.poll_repeated().map(|repeated| repeated.count), Some(3));
    }
}
