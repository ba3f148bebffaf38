//! No descriptor is left to accept a connection: which other connection is closed, on this core or on another.
//!
//! The limit of descriptors is the process's, but the kernel may have given all connections of an attacker to one core. So
//! each core publishes its [`Pressure`](super::unauthenticated::Pressure), and a core that needs a descriptor asks the core that ranks above it to close a
//! connection (docs/decisions/0011).

use super::{
    core::Engine,
    io::{Io, Request},
    link::LinkKey,
    notice::Notice,
};
use crate::{
    model::{Now, ShardId},
    shard::counters,
};

impl<I: Io> Engine<I> {
    /// Frees a descriptor for the next connection. Returns whether one is free, or will be once another core has answered.
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
        self.evict_for_accept(io, now)
    }

    /// Another core needs a descriptor. Only connections that have not authenticated are closed for it: the platform's idle ones are
    /// not worse than those of the core that asks.
    pub(super) fn handle_make_room(&mut self, io: &mut I, now: Now, asker: ShardId) {
        let candidate = self.links.unauthenticated_candidate(now.instant);
        let made = candidate.is_some_and(|key| self.evict(io, now, key));
        // If the asker's lane is full, it tries again by its timer.
        let _ = io.request(asker, Request::RoomMade(made));
    }

    /// Closes a connection of this core so that another can be accepted. Returns whether there was one to close.
    pub(super) fn evict_for_accept(&mut self, io: &mut I, now: Now) -> bool {
        self.links.eviction_candidate(now.instant).is_some_and(|key| self.evict(io, now, key))
    }

    fn evict(&mut self, io: &mut I, now: Now, key: LinkKey) -> bool {
        let Some(link) = self.links.get_mut(key) else { return false };
        self.shard.count_failed(counters::NO_ROOM);
        io.notice(now, Notice::MadeRoom { address: link.session.peer() });
        link.session.break_off();
        self.finish_visit(io, now, key);
        true
    }
}
