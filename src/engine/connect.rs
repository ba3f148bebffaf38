//! How a connection comes to its gateway, and how it leaves: accepted; then, in the order of the contract, address, key and
//! slot; then joined on the core that owns the gateway.

use super::{
    core::Engine,
    io::{Accepted, Credentials, Ending, Handoff, Io, Request},
    link::{Link, LinkKey},
    notice::Notice,
    pending_requests::Continuation,
    schedule::{HANDSHAKES_MAX, Visit},
    slots::Slot,
};
use crate::{
    api::{Answer, Ask, Phase},
    limits,
    model::{CloseReason, ConnectionId, KeyHash, Now, Refused},
    session::{Admitted, Session},
    shard::{Command, Join, Reply},
    wire::tls::Security,
};
use std::sync::Arc;

impl<I: Io> Engine<I> {
    /// Takes the next connection from the kernel.
    pub(super) fn accept(&mut self, io: &mut I, now: Now) -> Visit {
        // A queue of handshakes that only grows makes all of them late: the rest wait in the kernel's backlog.
        if !self.acceptor.is_ready() || self.handshakes_waiting() >= HANDSHAKES_MAX {
            return Visit::Idle;
        }
        match io.accept() {
            Accepted::Socket { socket, peer, side } => {
                self.acceptor.handle_accepted();
                let transients_max = limits::TRANSIENT_SOCKETS_MAX / usize::from(self.hub.placement.shards());
                let security = match &self.tls {
                    None => Ok(Security::Plain),
                    Some(config) => Security::tls(Arc::clone(config)),
                };
                match security {
                    Ok(security) if self.transients() < transients_max || self.make_room(io, now) => {
                        let session = Session::new(now, Arc::clone(&self.hub.session), security, peer);
                        self.insert(io, Link::new(session, socket, side));
                    }
                    Ok(_) => io.close(socket, Ending::Orderly),
                    Err(error) => {
                        io.notice(now, Notice::TlsFailed { address: peer, error: &error.0 });
                        io.close(socket, Ending::Orderly);
                    }
                }
                Visit::Large
            }
            Accepted::Blocked => {
                self.acceptor.handle_blocked();
                Visit::Idle
            }
            // The next visit asks for the connection again, or the one after another core has answered.
            Accepted::Exhausted(_) if self.find_descriptor(io, now) => Visit::Large,
            Accepted::Exhausted(error) | Accepted::Failed(error) => {
                if self.acceptor.back_off(now.instant) {
                    io.notice(now, Notice::CannotAccept(&error));
                }
                Visit::Small
            }
        }
    }

    /// Asks the shard that owns the peer's address whether it may try; that may be this one.
    pub(super) fn admit(&mut self, io: &mut I, now: Now, key: LinkKey, presented: Option<KeyHash>) {
        if self.hub.phase() != Phase::Ready {
            return self.refuse(io, now, key, Refused::Draining);
        }
        let Some(link) = self.links.get(key).filter(|link| !link.session.is_over()) else { return };
        let address = link.session.peer().ip();
        let owner = self.hub.placement.of_address(address);
        if owner == self.id {
            let attempt = self.shard.handle_attempt(now, address);
            return self.handle_attempt(io, now, key, presented, attempt);
        }
        self.ask(io, now, key, vec![Ask::Shard(owner, Command::Attempt(address))], Continuation::Admit(presented));
    }

    /// The core that owns the address has answered.
    pub(super) fn handle_attempt_answer(
        &mut self,
        io: &mut I,
        now: Now,
        key: LinkKey,
        presented: Option<KeyHash>,
        answers: Vec<Answer>,
    ) {
        match answers.into_iter().next() {
            Some(Answer::Shard(Reply::Attempt(attempt))) => self.handle_attempt(io, now, key, presented, attempt),
            _ => self.refuse(io, now, key, Refused::Unavailable),
        }
    }

    /// The address may try, or may not: then the key, and a slot.
    fn handle_attempt(
        &mut self,
        io: &mut I,
        now: Now,
        key: LinkKey,
        presented: Option<KeyHash>,
        attempt: Result<(), u32>,
    ) {
        if let Err(retry_after) = attempt {
            return self.refuse(io, now, key, Refused::RateLimited { retry_after });
        }
        let Some((presented, owned)) = presented.and_then(|it| Some((it, self.directory.owner_of(&it)?))) else {
            return self.refuse_key(io, now, key, presented);
        };
        let Some(slot) = self.hub.slots.acquire() else {
            return self.refuse(io, now, key, Refused::CapacityExceeded);
        };
        let credentials = Credentials { gateway: owned.0, token: owned.1, key: presented };
        if self.hub.placement.of_gateway(credentials.gateway) == self.id {
            return self.join(io, now, key, credentials, slot);
        }
        self.hand_off(io, now, key, credentials, slot);
    }

    /// Sends the connection to the core that owns its gateway.
    fn hand_off(&mut self, io: &mut I, now: Now, key: LinkKey, credentials: Credentials, slot: Slot) {
        let owner = self.hub.placement.of_gateway(credentials.gateway);
        debug_assert_ne!(owner, self.id, "a connection is handed to another core");
        let Some(Link { session, socket, side, member, .. }) = self.links.remove(key) else { return };
        debug_assert!(member.is_none(), "it moves before it joins");
        let socket = io.detach(socket);
        let handoff = Box::new(Handoff { socket, session, lost: self.lost.total(), side, credentials, slot });
        // The owner's lane is full: the connection stays here, and is told.
        if let Err(Request::Handoff(handoff)) = io.request(owner, Request::Handoff(handoff)) {
            let Handoff { socket, session, side, .. } = *handoff;
            let socket = io.adopt(socket);
            if let Some(key) = self.insert(io, Link::new(session, socket, side)) {
                self.refuse(io, now, key, Refused::Unavailable);
                self.wake_writer(key);
            }
        }
    }

    /// A connection arrives from another core.
    pub(super) fn handle_handoff(&mut self, io: &mut I, now: Now, handoff: Handoff<I::Detached>) {
        let Handoff { socket, mut session, lost, side, credentials, slot } = handoff;
        session.handle_moved(now.instant - lost, now.attended);
        let socket = io.adopt(socket);
        let Some(key) = self.insert(io, Link::new(session, socket, side)) else { return };
        self.join(io, now, key, credentials, slot);
        self.follow_up(io, now, key);
    }

    /// The connection is on its owner's core: 101, ack, events.
    fn join(&mut self, io: &mut I, now: Now, key: LinkKey, credentials: Credentials, slot: Slot) {
        if self.hub.phase() != Phase::Ready {
            return self.refuse(io, now, key, Refused::Draining);
        }
        if self.directory.owner_of(&credentials.key) != Some((credentials.gateway, credentials.token)) {
            return self.refuse_key(io, now, key, Some(credentials.key));
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let (gateway, address) = (credentials.gateway, link.session.peer());
        debug_assert_eq!(self.hub.placement.of_gateway(gateway), self.id, "a gateway lives on one core");
        debug_assert!(link.member.is_none(), "a connection joins once");
        let connection = ConnectionId::from_random(io.random());
        let join = Join { gateway, id: connection, token: credentials.token, address };
        let (member, position) = match self.shard.handle_join(now, join) {
            Err(refused) => return self.refuse(io, now, key, refused),
            Ok(joined) => joined,
        };
        link.slot = Some(slot);
        self.links.set_member(key, member);
        let admitted = Admitted { gateway, connection, position };
        self.with_session(io, now, key, |session, scratch| session.handle_admitted(now, admitted, scratch));
        io.notice(now, Notice::Connected { gateway, connection, address });
    }

    fn refuse(&mut self, io: &mut I, now: Now, key: LinkKey, refused: Refused) {
        let Some(link) = self.links.get_mut(key) else { return };
        io.notice(now, Notice::Refused { address: link.session.peer(), refused });
        link.session.handle_refusal(now, refused);
    }

    fn refuse_key(&mut self, io: &mut I, now: Now, key: LinkKey, presented: Option<KeyHash>) {
        let Some(link) = self.links.get_mut(key) else { return };
        io.notice(now, Notice::Unauthorized { address: link.session.peer(), key: presented });
        link.session.handle_refusal(now, Refused::Unauthorized);
    }

    /// Takes the connection out of the shard; what it did not get has failed.
    pub(super) fn leave(&mut self, io: &mut I, now: Now, key: LinkKey, reason: CloseReason) {
        let Some(member) = self.links.take_member(key) else { return };
        let left = self.shard.handle_leave(now, member, reason);
        if let Some(link) = self.links.get_mut(key) {
            link.slot = None;
        }
        if let Some(connection) = left {
            let lasted = now.instant.since(connection.connected);
            let (gateway, address) = (connection.gateway, connection.address);
            io.notice(now, Notice::Disconnected { gateway, connection: connection.id, address, reason, lasted });
        }
    }
}
