//! Delivery `processed` as the caller of a session sees it: what pongs have proved, and whether the gateway is at work.

use super::{PongOutcome, Session, Stage};
use crate::model::{Now, Proof};

impl Session {
    /// Answers [`super::Effect::Pong`]: what the pong has proved. Returns the time from ping to pong if it can be measured, and whether a
    /// ping asked for the pong.
    pub fn handle_proof(&mut self, now: Now, offset: u64, proof: Proof) -> PongOutcome {
        match &mut self.stage {
            Stage::Streaming(streaming) => streaming.handle_proof(now.attended, offset, proof, &mut self.effects),
            _ => PongOutcome { expected: true, round_trip: None },
        }
    }

    /// The first event that the gateway has and has not processed, by its offset: it may take the processing timeout.
    pub fn set_first(&mut self, now: Now, first: Option<u64>) {
        if let Stage::Streaming(streaming) = &mut self.stage {
            streaming.set_first(now.attended, first);
        }
    }

    /// Whether the gateway is at work on an event.
    pub fn is_processing(&self) -> bool {
        matches!(&self.stage, Stage::Streaming(streaming) if streaming.is_processing())
    }

    /// Bytes that the socket has taken since the connection began.
    pub fn sent_bytes(&self) -> u64 {
        self.transmit.sent_bytes()
    }
}
