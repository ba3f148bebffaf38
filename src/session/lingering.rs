//! The end of a connection: what is left is sent, then our FIN, then the peer's is awaited for a moment.
//!
//! Closing a socket that has unread bytes sends a RST, which can destroy the answer on its way (RFC 9112 section 9.6).

use super::effect::{Effect, End};
use crate::{limits, model::Instant, wire::tls::Security};
use std::{collections::VecDeque, time::Duration};

/// How long the peer's FIN is awaited.
const PATIENCE: Duration = Duration::from_secs(1);

/// The goodbye of one connection.
pub(super) struct Lingering {
    end: Option<End>,
    step: Step,
    deadline: Instant,
    /// The peer's FIN came before all was sent.
    ended: bool,
}

enum Step {
    Drain,
    Notified,
    Shut,
}

impl Lingering {
    pub(super) fn new(now: Instant, end: End) -> Self {
        Self { end: Some(end), step: Step::Drain, deadline: now + limits::HTTP_IDLE_DEADLINE, ended: false }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The peer sends no more; it still takes what is left.
    pub(super) fn handle_end(&mut self) {
        self.ended = true;
    }

    /// Whether the peer sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether our FIN is out: whatever would still be sent is not.
    pub(super) fn is_shut(&self) -> bool {
        matches!(self.step, Step::Shut)
    }

    /// Whether both sides have said their last.
    pub(super) fn is_complete(&self) -> bool {
        self.ended && matches!(self.step, Step::Shut)
    }

    /// How the connection ended.
    pub(super) fn end(&mut self) -> End {
        self.end.take().unwrap_or(End::Gone)
    }

    /// All that was to be sent is in the socket: takes the next step, which may put more into `wire`.
    pub(super) fn handle_drained(
        &mut self,
        now: Instant,
        security: &mut Security,
        wire: &mut Vec<u8>,
        effects: &mut VecDeque<Effect>,
    ) {
        if let Step::Drain = self.step {
            security.close(wire);
            self.step = Step::Notified;
            if !wire.is_empty() {
                return;
            }
        }
        if let Step::Notified = self.step {
            debug_assert!(wire.is_empty(), "a FIN stands behind everything");
            effects.push_back(Effect::ShutdownWrite);
            self.step = Step::Shut;
            self.deadline = now + PATIENCE;
        }
    }
}
