//! What to close when the process has no free descriptor for the next connection.
//!
//! The limit of descriptors is the process's, but the kernel spreads connections over the cores unevenly: the idle
//! connections of one address that use the limit up may all be on another core. So each core publishes the largest
//! number of unauthenticated connections that one address has on it. A core without a descriptor asks the core with the
//! largest number to close one. (`docs/decisions/0011-descriptors-are-the-process-s.md`)

use super::{
    core::Engine,
    io::{Io, Request},
    notice::Notice,
};
use crate::model::{Now, ShardId};

impl<I: Io> Engine<I> {
    /// Frees a descriptor for the next connection, or asks another core to. Returns whether to try again.
    pub(super) fn find_descriptor(&mut self, io: &mut I, now: Now) -> bool {
        if !self.acceptor.may_make_room() {
            return false;
        }
        let greater = self
            .hub
            .core_with_most_unauthenticated()
            .filter(|(core, count)| *core != self.id && *count > self.links.max_per_address());
        if let Some((core, _)) = greater
            && self.acceptor.may_ask(now.instant)
            // If that core's lane is full, or the core is stuck, this core closes one of its own.
            && io.request(core, Request::MakeRoom(self.id)).is_ok()
        {
            self.acceptor.handle_asked(now.instant);
            return true;
        }
        self.make_room(io, now)
    }

    /// Another core asks this one to close a connection.
    pub(super) fn handle_make_room(&mut self, io: &mut I, now: Now, asker: ShardId) {
        // The numbers are up to one pass old. A core that has no such address any more closes nothing for another one:
        // its idle connections of the platform stay.
        let made = self.links.max_per_address() > 0 && self.make_room(io, now);
        // If the asker's lane is full, the answer is dropped; the asker tries again by itself.
        let _ = io.request(asker, Request::RoomMade(made));
    }

    /// Closes a connection so that another can be accepted; returns false if there is none to close.
    pub(super) fn make_room(&mut self, io: &mut I, now: Now) -> bool {
        let Some(key) = self.links.eviction_candidate() else { return false };
        let Some(link) = self.links.get_mut(key) else { return false };
        io.notice(now, Notice::MadeRoom { address: link.session.peer() });
        // Without an answer or a TLS notice: the descriptor is needed now, and lingering would keep it.
        link.session.break_off();
        self.finish_visit(io, now, key);
        true
    }
}
