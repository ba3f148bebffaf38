//! Bytes of requests' bodies that a core has promised to take: so many for the platform, so many for all gateways, and of each
//! gateway one body at a time that is not whole. One side's unfinished bodies take nothing from the other.

use super::link_key::LinkKey;
use crate::{limits, model::GatewayId};
use std::collections::BTreeMap;

/// Whose body it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyOwner {
    Platform,
    Gateway(GatewayId),
}

/// Bytes that one connection may send; it has to be given back.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Reservation {
    owner: BodyOwner,
    bytes: usize,
}

/// What is left of both budgets.
pub(super) struct Bodies {
    platform: usize,
    gateways: usize,
    /// Whose body of each gateway is the newest.
    newest: BTreeMap<GatewayId, LinkKey>,
}

/// No room for another body now.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct NoRoom;

impl Bodies {
    /// One core's share of the hub's budgets; the largest body always fits.
    pub(super) fn new(shards: u16) -> Self {
        let shards = usize::from(shards).max(1);
        Self {
            platform: (limits::PLATFORM_BODIES_BYTES_MAX / shards).max(limits::BATCH_BODY_BYTES_MAX),
            gateways: (limits::GATEWAYS_BODIES_BYTES_MAX / shards).max(limits::MANIFEST_BYTES_MAX),
            newest: BTreeMap::new(),
        }
    }

    /// Promises to take a body. With the connection whose body of the same gateway was the newest until now, if there is one:
    /// where it is not whole, it has to go.
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

    /// The body is whole, and has so many bytes.
    pub(super) fn shrink(&mut self, reservation: &mut Reservation, bytes: usize) {
        let over = reservation.bytes.saturating_sub(bytes);
        reservation.bytes -= over;
        *self.available(reservation.owner) += over;
    }

    /// The body is gone.
    pub(super) fn release(&mut self, reservation: Reservation, link: LinkKey) {
        *self.available(reservation.owner) += reservation.bytes;
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

    fn link(index: u32) -> LinkKey {
        LinkKey { index, serial: 1 }
    }

    fn gateway(id: u128) -> BodyOwner {
        BodyOwner::Gateway(GatewayId::from_random(id))
    }

    #[test]
    fn gateways_take_nothing_from_the_platform_and_what_is_given_back_is_there_again() {
        let mut bodies = Bodies::new(64);
        let (platform, gateways) = (bodies.platform, bodies.gateways);
        let (first, _) = bodies.reserve(gateway(1), MIB, link(1)).unwrap();
        assert_eq!(bodies.reserve(gateway(2), 1, link(2)), Err(NoRoom), "the share of 64 cores is one manifest");
        let (batch, _) = bodies.reserve(BodyOwner::Platform, 8 * MIB, link(3)).unwrap();
        assert_eq!(bodies.reserve(BodyOwner::Platform, 1, link(4)), Err(NoRoom));
        bodies.release(first, link(1));
        bodies.release(batch, link(3));
        assert_eq!((bodies.platform, bodies.gateways), (platform, gateways));
        assert!(bodies.newest.is_empty());
    }

    #[test]
    fn a_whole_body_counts_by_its_size() {
        let mut bodies = Bodies::new(64);
        let (mut reservation, _) = bodies.reserve(BodyOwner::Platform, 8 * MIB, link(1)).unwrap();
        bodies.shrink(&mut reservation, 100);
        assert_eq!(bodies.platform, 8 * MIB - 100);
        bodies.release(reservation, link(1));
        assert_eq!(bodies.platform, 8 * MIB);
    }

    #[test]
    fn the_newest_of_a_gateway_names_the_one_before() {
        let mut bodies = Bodies::new(1);
        let (older, before) = bodies.reserve(gateway(1), MIB, link(1)).unwrap();
        assert_eq!(before, None);
        let (newer, before) = bodies.reserve(gateway(1), MIB, link(2)).unwrap();
        assert_eq!(before, Some(link(1)));
        bodies.release(older, link(1));
        let (_, before) = bodies.reserve(gateway(1), MIB, link(3)).unwrap();
        assert_eq!(before, Some(link(2)), "what an older one gives back is not the newest's");
        bodies.release(newer, link(2));
    }
}
