//! The transitions between the stages of a session.

use super::{Effect, End, Session, Stage, exchange::Progress, lingering::Lingering, transmit::Scratch};
use crate::model::{CloseReason, Now};

impl Session {
    /// Carries out what a step of the exchange has led to.
    pub(super) fn follow(&mut self, now: Now, progress: Progress) {
        match progress {
            Progress::Wait => {}
            Progress::Do(effect) => self.effects.push(effect),
            Progress::Upgrade(pending, presented) => {
                debug_assert!(matches!(self.stage, Stage::Exchange(_)), "a connection is upgraded once");
                self.stage = Stage::Admission(Box::new(pending));
                self.effects.push(Effect::Admit(Box::new(presented)));
            }
            Progress::Close(end) => self.linger(now, end),
        }
    }

    /// Ends the session: within the write deadline the socket took no bytes and the peer acknowledged none.
    pub(super) fn end_stalled(&mut self, now: Now) {
        let end = match &mut self.stage {
            // Without a close frame, which the blocked socket would not take. A reason that was set before stays.
            Stage::Streaming(streaming) => {
                streaming.close(now.attended, CloseReason::SlowConsumer, &mut self.effects);
                End::Closed(streaming.reason().unwrap_or(CloseReason::SlowConsumer))
            }
            Stage::Lingering(lingering) => lingering.end(),
            Stage::Exchange(_) | Stage::Admission(_) | Stage::Over => End::Stalled,
        };
        self.end(end);
    }

    /// All output is in the socket: a connection that is closing takes its next step.
    pub(super) fn handle_drained(&mut self, now: Now, scratch: &mut Scratch) {
        if let Stage::Streaming(streaming) = &self.stage
            && streaming.is_finished()
        {
            let reason = streaming.reason().unwrap_or(CloseReason::GatewayGone);
            self.linger(now, End::Closed(reason));
        }
        if let Stage::Lingering(lingering) = &mut self.stage {
            lingering.handle_drained(now.attended, &mut self.security, &mut scratch.wire, &mut self.effects);
            if lingering.is_complete() {
                let end = lingering.end();
                self.end(end);
            }
        }
    }

    /// Goes to [`Stage::Lingering`], unless it is there: the output that waits is sent before the connection ends.
    pub(super) fn linger(&mut self, now: Now, end: End) {
        let ended = match &self.stage {
            Stage::Exchange(exchange) => exchange.has_ended(),
            Stage::Streaming(streaming) => streaming.has_ended(),
            Stage::Admission(pending) => pending.ended,
            Stage::Lingering(_) | Stage::Over => false,
        };
        let end = match &mut self.stage {
            Stage::Over | Stage::Lingering(_) => return,
            // The shard has to learn why, whatever ends a gateway's connection: its undelivered events fail with one
            // reason.
            Stage::Streaming(streaming) => {
                let fault =
                    if matches!(end, End::Tls(_)) { CloseReason::ProtocolError } else { CloseReason::GatewayGone };
                streaming.close(now.attended, fault, &mut self.effects);
                End::Closed(streaming.reason().unwrap_or(fault))
            }
            Stage::Exchange(_) | Stage::Admission(_) => end,
        };
        self.stage = Stage::Lingering(Box::new(Lingering::new(now.attended, end, ended)));
    }

    /// Ends the session, once.
    pub(super) fn end(&mut self, end: End) {
        if !self.is_over() {
            self.stage = Stage::Over;
            self.effects.push(Effect::Over(Box::new(end)));
        }
    }
}
