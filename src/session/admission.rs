//! The verdict on an upgrade: refused with a response, or admitted with the 101 and the ack.

use super::{
    Admitted, End, Session, Stage, pending_upgrade::PendingUpgrade, refusal, streaming::Streaming, transmit::Scratch,
};
use crate::model::{Now, Refused};
use zeroize::Zeroize;

impl Session {
    /// Answers [`super::Effect::Admit`]: refuses the upgrade with the response for this reason.
    pub fn handle_refusal(&mut self, now: Now, refused: Refused) {
        if let Stage::Admission(_) = self.stage {
            refusal::response(refused).encode(now.wall, false, false, self.transmit.plain());
            self.linger(now, End::Refused(refused.label()));
        }
    }

    /// Ends the connection if the peer has ended its stream after its request, even with a valid key: it could not
    /// answer a ping or a close. Responses to its earlier requests still go out. Returns whether it ended the
    /// connection.
    pub fn end_if_peer_ended(&mut self, now: Now) -> bool {
        let ended = matches!(&self.stage, Stage::Admission(pending) if pending.ended);
        if ended {
            self.linger(now, End::Gone);
        }
        ended
    }

    /// Answers [`super::Effect::Admit`]: admits the gateway. Its ack is the first frame of every connection.
    pub fn handle_admitted(&mut self, now: Now, admitted: Admitted, scratch: &mut Scratch) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Admission(pending) = stage else {
            self.stage = stage;
            return;
        };
        let PendingUpgrade { upgrade, early_bytes, ended } = *pending;
        debug_assert!(!ended, "a peer that has ended its stream is not admitted");
        // 101 and ack go into one buffer in one step, so no event and no pong can come between them.
        upgrade.response_101(self.transmit.plain());
        let streaming = Streaming::open(now, &self.settings, admitted, self.transmit.plain());
        self.stage = Stage::Streaming(Box::new(streaming));
        // The frames that came with the request, after the ack so that a pong cannot precede it.
        if !early_bytes.is_empty() {
            scratch.plain.clear();
            scratch.plain.extend_from_slice(&early_bytes);
            self.handle_plain(now, early_bytes.len(), scratch);
            scratch.plain[..].zeroize();
        }
    }
}
