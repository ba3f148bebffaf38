//! Taking values from the lanes: changes and commands of store and server, answers, requests of other cores.

use super::{
    core::Engine,
    io::{Incoming, Io, Lane, Request},
    schedule::Visit,
};
use crate::{api::Answer, model::Now};

impl<I: Io> Engine<I> {
    /// Takes one value from a lane and handles it.
    pub(super) fn take(&mut self, io: &mut I, now: Now, lane: Lane) -> Visit {
        match io.take(lane) {
            None => return Visit::Idle,
            Some(Incoming::Request(Request::Command(origin, command))) => {
                debug_assert_ne!(origin.shard, self.id, "a core runs its own commands directly");
                self.shard.handle_command(now, origin, command);
                return Visit::Large;
            }
            Some(Incoming::Request(Request::Handoff(handoff))) => {
                self.handle_handoff(io, now, *handoff);
                return Visit::Large;
            }
            Some(Incoming::Request(Request::MakeRoom(asker))) => {
                self.handle_make_room(io, now, asker);
                return Visit::Large;
            }
            Some(Incoming::Request(Request::RoomMade(made))) => self.acceptor.handle_answered(made),
            Some(Incoming::Reply(key, reply)) => {
                self.handle_answer(io, now, key, Answer::Shard(reply));
                return Visit::Large;
            }
            Some(Incoming::Stored(key, outcome)) => {
                self.handle_answer(io, now, key, Answer::Store(outcome));
                return Visit::Large;
            }
            Some(Incoming::Change(change, receipt)) => {
                self.directory.apply(change);
                self.shard.handle_change(now, change);
                // The store's answer goes out when the last core has dropped its receipt, so that it never precedes the
                // change.
                drop(receipt);
            }
            Some(Incoming::Tls(config)) => self.tls = Some(config),
            Some(Incoming::Drain) => self.begin_drain(now),
        }
        Visit::Small
    }
}
