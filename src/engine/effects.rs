//! Carries out what sessions and the shard ask for.

use super::{
    core::Engine,
    guard::guarded,
    io::Io,
    link::LinkKey,
    notice::Notice,
    schedule::{CALLS_PER_VISIT, Visit},
};
use crate::{
    api::Answer,
    model::{CloseReason, Message, Now},
    session::{Effect, End},
    shard::{self, Failed, Origin, Reply},
    wire::message,
};

impl<I: Io> Engine<I> {
    /// Carries out what the session asks for, up to a bound of calls; what is left waits for the link's next visit.
    pub(super) fn carry_out(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let mut calls = 0;
        while calls < CALLS_PER_VISIT
            && let Some(effect) = self.links.get_mut(key).and_then(|link| link.session.poll_effect())
        {
            calls += usize::from(matches!(effect, Effect::Call));
            self.carry_out_one(io, now, key, effect);
        }
    }

    fn carry_out_one(&mut self, io: &mut I, now: Now, key: LinkKey, effect: Effect) {
        let Some(link) = self.links.get_mut(key) else { return };
        match effect {
            Effect::Route => self.route(io, now, key),
            Effect::Call => self.call(io, now, key),
            Effect::Admit(presented) => self.admit(io, now, key, presented),
            Effect::Life(round_trip) => {
                if let Some(member) = link.member {
                    self.shard.handle_life(now, member, round_trip);
                }
            }
            Effect::Message(text) => self.handle_message(io, now, key, &text),
            Effect::Ignored => io.notice(now, Notice::Ignored { address: link.session.peer() }),
            Effect::Closing(reason) => {
                if let Some(member) = link.member {
                    self.shard.handle_closing(now, member, reason);
                }
            }
            Effect::Probe => {
                let reachable = io.peer(&link.socket).all_acknowledged;
                link.session.handle_peer_state(now, reachable);
                if let Some(member) = link.member.filter(|_| reachable) {
                    self.shard.handle_stale(member);
                }
            }
            Effect::Stalled => {
                let acknowledged = io.peer(&link.socket).acknowledged_bytes;
                let moved = std::mem::replace(&mut link.acknowledged_bytes, acknowledged) < acknowledged;
                link.session.handle_stall(now, moved);
            }
            Effect::ShutdownWrite => io.shutdown_write(&mut link.socket),
            Effect::Over(End::Closed(reason)) => self.leave(io, now, key, reason),
            Effect::Over(End::Tls(error)) => {
                io.notice(now, Notice::TlsFailed { address: link.session.peer(), error: &error });
            }
            Effect::Over(_) => {}
        }
    }

    fn handle_message(&mut self, io: &mut I, now: Now, key: LinkKey, text: &[u8]) {
        let Some(link) = self.links.get(key) else { return };
        let address = link.session.peer();
        let Some(member) = link.member.and_then(|member| self.shard.connection(member)) else { return };
        let (gateway, connection) = (member.gateway, member.id);
        match guarded(|| message::parse(text)) {
            Some(Message::DeploymentAck(ack)) => {
                io.notice(now, Notice::Acknowledged { gateway, connection, ack: &ack });
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

    /// Carries out one thing that the shard asks for.
    pub(super) fn handle_shard_effect(&mut self, io: &mut I, now: Now) -> Visit {
        match self.shard.poll_effect() {
            None => return Visit::Idle,
            Some(shard::Effect::Reply(origin, reply)) => self.handle_reply(io, now, origin, reply),
            Some(shard::Effect::Close(member, reason)) => {
                let Some(key) = self.links.of_member(member) else { return Visit::Small };
                self.with_session(io, now, key, |session, _| session.close(now, reason));
                self.carry_out(io, now, key);
                self.wake_writer(key);
                self.settle(io, now, key);
            }
        }
        Visit::Small
    }

    /// Brings the shard's reply to whoever asked.
    fn handle_reply(&mut self, io: &mut I, now: Now, origin: Origin, reply: Reply) {
        if origin.shard == self.id {
            self.handle_answer(io, now, origin.key, Answer::Shard(reply));
        } else if !io.reply(origin.shard, origin.key, reply) {
            io.notice(now, Notice::ReplyLost);
        }
    }

    /// Tells of one failed delivery.
    pub(super) fn tell_failure(&mut self, io: &mut I, now: Now) -> Visit {
        match self.shard.poll_failure() {
            None => return Visit::Idle,
            Some(Failed::One(failure)) => io.notice(now, Notice::DeliveryFailed(&failure)),
            Some(Failed::LeftOut(count)) => io.notice(now, Notice::FailuresLeftOut(count)),
        }
        Visit::Small
    }
}
