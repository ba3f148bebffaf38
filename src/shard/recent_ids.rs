//! Correlation ids that the gateways of one shard got last: a gateway may drop an event whose id it has seen before.

use crate::{
    limits,
    model::{CorrelationId, Event, GatewayId},
};
use ahash::{HashMap, RandomState};

/// An event whose correlation id its gateway has got before, for the log; and how many there were since the last one told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// To which gateway.
    pub gateway: GatewayId,
    /// The id, of the last of them.
    pub correlation: CorrelationId,
    /// How many, of all gateways of the shard.
    pub count: u64,
}

/// The ids by gateway. A gateway costs nothing until a publisher gives it an id of its own, and 8 KiB at the most.
#[derive(Default)]
pub(super) struct RecentIds {
    rings: HashMap<GatewayId, Ring>,
    hasher: RandomState,
    untold: Option<Repeated>,
}

/// Hashes of the last ids. It grows to [`limits::RECENT_IDS_MAX`], and from then on the oldest is overwritten. A hash is 64 bits
/// under a key of this process's own: two ids that only look the same are once in 10^16 events.
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
    /// An event goes to its gateway, which is connected. Returns whether the publisher gave it an id that the gateway got before.
    pub(super) fn note(&mut self, event: &Event) -> bool {
        let hash = || self.hasher.hash_one(event.correlation.0.as_u128());
        if !event.correlation_given {
            // An id of the hub's own is new, but a publisher may send it back.
            if !self.rings.is_empty()
                && let Some(ring) = self.rings.get_mut(&event.gateway)
            {
                ring.push(hash());
            }
            return false;
        }
        let hash = hash();
        let ring = self.rings.entry(event.gateway).or_default();
        let repeated = ring.hashes.contains(&hash);
        ring.push(hash);
        if repeated {
            let count = self.untold.map_or(0, |untold| untold.count) + 1;
            self.untold = Some(Repeated { gateway: event.gateway, correlation: event.correlation, count });
        }
        repeated
    }

    /// What is to be told.
    pub(super) fn poll(&mut self) -> Option<Repeated> {
        self.untold.take()
    }

    /// Whether [`RecentIds::poll`] has something.
    pub(super) fn is_untold(&self) -> bool {
        self.untold.is_some()
    }

    /// The gateway was deleted.
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
        assert!(recent.note(&event(gateway, id, true)), "it is the oldest that is known");
        assert_eq!(recent.poll(), Some(Repeated { gateway, correlation: id, count: 1 }));
        assert_eq!(recent.poll(), None);
        let id = CorrelationId::random();
        recent.note(&event(gateway, id, true));
        for _ in 0..limits::RECENT_IDS_MAX {
            recent.note(&event(gateway, CorrelationId::random(), true));
        }
        assert!(!recent.note(&event(gateway, id, true)), "it is forgotten");
        let ring = &recent.rings[&gateway].hashes;
        assert_eq!((ring.len(), ring.capacity()), (limits::RECENT_IDS_MAX, limits::RECENT_IDS_MAX));
    }

    #[test]
    fn gateways_whose_publishers_give_no_ids_cost_nothing() {
        let mut recent = RecentIds::default();
        let (one, other) = (GatewayId::random(), GatewayId::random());
        for _ in 0..10 {
            recent.note(&event(one, CorrelationId::random(), false));
        }
        assert!(recent.rings.is_empty());
        let id = CorrelationId::random();
        assert!(!recent.note(&event(one, id, true)) && !recent.note(&event(other, id, true)), "each has its own");
        recent.forget(one);
        assert!(!recent.note(&event(one, id, true)) && recent.note(&event(other, id, true)));
    }

    #[test]
    fn repeats_that_were_not_told_are_counted() {
        let mut recent = RecentIds::default();
        let (gateway, id) = (GatewayId::random(), CorrelationId::random());
        let repeated = (0..4).filter(|_| recent.note(&event(gateway, id, true))).count();
        assert_eq!(repeated, 3);
        assert!(recent.is_untold());
        assert_eq!(recent.poll().map(|repeated| repeated.count), Some(3));
    }
}
