//! Where descriptors run out: which connection is closed for the next, here or on the core that has a greater crowd.
//!
//! Descriptors are the process's, and the kernel may have given all connections of one address to another core. So each core
//! tells how great its greatest crowd of unauthenticated connections of one address is, and one that has to accept asks the core
//! with the greatest to close one of those.

use super::{
    core::Engine,
    io::{Io, Request},
    notice::Notice,
};
use crate::model::{Now, ShardId};

impl<I: Io> Engine<I> {
    /// No descriptor is left for the next connection. Returns whether there is, or soon will be.
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
            && io.request(core, Request::MakeRoom(self.id)).is_ok()
        {
            self.acceptor.handle_asked(now.instant);
            return true;
        }
        self.make_room(io, now)
    }

    /// Another core has to accept a connection and has no descriptor for it.
    pub(super) fn handle_make_room(&mut self, io: &mut I, now: Now, asker: ShardId) {
        let made = self.links.max_per_address() > 0 && self.make_room(io, now);
        // Where the asker's lane is full it tries again by itself after a while.
        let _ = io.request(asker, Request::RoomMade(made));
    }

    /// Closes a connection so that another can be accepted; returns whether there was one to close.
    pub(super) fn make_room(&mut self, io: &mut I, now: Now) -> bool {
        let Some(key) = self.links.eviction_candidate() else { return false };
        let Some(link) = self.links.get_mut(key) else { return false };
        io.notice(now, Notice::MadeRoom { address: link.session.peer() });
        link.session.break_off();
        self.finish_visit(io, now, key);
        true
    }
}
