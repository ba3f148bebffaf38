//! How a connection is accepted, admitted, handed to the core that owns its gateway, joined to the shard, and removed.
//!
//! Admission checks in this order: the hub's phase, the rate limit of the address, the key, a free slot. The rate limit
//! comes before the key, so that guessing keys is limited as well.

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
    api::{Answer, Answers, Ask, Phase},
    limits,
    model::{CloseReason, ConnectionId, KeyHash, Now, Refused},
    session::{Admitted, Presented, Session},
    shard::{Begin, Command, Connection, ConnectionKey, Join, Reply, counters},
    wire::tls::Security,
};
use smallvec::smallvec;
use std::sync::Arc;

impl<I: Io> Engine<I> {
    /// Accepts the next connection from the kernel.
    pub(super) fn accept(&mut self, io: &mut I, now: Now) -> Visit {
        // If handshakes arrive faster than they are served, all of them would become late. Beyond this many,
        // connections wait in the kernel's backlog, without TLS state.
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
                    // The gateway is known only after TLS and HTTP, so the connection is accepted here whatever core
                    // owns it. Until then it counts against the bound for connections that are not gateways'.
                    Ok(security) if self.transients() < transients_max || self.evict_for_accept(io, now) => {
                        let session = Session::new(now, Arc::clone(&self.hub.session), security, peer);
                        self.insert(io, now, Link::new(session, socket, side));
                    }
                    Ok(_) => {
                        self.shard.count_failed(counters::NO_ROOM);
                        io.close(socket, Ending::Orderly);
                    }
                    Err(error) => {
                        self.shard.count_failed(counters::TLS);
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
            // The connection is still in the backlog: the next visit accepts it, or the first one after another core
            // has answered.
            Accepted::Exhausted(_) if self.find_descriptor(io, now) => Visit::Large,
            Accepted::Exhausted(error) | Accepted::Failed(error) => {
                if self.acceptor.back_off(now.instant, self.next_eviction()) {
                    io.notice(now, Notice::CannotAccept(&error));
                }
                Visit::Small
            }
        }
    }

    /// Counts a connection attempt at the shard that owns the peer's address, which may be on another core.
    pub(super) fn admit(&mut self, io: &mut I, now: Now, key: LinkKey, presented: Presented) {
        if self.hub.phase() != Phase::Ready {
            return self.refuse(io, now, key, Refused::Draining);
        }
        let Some(link) = self.links.get(key).filter(|link| !link.session.is_over()) else { return };
        let address = link.session.peer().ip();
        // The kernel spreads the connections of one address over all cores. One shard counts them all: a limit per core
        // would admit the limit times the number of cores.
        let owner = self.hub.placement.of_address(address);
        if owner == self.id {
            let attempt = self.shard.handle_attempt(now, address);
            return self.handle_attempt(io, now, key, presented, attempt);
        }
        self.ask(io, now, key, smallvec![Ask::Shard(owner, Command::Attempt(address))], Continuation::Admit(presented));
    }

    /// Handles the answer of the core that owns the address.
    pub(super) fn handle_attempt_answer(
        &mut self,
        io: &mut I,
        now: Now,
        key: LinkKey,
        presented: Presented,
        answers: Answers,
    ) {
        match answers.into_iter().next() {
            Some(Answer::Shard(Reply::Attempt(attempt))) => self.handle_attempt(io, now, key, presented, attempt),
            _ => self.refuse(io, now, key, Refused::Unavailable),
        }
    }

    /// Handles the rate limit's verdict, then checks the key and takes a slot.
    fn handle_attempt(&mut self, io: &mut I, now: Now, key: LinkKey, presented: Presented, attempt: Result<(), u32>) {
        if let Err(retry_after) = attempt {
            return self.refuse(io, now, key, Refused::RateLimited { retry_after });
        }
        let Presented { key: presented, resume, written_only } = presented;
        let Some((presented, owned)) = presented.and_then(|it| Some((it, self.directory.owner_of(&it)?))) else {
            return self.refuse_key(io, now, key, presented);
        };
        let Some(slot) = self.hub.slots.acquire() else {
            return self.refuse(io, now, key, Refused::CapacityExceeded);
        };
        let credentials = Credentials { gateway: owned.0, token: owned.1, key: presented, resume, written_only };
        if self.hub.placement.of_gateway(credentials.gateway) == self.id {
            return self.join(io, now, key, credentials, slot);
        }
        self.hand_off(io, now, key, credentials, slot);
    }

    /// Sends the connection, its session and its slot to the core that owns the gateway.
    fn hand_off(&mut self, io: &mut I, now: Now, key: LinkKey, credentials: Credentials, slot: Slot) {
        let owner = self.hub.placement.of_gateway(credentials.gateway);
        debug_assert_ne!(owner, self.id, "a connection is handed to another core");
        let Some(Link { session, socket, side, member, .. }) = self.links.remove(key) else { return };
        debug_assert!(member.is_none(), "a connection moves before it joins");
        // This also removes the socket from this core's epoll set, which would go on reporting it here.
        let socket = io.detach(socket);
        let handoff = Box::new(Handoff { socket, session, lost: self.lost.total(), side, credentials, slot });
        // If the owner's lane is full, the connection stays here and is answered 503.
        if let Err(Request::Handoff(handoff)) = io.request(owner, Request::Handoff(handoff)) {
            let Handoff { socket, session, side, .. } = *handoff;
            let socket = io.adopt(socket);
            if let Some(key) = self.insert(io, now, Link::new(session, socket, side)) {
                self.refuse(io, now, key, Refused::Unavailable);
                self.wake_writer(key);
            }
        }
    }

    /// Takes over a connection from another core.
    pub(super) fn handle_handoff(&mut self, io: &mut I, now: Now, handoff: Handoff<I::Detached>) {
        let Handoff { socket, mut session, lost, side, credentials, slot } = handoff;
        // Each core subtracts its own lost time, so times in the session are rebased to this core's clock.
        session.handle_moved(now.instant - lost, now.attended);
        let socket = io.adopt(socket);
        let Some(key) = self.insert(io, now, Link::new(session, socket, side)) else { return };
        self.join(io, now, key, credentials, slot);
        self.follow_up(io, now, key);
    }

    /// Joins the connection to the shard, on the core that owns the gateway. [`Engine::handle_begin`] follows.
    fn join(&mut self, io: &mut I, now: Now, key: LinkKey, credentials: Credentials, slot: Slot) {
        if self.hub.phase() != Phase::Ready {
            return self.refuse(io, now, key, Refused::Draining);
        }
        // The key may have been revoked while the connection moved between cores.
        if self.directory.owner_of(&credentials.key) != Some((credentials.gateway, credentials.token)) {
            return self.refuse_key(io, now, key, Some(credentials.key));
        }
        let Some(link) = self.links.get_mut(key) else { return };
        if link.session.end_if_peer_ended(now) {
            return;
        }
        let (gateway, address) = (credentials.gateway, link.session.peer());
        debug_assert_eq!(self.hub.placement.of_gateway(gateway), self.id, "a gateway has one core");
        debug_assert!(link.member.is_none(), "a connection joins once");
        let connection = ConnectionId::from_random(io.random());
        let Credentials { token, resume, written_only, .. } = credentials;
        let join = Join { gateway, id: connection, token, address, resume, written_only };
        let member = match self.shard.handle_join(now, join) {
            Err(refused) => return self.refuse(io, now, key, refused),
            Ok(member) => member,
        };
        link.slot = Some(slot);
        self.links.set_member(key, member);
    }

    /// The shard knows where the connection begins: its 101 and its ack, and then the events behind that position.
    pub(super) fn handle_begin(&mut self, io: &mut I, now: Now, member: ConnectionKey, begin: Begin) {
        let Some(key) = self.links.of_member(member) else { return };
        let Some(joined) = self.shard.connection(member) else { return };
        let (gateway, connection, address) = (joined.gateway, joined.id, joined.address);
        let proves = joined.is_proved();
        self.shard.handle_welcomed(member);
        let Begin { position, resumed } = begin;
        let admitted = Admitted { gateway, connection, position, resumed, proves, place: key.index };
        self.with_session(io, now, key, |session, scratch| session.handle_admitted(now, admitted, scratch));
        io.notice(now, Notice::Connected { gateway, connection, address });
        self.follow_up(io, now, key);
    }

    /// The log cannot say whether the connection can resume.
    pub(super) fn handle_unresumable(&mut self, io: &mut I, now: Now, member: ConnectionKey) {
        let Some(key) = self.links.of_member(member) else { return };
        self.withdraw(now, key);
        self.refuse(io, now, key, Refused::Unavailable);
        self.follow_up(io, now, key);
    }

    /// Refuses a connection that is to be closed and waits for its begin: it has no WebSocket yet that could be closed.
    /// Returns whether it was one.
    pub(super) fn refuse_joining(&mut self, io: &mut I, now: Now, key: LinkKey, reason: CloseReason) -> bool {
        let member = self.links.get(key).and_then(|link| link.member);
        if member.and_then(|member| self.shard.connection(member)).is_none_or(Connection::is_welcomed) {
            return false;
        }
        self.withdraw(now, key);
        match reason {
            CloseReason::Shutdown => self.refuse(io, now, key, Refused::Draining),
            reason if reason.retry() => self.refuse(io, now, key, Refused::Unavailable),
            _ => self.refuse_key(io, now, key, None),
        }
        true
    }

    /// Takes a connection out of the shard that was not admitted, and frees its slot.
    fn withdraw(&mut self, now: Now, key: LinkKey) {
        if let Some(member) = self.links.take_member(key) {
            self.shard.handle_withdrawal(now, member);
        }
        if let Some(link) = self.links.get_mut(key) {
            link.slot = None;
        }
    }

    fn refuse(&mut self, io: &mut I, now: Now, key: LinkKey, refused: Refused) {
        let Some(link) = self.links.get_mut(key) else { return };
        self.shard.count_refused(refused);
        io.notice(now, Notice::Refused { address: link.session.peer(), refused });
        link.session.handle_refusal(now, refused);
    }

    fn refuse_key(&mut self, io: &mut I, now: Now, key: LinkKey, presented: Option<KeyHash>) {
        let Some(link) = self.links.get_mut(key) else { return };
        self.shard.count_refused(Refused::Unauthorized);
        io.notice(now, Notice::Unauthorized { address: link.session.peer(), key: presented });
        link.session.handle_refusal(now, Refused::Unauthorized);
    }

    /// Removes the connection from the shard, which counts its undelivered events as failed, and frees its slot.
    pub(super) fn leave(&mut self, io: &mut I, now: Now, key: LinkKey, reason: CloseReason) {
        let Some(member) = self.links.get(key).and_then(|link| link.member) else { return };
        if !self.shard.connection(member).is_some_and(|connection| connection.is_welcomed()) {
            return self.withdraw(now, key);
        }
        self.links.take_member(key);
        let acknowledged = self.acknowledged_bytes(io, key, member);
        let left = self.shard.handle_leave(now, member, reason, acknowledged);
        if let Some(link) = self.links.get_mut(key) {
            link.slot = None;
        }
        if let Some(connection) = left {
            let lasted = now.instant.since(connection.connected);
            let (gateway, address) = (connection.gateway, connection.address);
            io.notice(now, Notice::Disconnected { gateway, connection: connection.id, address, reason, lasted });
        }
    }

    /// Bytes that the peer's kernel has acknowledged, where it matters whether it has the events in flight.
    fn acknowledged_bytes(&self, io: &mut I, key: LinkKey, member: ConnectionKey) -> u64 {
        let link = self.links.get(key).filter(|_| self.shard.first_in_flight(member).is_some());
        link.map_or(0, |link| io.peer(&link.socket).acknowledged_bytes)
    }

    /// Number of connections in their handshake or speaking HTTP, that is all but gateways' connections.
    pub(super) fn transients(&self) -> usize {
        self.links.len().saturating_sub(self.shard.len())
    }
}
