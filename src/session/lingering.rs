//! The end of a connection: the output that waits is sent, then close_notify and our FIN, then the peer's FIN is
//! awaited.
//!
//! The socket is not closed at once: closing one with unread bytes sends a RST, which can destroy the last response on
//! its way (RFC 9112 section 9.6).

use super::{
    effect::{Effect, End},
    effects::Effects,
};
use crate::{
    limits,
    model::Instant,
    wire::{sealed::Sealed, tls::Security},
};
use std::time::Duration;

/// Time from our FIN until the socket is closed without the peer's.
const FIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The stage in which a connection ends.
pub(super) struct Lingering {
    end: Option<End>,
    step: Step,
    deadline: Instant,
    /// The peer has ended its stream.
    ended: bool,
    /// Bytes of the peer that may still be discarded.
    discard_bytes_left: usize,
}

enum Step {
    /// Sending the output that waits.
    Drain,
    /// Sending TLS's close_notify, which is in `wire`.
    Notified,
    /// Our FIN is sent.
    Shut,
}

impl Lingering {
    pub(super) fn new(now: Instant, end: End, ended: bool) -> Self {
        Self {
            end: Some(end),
            step: Step::Drain,
            // A peer that reads nothing reaches the write deadline. This one bounds a peer that reads slowly.
            deadline: now + limits::HTTP_IDLE_DEADLINE,
            ended,
            discard_bytes_left: limits::DISCARDED_BYTES_MAX,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The peer has ended its stream. It is still sent the output that waits.
    pub(super) fn handle_end(&mut self) {
        self.ended = true;
    }

    /// Discards bytes of the peer without decrypting them; returns whether it has sent too many.
    pub(super) fn discard(&mut self, bytes: usize) -> bool {
        let left = self.discard_bytes_left.checked_sub(bytes);
        self.discard_bytes_left = left.unwrap_or(0);
        left.is_none()
    }

    /// Whether to read, and discard, the peer's bytes: our FIN is sent and the peer's has not arrived.
    pub(super) fn wants_read(&self) -> bool {
        matches!(self.step, Step::Shut) && !self.ended
    }

    /// Whether both sides have sent their FIN.
    pub(super) fn is_complete(&self) -> bool {
        self.ended && matches!(self.step, Step::Shut)
    }

    /// Takes the way in which the connection ended.
    pub(super) fn end(&mut self) -> End {
        self.end.take().unwrap_or(End::Gone)
    }

    /// All output is in the socket: takes the next step, which may put TLS's close_notify into `wire`.
    pub(super) fn handle_drained(
        &mut self,
        now: Instant,
        security: &mut Security,
        wire: &mut Sealed,
        effects: &mut Effects,
    ) {
        if let Step::Drain = self.step {
            security.close(wire);
            self.step = Step::Notified;
            // The next call comes once these bytes are sent, too. Without TLS there are none, and the FIN follows at
            // once.
            if !wire.is_empty() {
                return;
            }
        }
        if let Step::Notified = self.step {
            debug_assert!(wire.is_empty(), "a FIN comes after all output");
            effects.push(Effect::ShutdownWrite);
            self.step = Step::Shut;
            self.deadline = now + FIN_TIMEOUT;
        }
    }
}
