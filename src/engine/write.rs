//! Writing a link: up to [`WRITE_QUANTUM_BYTES`] a visit, sealed and sent without a queue in between.

use super::{
    core::Engine,
    io::{Io, Sent},
    link::LinkKey,
    schedule::{Visit, WOKEN_PER_WRITE, WRITE_QUANTUM_BYTES},
};
use crate::{
    model::{Now, Position},
    session::{Filled, NoEvents, Source},
    shard::Waiting,
};

impl Source for Waiting<'_> {
    fn copy(&self, budget: usize, stop: bool, out: &mut Vec<u8>) -> usize {
        Waiting::copy(self, budget, stop, out)
    }

    fn at_boundary(&self) -> bool {
        Waiting::at_boundary(self)
    }

    fn is_drained(&self) -> bool {
        Waiting::is_drained(self)
    }

    fn begins_event(&self) -> bool {
        Waiting::begins_event(self)
    }

    fn ping_position(&self) -> Option<Position> {
        Waiting::ping_position(self)
    }

    fn is_processing(&self) -> bool {
        Waiting::is_processing(self)
    }
}

impl<I: Io> Engine<I> {
    /// Writes the next link that has something to write.
    pub(super) fn write_next(&mut self, io: &mut I, now: Now) -> Visit {
        // For each link that is written, a few connections with new events are queued behind the others: an event for a
        // thousand connections is on its way to the first before the last is looked at.
        for woken in 1.. {
            let Some(member) = self.shard.poll_dirty() else { break };
            if let Some(key) = self.links.of_member(member) {
                self.wake_writer(key);
            }
            if woken >= WOKEN_PER_WRITE && !self.writers.is_empty() {
                break;
            }
        }
        let Some(key) = self.writers.pop_front() else { return Visit::Idle };
        self.write(io, now, key)
    }

    /// Writes until there is nothing to write, the socket is full, or [`WRITE_QUANTUM_BYTES`] are written.
    pub(super) fn write(&mut self, io: &mut I, now: Now, key: LinkKey) -> Visit {
        let mut left = WRITE_QUANTUM_BYTES;
        let mut more = true;
        while more && left > 0 {
            let Some(sent) = self.write_once(io, now, key) else { break };
            more = sent > 0;
            left = left.saturating_sub(sent);
        }
        let Some(link) = self.links.get_mut(key) else { return Visit::Small };
        debug_assert!(link.writing, "a visited link was queued");
        link.writing = false;
        let asked = link.session.has_effect();
        self.handle_effects(io, now, key);
        // Handling the effects may have produced more output.
        if asked || left == 0 {
            self.wake_writer(key);
        }
        self.finish_visit(io, now, key);
        if left < WRITE_QUANTUM_BYTES / 4 * 3 { Visit::Large } else { Visit::Small }
    }

    /// Writes until the session's own output (responses, pongs, the close frame) is out, up to one quantum. Called
    /// before the end of the peer's stream is read, because reading it ends the session and drops what still waits.
    pub(super) fn write_session_output(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let mut left = WRITE_QUANTUM_BYTES;
        while left > 0
            && self.links.get(key).is_some_and(|link| link.session.has_output())
            && let Some(sent) = self.write_once(io, now, key).filter(|sent| *sent > 0)
        {
            left = left.saturating_sub(sent);
        }
    }

    /// Seals one record and sends it. Returns the bytes sent, or `None` if there is nothing to write or the socket did
    /// not take all of it.
    fn write_once(&mut self, io: &mut I, now: Now, key: LinkKey) -> Option<usize> {
        let link = self.links.get_mut(key).filter(|link| link.writable)?;
        // Records go out in the order in which they were sealed: TLS numbers them.
        if !link.session.backlog().is_empty() {
            let offered = link.session.backlog().len();
            let Sent::Took(sent) = io.send(&mut link.socket, link.session.backlog()) else { return self.broken(key) };
            link.session.handle_backlog_sent(now, sent);
            return self.sent(io, now, key, offered, sent);
        }
        let member = link.member;
        let shard = &self.shard;
        let (session, scratch) = (&mut link.session, &mut self.scratch);
        let filled = super::guard::guarded(|| match member {
            Some(member) => session.poll_transmit(now, &shard.waiting(member), scratch),
            None => session.poll_transmit(now, &NoEvents, scratch),
        });
        let Some(filled) = filled else {
            self.handle_panic(io, now, key);
            return None;
        };
        let Some(Filled { event_bytes }) = filled else {
            if let Some(member) = member {
                self.shard.handle_drained(now, member);
            }
            return None;
        };
        let Sent::Took(sent) = io.send(&mut link.socket, &self.scratch.wire) else { return self.broken(key) };
        debug_assert!(sent <= self.scratch.wire.len());
        let offered = self.scratch.wire.len();
        link.session.handle_sent(now, sent, &self.scratch);
        // The cursor advances after sealing and sending. If `poll_transmit` panics, the shard is untouched, so that the
        // panic ends this connection only.
        if let Some(member) = member.filter(|_| event_bytes > 0) {
            self.shard.advance(now, member, event_bytes);
        }
        self.sent(io, now, key, offered, sent)
    }

    /// Records that the socket took `sent` of the `offered` bytes.
    fn sent(&mut self, io: &mut I, now: Now, key: LinkKey, offered: usize, sent: usize) -> Option<usize> {
        let link = self.links.get_mut(key)?;
        debug_assert!(sent <= offered && link.session.backlog().len() == offered - sent, "unsent bytes are kept");
        link.writable = sent == offered;
        if let Some(member) = link.member.filter(|_| link.writable) {
            let first = self.shard.handle_written(now, member, link.session.sent_bytes());
            link.session.set_first(now, first);
        }
        // The reference for a stall: if nothing more is acknowledged by the write deadline, the peer does not read.
        if !link.writable {
            link.acknowledged_bytes = io.peer(&link.socket).acknowledged_bytes;
        }
        link.writable.then_some(sent)
    }

    fn broken(&mut self, key: LinkKey) -> Option<usize> {
        let link = self.links.get_mut(key)?;
        link.session.handle_broken();
        None
    }
}
