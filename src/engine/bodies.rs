//! Memory reserved for request bodies: one budget for the platform, one for all gateways, and one unfinished body per
//! gateway.
//!
//! The budgets are separate, so that a gateway with unfinished bodies cannot turn the platform's publishes into 503.

use super::link_key::LinkKey;
use crate::{limits, model::GatewayId};
use std::collections::BTreeMap;

/// Which budget a body counts against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyOwner {
    Platform,
    Gateway(GatewayId),
}

/// Bytes reserved for one connection's body. Pass it to [`Bodies::release`] in the end.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Reservation {
    owner: BodyOwner,
    bytes: usize,
}

/// The free bytes of both budgets.
pub(super) struct Bodies {
    platform: usize,
    gateways: usize,
    /// The connection that began the newest body of each gateway.
    newest: BTreeMap<GatewayId, LinkKey>,
}

/// The budget is used up.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct NoRoom;

impl Bodies {
    /// Creates one core's share of the hub's budgets, each at least as large as the largest body.
    pub(super) fn new((platform, gateways): (usize, usize), shards: u16) -> Self {
        let shards = usize::from(shards).max(1);
        Self {
            // With many cores an equal share would be smaller than one body.
            platform: (platform / shards).max(limits::BATCH_BODY_BYTES_MAX),
            gateways: (gateways / shards).max(limits::MANIFEST_BYTES_MAX),
            newest: BTreeMap::new(),
        }
    }

    /// Reserves memory for a body. Also returns the connection that began the gateway's previous body, if any: the
    /// caller ends that request if its body is unfinished.
    pub(super) fn reserve(
        &mut self,
        owner: BodyOwner,
        bytes: usize,
        link: LinkKey,
    ) -> Result<(Reservation, Option<LinkKey>), NoRoom> {
        let left = self.available(owner);
        *left = left.checked_sub(bytes).ok_or(NoRoom)?;
        let before = match owner {
            BodyOwner::Gateway(gateway) => self.newest.insert(gateway, link).filter(|before| *before != link),
            BodyOwner::Platform => None,
        };
        Ok((Reservation { owner, bytes }, before))
    }

    /// The body is complete: reduces its reservation to its size in bytes.
    pub(super) fn shrink(&mut self, reservation: &mut Reservation, bytes: usize) {
        let over = reservation.bytes.saturating_sub(bytes);
        reservation.bytes -= over;
        *self.available(reservation.owner) += over;
    }

    /// The body was freed: returns its bytes to the budget.
    pub(super) fn release(&mut self, reservation: Reservation, link: LinkKey) {
        *self.available(reservation.owner) += reservation.bytes;
        // An older request of the gateway must not remove the entry of a newer one.
        if let BodyOwner::Gateway(gateway) = reservation.owner
            && self.newest.get(&gateway) == Some(&link)
        {
            self.newest.remove(&gateway);
        }
    }

    fn available(&mut self, owner: BodyOwner) -> &mut usize {
        match owner {
            BodyOwner::Platform => &mut self.platform,
            BodyOwner::Gateway(_) => &mut self.gateways,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const BYTES: (usize, usize) = (limits::PLATFORM_BODIES_BYTES_MAX, limits::GATEWAYS_BODIES_BYTES_MAX);

    fn link(index: u32) -> LinkKey {
        LinkKey { index, serial: 1 }
    }

    fn gateway(id: u128) -> BodyOwner {
        BodyOwner::Gateway(GatewayId::from_random(id))
    }

    #[test]
    fn the_budgets_are_separate_and_released_bytes_are_free_again() {
        let mut bodies = Bodies::new(BYTES, 64);
        let (platform, gateways) = (bodies.platform, bodies.gateways);
        let (first, _) = bodies.reserve(gateway(1), MIB, link(1)).unwrap();
        assert_eq!(bodies.reserve(gateway(2), 1, link(2)), Err(NoRoom), "with 64 cores a core's share is one manifest");
        let (batch, _) = bodies.reserve(BodyOwner::Platform, 8 * MIB, link(3)).unwrap();
        assert_eq!(bodies.reserve(BodyOwner::Platform, 1, link(4)), Err(NoRoom));
        bodies.release(first, link(1));
        bodies.release(batch, link(3));
        assert_eq!((bodies.platform, bodies.gateways), (platform, gateways));
        assert!(bodies.newest.is_empty());
    }

    #[test]
    fn a_complete_body_reserves_only_its_size() {
        let mut bodies = Bodies::new(BYTES, 64);
        let (mut reservation, _) = bodies.reserve(BodyOwner::Platform, 8 * MIB, link(1)).unwrap();
        bodies.shrink(&mut reservation, 100);
        assert_eq!(bodies.platform, 8 * MIB - 100);
        bodies.release(reservation, link(1));
        assert_eq!(bodies.platform, 8 * MIB);
    }

    #[test]
    fn a_new_body_of_a_gateway_returns_the_previous_connection() {
        let mut bodies = Bodies::new(BYTES, 1);
        let (older, before) = bodies.reserve(gateway(1), MIB, link(1)).unwrap();
        assert_eq!(before, None);
        let (newer, before) = bodies.reserve(gateway(1), MIB, link(2)).unwrap();
        assert_eq!(before, Some(link(1)));
        bodies.release(older, link(1));
        let (_, before) = bodies.reserve(gateway(1), MIB, link(3)).unwrap();
        assert_eq!(before, Some(link(2)), "releasing an older body keeps the newest entry");
        bodies.release(newer, link(2));
    }
}
