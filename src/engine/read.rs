//! Reading a link: one receive into its session, then the session's effects.

use super::{
    core::Engine,
    guard::guarded,
    io::{Io, Received},
    link::LinkKey,
    notice::Notice,
    schedule::{CALLS_PER_VISIT_MAX, Visit},
};
use crate::{
    limits,
    model::{Message, Now, Position},
    session::{Effect, End},
    shard::counters,
    wire::message,
};
use zeroize::Zeroize;

impl<I: Io> Engine<I> {
    /// Reads once and handles the session's effects. A link that has more to read goes to the tail of the queue.
    pub(super) fn read(&mut self, io: &mut I, now: Now, key: LinkKey) -> Visit {
        let Some(link) = self.links.get_mut(key) else { return Visit::Small };
        debug_assert!(link.reading, "a visited link was queued");
        link.reading = false;
        // The end of the peer's stream ends the session. Write what it owes first: a peer that sends a close frame and
        // its FIN at once is still owed the answering close frame (RFC 6455 section 5.5.1), and earlier requests
        // their responses.
        if link.ended {
            self.write_session_output(io, now, key);
        }
        let Some(link) = self.links.get_mut(key) else { return Visit::Small };
        // Effects of earlier bytes come first: they are bounded per visit, and reading on would let them pile up.
        if !link.session.has_effect() {
            if link.readable && link.session.wants_read() {
                self.receive(io, now, key);
            } else if link.broken {
                link.session.handle_broken();
            }
        }
        self.follow_up(io, now, key);
        if let Some(link) = self.links.get_mut(key) {
            link.session.put_aside(&mut self.scratch);
        }
        Visit::Large
    }

    fn receive(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        // One receive with a large buffer, not one after another until EAGAIN: that saves a system call a visit.
        let room = if link.session.is_streaming() { limits::INBOUND_READ_BYTES } else { limits::READ_BATCH_BYTES };
        let received = io.receive(&mut link.socket, &mut self.received[..room]);
        match received {
            Received::Bytes(bytes) => {
                debug_assert!((1..=room).contains(&bytes), "a read returns 1 to `room` bytes");
                // A short read has emptied the socket. A FIN that was reported is not reported again (edge-triggered),
                // so a link that has ended stays readable until a read returns the end.
                link.readable = bytes == room || link.ended;
                #[cfg(test)]
                super::faults::inject_core(link.session.peer());
                let mut buffer = std::mem::take(&mut self.received);
                let had_secret = self.with_session(io, now, key, |session, scratch| {
                    #[cfg(test)]
                    super::faults::inject(session.peer());
                    session.handle_received(now, &mut buffer[..bytes], scratch);
                    session.had_secret()
                });
                // Without TLS the gateway's key may have been in this buffer, which all links share. After a panic the session
                // cannot tell.
                if had_secret.unwrap_or(true) {
                    buffer[..bytes].zeroize();
                }
                self.received = buffer;
            }
            Received::Blocked => link.readable = false,
            Received::End => {
                link.readable = false;
                link.session.handle_end(now);
            }
            Received::Broken => {
                link.readable = false;
                link.session.handle_broken();
            }
        }
    }

    /// Handles the session's effects, up to [`CALLS_PER_VISIT_MAX`] calls; the others wait for the link's next visit.
    pub(super) fn handle_effects(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let mut calls = 0;
        while calls < CALLS_PER_VISIT_MAX
            && let Some(effect) = self.links.get_mut(key).and_then(|link| link.session.poll_effect())
        {
            calls += usize::from(matches!(effect, Effect::Call));
            self.handle_effect(io, now, key, effect);
        }
    }

    fn handle_effect(&mut self, io: &mut I, now: Now, key: LinkKey, effect: Effect) {
        let Some(link) = self.links.get_mut(key) else { return };
        match effect {
            Effect::Route => self.route(io, now, key),
            Effect::Call => self.call(io, now, key),
            Effect::Admit(presented) => self.admit(io, now, key, *presented),
            Effect::Life(round_trip) => {
                if let Some(member) = link.member {
                    self.shard.handle_life(now, member, round_trip);
                }
            }
            Effect::Pong(position) => self.handle_pong(now, key, position),
            Effect::Message(text) => self.handle_message(io, now, key, &text),
            Effect::Ignored => io.notice(now, Notice::Ignored { address: link.session.peer() }),
            Effect::Closing(reason) => {
                if let Some(member) = link.member {
                    self.shard.handle_closing(now, member, reason);
                }
            }
            Effect::Probe => {
                // A gateway that is busy answers no ping, but its kernel still acknowledges bytes.
                let reachable = io.peer(&link.socket).alive;
                link.session.handle_peer_state(now, reachable);
                // Reachable but silent: the connection stays, and the statistics show it as stale.
                let is_processing = link.session.is_processing();
                // One that is at work on an event is not stale: the statistics show what it is at work on.
                if let Some(member) = link.member.filter(|_| reachable && !is_processing) {
                    self.shard.handle_stale(member);
                }
            }
            Effect::Stalled => {
                // The kernel reports a full socket as writable only once about half of its unsent bytes are gone. A
                // slow but reading peer may take longer than the deadline for that, so ask whether it acknowledged
                // anything.
                let peer = io.peer(&link.socket);
                let moved =
                    std::mem::replace(&mut link.acknowledged_bytes, peer.acknowledged_bytes) < peer.acknowledged_bytes;
                link.session.handle_stall(now, moved, peer.alive);
            }
            // The socket stays open after our FIN: closing it with unread bytes would send a reset, which can destroy our
            // last bytes on their way (RFC 9112 section 9.6).
            Effect::ShutdownWrite => io.shutdown_write(&mut link.socket),
            Effect::Over(end) => self.handle_over(io, now, key, *end),
        }
    }

    /// The session has ended.
    fn handle_over(&mut self, io: &mut I, now: Now, key: LinkKey, end: End) {
        let Some(link) = self.links.get(key) else { return };
        match end {
            End::Closed(reason) => self.leave(io, now, key, reason),
            End::Tls(error) => {
                self.shard.count_failed(counters::TLS);
                io.notice(now, Notice::TlsFailed { address: link.session.peer(), error: &error });
            }
            End::Origin(origin) => {
                self.shard.count_failed(counters::ORIGIN);
                let (address, tokens) = (link.session.peer(), self.live_tokens());
                io.notice(now, Notice::OriginRefused { address, origin: &origin, tokens });
            }
            End::BadRequest(label) => self.shard.count_failed(label),
            End::TimedOut => self.shard.count_failed(counters::TIMED_OUT),
            End::Stalled => self.shard.count_failed(counters::STALLED),
            // A refusal was counted when it was made.
            End::Gone | End::Answered | End::Refused(_) => {}
        }
    }

    /// A pong came that names a position, or something that no ping named.
    fn handle_pong(&mut self, now: Now, key: LinkKey, position: Option<Position>) {
        let Some(link) = self.links.get_mut(key) else { return };
        let Some(member) = link.member else { return };
        let proof = self.shard.handle_pong(now, member, position);
        // One that names no position was counted with the other control frames.
        let outcome = position.map(|position| link.session.handle_proof(now, position.offset, proof));
        if outcome.is_none_or(|outcome| !outcome.expected) {
            self.shard.count_unexpected_pong();
        }
        if let Some(round_trip) = outcome.and_then(|outcome| outcome.round_trip) {
            self.shard.handle_life(now, member, Some(round_trip));
        }
        link.session.set_first(now, self.shard.first_in_flight(member));
    }

    fn handle_message(&mut self, io: &mut I, now: Now, key: LinkKey, text: &[u8]) {
        let Some(link) = self.links.get(key) else { return };
        let address = link.session.peer();
        let Some(member) = link.member.and_then(|member| self.shard.connection(member)) else { return };
        let (gateway, connection) = (member.gateway, member.id);
        match guarded(|| message::parse(text)) {
            Some(Message::DeploymentAck(ack)) => {
                io.notice(now, Notice::Acknowledged { gateway, connection, ack: &ack, tokens: self.live_tokens() });
                self.shard.handle_ack(ack.status.as_deref() == Some("success"));
            }
            Some(Message::Unknown) => io.notice(now, Notice::UnknownMessage { gateway, connection }),
            Some(Message::Malformed) => {
                self.shard.handle_malformed();
                io.notice(now, Notice::Malformed { gateway, connection, address });
            }
            None => self.handle_panic(io, now, key),
        }
    }
}
