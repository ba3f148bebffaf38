//! Writes what a connection has to say to its simulated socket, as `driver::flush` does to a real one.

use super::{
    core::{Core, LinkKey},
    hub::Hub,
    pipe::Write,
};
use crate::{
    model::Now,
    session::{NoEvents, Scratch, Session, Source},
    shard::{ConnectionKey, Shard},
};
use std::ops::ControlFlow;

const TURN_BYTES: usize = 256 * 1024;

impl Core {
    /// Writes until nothing is left or the socket takes no more; returns whether others have to have their turn before.
    pub(super) fn flush(&mut self, hub: &mut Hub, key: LinkKey) -> bool {
        let Some(link) = self.links.get_mut(key.index()).filter(|link| link.key == key) else { return false };
        let Some(line) = link.line else { return false };
        let now = hub.now;
        let mut written = 0;
        while written < TURN_BYTES {
            let mut events;
            let source: &mut dyn Source = match link.member {
                Some(key) => {
                    events = Events { shard: &mut self.shard, key, now };
                    &mut events
                }
                None => &mut NoEvents,
            };
            match write(hub, line, &mut link.session, source, &mut self.scratch) {
                ControlFlow::Continue(bytes) => written += bytes,
                ControlFlow::Break(()) => return false,
            }
        }
        true
    }
}

fn write(
    hub: &mut Hub,
    line: usize,
    session: &mut Session,
    source: &mut dyn Source,
    scratch: &mut Scratch,
) -> ControlFlow<(), usize> {
    let backlog = !session.backlog().is_empty();
    if !backlog && !session.poll_transmit(hub.now, source, scratch) {
        return ControlFlow::Break(());
    }
    let result = hub.write(line, if backlog { session.backlog() } else { &scratch.wire });
    let sent = match result {
        Write::Took(bytes) => bytes,
        Write::Full => 0,
        Write::Broken => {
            session.handle_broken();
            return ControlFlow::Break(());
        }
    };
    if backlog {
        session.handle_backlog_sent(hub.now, sent)
    } else {
        session.handle_sent(hub.now, sent, scratch)
    }
    if let Write::Took(bytes) = result {
        return ControlFlow::Continue(bytes);
    }
    source.handle_blocked();
    ControlFlow::Break(())
}

/// A connection's events, in its shard's outbox.
struct Events<'a> {
    shard: &'a mut Shard,
    key: ConnectionKey,
    now: Now,
}

impl Source for Events<'_> {
    fn take(&mut self, budget: usize, stop: bool, out: &mut Vec<u8>) {
        self.shard.take(self.key, budget, stop, out);
    }

    fn at_boundary(&self) -> bool {
        self.shard.at_boundary(self.key)
    }

    fn is_drained(&self) -> bool {
        self.shard.is_drained(self.key)
    }

    fn handle_written(&mut self) {
        self.shard.handle_written(self.now, self.key);
    }

    fn handle_blocked(&mut self) {
        self.shard.handle_blocked(self.now, self.key);
    }
}
