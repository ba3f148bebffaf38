//! A connection on its way to the core that owns its gateway: one `Send` value and one descriptor.
//!
//! It moves once, while it waits for its verdict: nothing is read then, and nothing waits to be written. The socket keeps
//! what the peer sends meanwhile, so no byte is lost.

use super::{admit::Entrant, link::Link, slots::Slot, socket, worker::Worker};
use crate::{model::Now, session::Session};
use std::{io, os::fd::OwnedFd, rc::Rc};

/// The connection between two cores.
pub(crate) struct Handoff {
    socket: OwnedFd,
    session: Session,
    entrant: Entrant,
    slot: Slot,
    accepted: Now,
}

impl Handoff {
    /// Takes the connection out of its link, which is over then.
    pub(super) fn pack(link: &Link, entrant: Entrant, slot: Slot) -> io::Result<Box<Self>> {
        let socket = match link.stream.borrow().as_ref() {
            Some(stream) => socket::duplicate(stream)?,
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        drop(link.stream.borrow_mut().take());
        let session = link.session.borrow_mut().depart();
        Ok(Box::new(Self { socket, session, entrant, slot, accepted: link.accepted }))
    }

    /// Puts the connection back where it came from: the owner has no room.
    pub(super) fn unpack_into(self: Box<Self>, link: &Link) {
        *link.stream.borrow_mut() = Some(socket::stream(self.socket));
        *link.session.borrow_mut() = self.session;
    }
}

impl Worker {
    /// A connection arrives from another core.
    pub(super) fn handle_handoff(self: &Rc<Self>, handoff: Handoff) {
        let Handoff { socket, session, entrant, slot, accepted } = handoff;
        let link = self.adopt(session, socket::stream(socket), accepted);
        self.join(&link, entrant, slot);
        self.enqueue(&link);
    }
}
