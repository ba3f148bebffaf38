//! The exchange with the log of events: the shard's requests go out, and its replies come in.

use super::{
    core::Engine,
    io::Io,
    schedule::{LOG_REPLY_BYTES, Visit},
};
use crate::model::{Now, log::Busy};

impl<I: Io> Engine<I> {
    /// Asks the log what the shard has to ask, and gives the shard its replies.
    pub(super) fn exchange_log(&mut self, io: &mut I, now: Now) -> Visit {
        let mut replies = std::mem::take(&mut self.log_replies);
        io.take_log_replies(LOG_REPLY_BYTES, &mut replies);
        let mut asked = false;
        while let Some(request) = self.shard.poll_log() {
            asked = true;
            if let Err(Busy(request)) = io.log(request, &mut replies) {
                self.shard.handle_busy(now, request);
            }
        }
        let visit = if asked || !replies.is_empty() { Visit::Large } else { Visit::Idle };
        for reply in replies.drain(..) {
            self.shard.handle_log(now, reply);
        }
        self.log_replies = replies;
        visit
    }
}
