//! Carrying out a core's drain: queued events go out, closes are spread over the window, and the rest ends by a
//! deadline.

use super::{
    core::Engine,
    drain::Drain,
    io::{Ending, Io},
    notice::Notice,
};
use crate::model::{CloseReason, Now};

impl<I: Io> Engine<I> {
    /// Begins the drain, unless it has begun.
    pub(super) fn begin_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        let members = self.links.iter().filter(|(_, link)| link.member.is_some());
        self.shard.end_waits(now);
        self.drain = Some(Drain::new(now.instant, members.map(|(key, _)| key).collect(), self.hub.drain_window));
    }

    /// Takes the next step of the drain; returns whether there was one.
    pub(super) fn drain_next(&mut self, io: &mut I, now: Now) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        if let Some(key) = drain.pop_close(now.instant) {
            self.close_link(io, now, key, CloseReason::Shutdown);
            return true;
        }
        if !drain.take_check(now.instant) {
            return false;
        }
        // The slots of all cores count: a handoff may be on its way to this core.
        let waiting = self.hub.connections() > 0 || self.pending.is_waiting();
        let idle = !waiting && self.links.iter().all(|(_, link)| !link.is_busy());
        let Some(drain) = &mut self.drain else { return false };
        if drain.settle(now.instant, waiting, idle) {
            // Until all have settled, this core goes on answering the others and refusing new connections with 503.
            self.hub.count_settled();
        }
        if drain.begin_finish(now.instant, self.hub.all_settled()) {
            self.close_remaining(io, now);
        }
        let all_closed = self.links.iter().next().is_none();
        if self.drain.as_mut().is_some_and(|drain| drain.end(now.instant, all_closed)) {
            self.end(io, now);
        }
        true
    }

    /// Closes the listeners, and all connections that are left: they get their queued responses and our FIN.
    fn close_remaining(&mut self, io: &mut I, now: Now) {
        // Only now: while other cores drain, a new connection gets 503 instead of a refused connect.
        io.stop_accepting();
        let left: Vec<_> = self.links.iter().filter(|(_, link)| link.member.is_none()).map(|(key, _)| key).collect();
        for key in left {
            self.close_link(io, now, key, CloseReason::Shutdown);
        }
    }

    /// Removes all links that are left, without waiting for their peers.
    fn end(&mut self, io: &mut I, now: Now) {
        let left: Vec<_> = self.links.iter().map(|(key, link)| (key, link.member.is_some())).collect();
        let connections = left.iter().filter(|(_, member)| *member).count();
        if connections > 0 {
            io.notice(now, Notice::Forced { connections });
        }
        for (key, member) in left {
            if member {
                // A connection that is already closing keeps its own reason.
                // Ended through its session all the same, so that its undelivered events fail with the right reason.
                self.with_session(io, now, key, |session, _| {
                    session.close(now, CloseReason::Shutdown);
                    session.handle_broken();
                });
                self.handle_effects(io, now, key);
            }
            self.leave(io, now, key, CloseReason::Shutdown);
            if let Some(link) = self.links.remove(key) {
                // Not aborted: the kernel still delivers what was written.
                io.close(link.socket, Ending::Orderly);
            }
        }
    }
}
