//! Frees a descriptor when none is left to accept a connection, by closing another connection on this core or on
//! another.
//!
//! The descriptor limit applies to the whole process, but the kernel may have given all connections of an attacker to
//! one core. So each core publishes its [`Pressure`](super::unauthenticated::Pressure), and a core that needs a
//! descriptor asks the core with the highest rank to close a connection (docs/decisions/0011).

use super::{
    core::Engine,
    io::{Io, Request},
    link::LinkKey,
    notice::Notice,
    unauthenticated::HANDSHAKE_GRACE,
};
use crate::{
    model::{Instant, Now, ShardId},
    shard::counters,
};

impl<I: Io> Engine<I> {
    /// Frees a descriptor for the next connection. Returns whether one is free, or another core was asked to free one.
    pub(super) fn find_descriptor(&mut self, io: &mut I, now: Now) -> bool {
        if !self.acceptor.may_make_room() {
            return false;
        }
        let own = self.links.pressure().rank(now.instant);
        let above =
            self.hub.core_under_most_pressure(now.instant).filter(|(core, rank)| *core != self.id && *rank > own);
        if let Some((core, _)) = above
            && self.acceptor.may_ask(now.instant)
            && io.request(core, Request::MakeRoom(self.id)).is_ok()
        {
            self.acceptor.handle_asked(now.instant);
            return true;
        }
        // An idle connection of the platform is closed only if no core has an unauthenticated one. If one exists but is
        // still in its handshake grace, waiting for it costs at most a second.
        let all_authenticated = self.oldest_unauthenticated().is_none();
        let idle = || if all_authenticated { self.links.idle_candidate() } else { None };
        let candidate = self.links.unauthenticated_candidate(now.instant).or_else(idle);
        self.evict(io, now, candidate)
    }

    /// When the oldest unauthenticated connection may be closed for a new one; `None` if there is none.
    pub(super) fn next_eviction(&self) -> Option<Instant> {
        self.oldest_unauthenticated().map(|at| at + HANDSHAKE_GRACE)
    }

    fn oldest_unauthenticated(&self) -> Option<Instant> {
        [self.hub.oldest_unauthenticated_beside(self.id), self.links.pressure().oldest].into_iter().flatten().min()
    }

    /// Handles another core's request for a descriptor. Closes only an unauthenticated connection: this core's idle
    /// connections of the platform are worth as much as those of the core that asks.
    pub(super) fn handle_make_room(&mut self, io: &mut I, now: Now, asker: ShardId) {
        let candidate = self.links.unauthenticated_candidate(now.instant);
        let room_made = self.evict(io, now, candidate);
        // If the lane is full, the answer is lost, and the asking core tries again by its timer.
        let _ = io.request(asker, Request::RoomMade(room_made));
    }

    /// Closes a connection of this core because it has reached its limit of connections that are not gateways. Returns
    /// whether it closed one.
    pub(super) fn evict_for_accept(&mut self, io: &mut I, now: Now) -> bool {
        let candidate = self.links.unauthenticated_candidate(now.instant).or_else(|| self.links.idle_candidate());
        self.evict(io, now, candidate)
    }

    fn evict(&mut self, io: &mut I, now: Now, candidate: Option<LinkKey>) -> bool {
        let Some(key) = candidate else { return false };
        let Some(link) = self.links.get_mut(key) else { return false };
        self.shard.count_failed(counters::NO_ROOM);
        io.notice(now, Notice::MadeRoom { address: link.session.peer() });
        link.session.break_off();
        self.finish_visit(io, now, key);
        true
    }
}
