//! Gateways that come back: the next connection of the same gateway, once one is lost.

use super::{net::START, world::World};
use crate::model::Instant;
use std::time::Duration;

impl World {
    /// A peer has lost its connection: the next one of the same gateway connects.
    pub(super) fn replace(&mut self, lost: usize) {
        let net = &mut *self.net.borrow_mut();
        for next in self.peers.iter_mut().filter(|peer| peer.profile.follows == Some(lost)) {
            let at_once = if net.rng.chance(800) { 1_000 } else { 2_000_000 };
            let arrives = net.now.since(Instant(START)) + Duration::from_micros(net.rng.below(at_once));
            next.come_back(net.now, arrives, Duration::from_millis(net.rng.within(2_000..=20_000)));
            net.oracle.cover("a gateway comes back");
            net.schedule_turn(next.index, Instant(START) + arrives);
        }
    }
}
