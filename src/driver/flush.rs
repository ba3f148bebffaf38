//! Writes what a connection has to say, straight to its socket; what the socket does not take waits in the session.

use super::{link::Link, socket, worker::Worker};
use crate::{
    model::Now,
    session::{NoEvents, Scratch, Session, Source},
    shard::{ConnectionKey, Shard},
};
use glommio::net::TcpStream;
use std::{cell::RefCell, ops::ControlFlow};

/// Bytes written for one connection before others have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// How a flush ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All is in the socket, or the socket takes no more.
    Done,
    /// There is more, and the socket may take it.
    More,
}

impl Worker {
    /// Writes until nothing is left, the socket takes no more, or others have to have their turn.
    pub(super) fn flush(&self, link: &Link) -> Flushed {
        let now = self.now();
        let stream = link.stream.borrow();
        let Some(stream) = stream.as_ref() else { return Flushed::Done };
        let mut session = link.session.borrow_mut();
        let mut scratch = self.scratch.borrow_mut();
        let mut written = 0;
        while written < TURN_BYTES {
            let wrote = match link.member.get() {
                Some(key) => {
                    write(now, stream, &mut session, &mut Events { shard: &self.shard, key, now }, &mut scratch)
                }
                None => write(now, stream, &mut session, &mut NoEvents, &mut scratch),
            };
            match wrote {
                ControlFlow::Continue(bytes) => written += bytes,
                ControlFlow::Break(()) => return Flushed::Done,
            }
        }
        Flushed::More
    }
}

/// One write; breaks where there is nothing to write or the socket takes nothing.
fn write(
    now: Now,
    stream: &TcpStream,
    session: &mut Session,
    source: &mut dyn Source,
    scratch: &mut Scratch,
) -> ControlFlow<(), usize> {
    if !session.backlog().is_empty() {
        return match socket::send(stream, session.backlog()) {
            Ok(sent) => {
                session.handle_backlog_sent(now, sent.unwrap_or(0));
                wrote(sent, source)
            }
            Err(_) => broken(session),
        };
    }
    if !session.poll_transmit(now, source, scratch) {
        return ControlFlow::Break(());
    }
    match socket::send(stream, &scratch.wire) {
        Ok(sent) => {
            session.handle_sent(now, sent.unwrap_or(0), scratch);
            wrote(sent, source)
        }
        Err(_) => broken(session),
    }
}

fn wrote(sent: Option<usize>, source: &mut dyn Source) -> ControlFlow<(), usize> {
    let Some(sent) = sent else {
        source.handle_blocked();
        return ControlFlow::Break(());
    };
    ControlFlow::Continue(sent)
}

fn broken(session: &mut Session) -> ControlFlow<(), usize> {
    session.handle_broken();
    ControlFlow::Break(())
}

/// A connection's events, in its shard's outbox.
struct Events<'a> {
    shard: &'a RefCell<Shard>,
    key: ConnectionKey,
    now: Now,
}

impl Source for Events<'_> {
    fn take(&mut self, budget: usize, stop: bool, out: &mut Vec<u8>) {
        self.shard.borrow_mut().take(self.key, budget, stop, out);
    }

    fn at_boundary(&self) -> bool {
        self.shard.borrow().at_boundary(self.key)
    }

    fn is_drained(&self) -> bool {
        self.shard.borrow().is_drained(self.key)
    }

    fn handle_written(&mut self) {
        self.shard.borrow_mut().handle_written(self.now, self.key);
    }

    fn handle_blocked(&mut self) {
        self.shard.borrow_mut().handle_blocked(self.now, self.key);
    }
}
