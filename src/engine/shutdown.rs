//! The end of a core: what is queued goes out, closes are spread over the window, and nobody holds it up.

use super::{
    core::Engine,
    drain::Drain,
    io::{Ending, Io},
    notice::Notice,
};
use crate::model::{CloseReason, Now};

impl<I: Io> Engine<I> {
    pub(super) fn begin_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        let members = self.links.iter().filter(|(_, link)| link.member.is_some());
        self.drain = Some(Drain::new(now.instant, members.map(|(key, _)| key).collect(), self.hub.drain_window));
    }

    /// Takes the drain a step further; returns whether there was something to do.
    pub(super) fn drain_next(&mut self, io: &mut I, now: Now) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        if let Some(key) = drain.pop_close(now.instant) {
            self.close_link(io, now, key, CloseReason::Shutdown);
            return true;
        }
        if !drain.take_check(now.instant) {
            return false;
        }
        let waiting = self.hub.connections() > 0 || self.pending.is_waiting();
        let idle = !waiting && self.links.iter().all(|(_, link)| !link.is_busy());
        let Some(drain) = &mut self.drain else { return false };
        if drain.settle(now.instant, waiting, idle) {
            // Until all have settled this core goes on answering the others, and saying 503 to who comes.
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

    /// Nobody new is taken in. Who is still there is sent what waits for it, and our FIN.
    fn close_remaining(&mut self, io: &mut I, now: Now) {
        io.stop_accepting();
        let left: Vec<_> = self.links.iter().filter(|(_, link)| link.member.is_none()).map(|(key, _)| key).collect();
        for key in left {
            self.close_link(io, now, key, CloseReason::Shutdown);
        }
    }

    /// Ends what is left by force.
    fn end(&mut self, io: &mut I, now: Now) {
        let left: Vec<_> = self.links.iter().map(|(key, link)| (key, link.member.is_some())).collect();
        let connections = left.iter().filter(|(_, member)| *member).count();
        if connections > 0 {
            io.notice(now, Notice::Forced { connections });
        }
        for (key, member) in left {
            if member {
                // Whoever is being closed for another reason ends with that one.
                self.with_session(io, now, key, |session, _| {
                    session.close(now, CloseReason::Shutdown);
                    session.handle_broken();
                });
                self.handle_effects(io, now, key);
            }
            self.leave(io, now, key, CloseReason::Shutdown);
            if let Some(link) = self.links.remove(key) {
                io.close(link.socket, Ending::Orderly);
            }
        }
    }
}
