//! The verdict on a connection that asked to become a gateway's: refused with an answer, or let in.

use super::{Admitted, End, Session, Stage, refusal, streaming::Streaming, transmit::Scratch, waiting::Waiting};
use crate::model::{Now, Refused};
use std::collections::VecDeque;

impl Session {
    /// The gateway may not connect.
    pub fn handle_refusal(&mut self, now: Now, refused: Refused) {
        if let Stage::Admission(_) = self.stage {
            refusal::response(refused).encode(now.wall, false, false, self.transmit.plain());
            self.linger(now, End::Refused(refused.label()));
        }
    }

    /// Ends the connection if the peer has ended its stream behind its request, although its key is good: events would reach
    /// nobody. The answers to its requests before still go out. Returns whether it did.
    pub fn end_if_peer_ended(&mut self, now: Now) -> bool {
        let ended = matches!(&self.stage, Stage::Admission(waiting) if waiting.ended);
        if ended {
            self.linger(now, End::Gone);
        }
        ended
    }

    /// The gateway is let in: 101, then the ack, which is the first frame of every connection.
    pub fn handle_admitted(&mut self, now: Now, admitted: Admitted, scratch: &mut Scratch) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Admission(waiting) = stage else {
            self.stage = stage;
            return;
        };
        let Waiting { upgrade, early, ended } = *waiting;
        debug_assert!(!ended, "a peer that has ended its stream is not let in");
        upgrade.response_101(self.transmit.plain());
        let streaming = Streaming::open(now, &self.settings, admitted, self.transmit.plain());
        self.stage = Stage::Streaming(Box::new(streaming));
        self.effects = VecDeque::new();
        if !early.is_empty() {
            scratch.plain.clear();
            scratch.plain.extend_from_slice(&early);
            self.handle_plain(now, scratch);
        }
    }
}
