//! The end of a core: what is queued goes out, closes are spread over the window, and nobody holds it up.

use super::{core::Engine, io::Io, link::LinkKey, notice::Notice};
use crate::model::{CloseReason, Instant, Now};
use std::{collections::VecDeque, time::Duration};

/// After the window, this long for the last closes to be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked at whether all is done: another core may be what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A drain that has begun.
pub(super) struct Drain {
    /// Gateways' connections that are still to be closed, in the order of chance that their places had.
    queue: VecDeque<LinkKey>,
    began: Instant,
    /// Between two closes.
    step: Duration,
    closed: u32,
    deadline: Instant,
    next_look: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Connections are being closed, or have not gone yet.
    Closing,
    /// Nothing is left here; other cores may still need answers, and new connections theirs.
    Settled,
    /// The core has ended.
    Ended,
}

impl Drain {
    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let close = (!self.queue.is_empty()).then(|| self.next_close());
        Some(close.map_or(self.next_look, |close| close.min(self.next_look)))
    }

    fn next_close(&self) -> Instant {
        self.began + self.step * self.closed
    }
}

impl<I: Io> Engine<I> {
    pub(super) fn begin_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        let mut queue: Vec<_> =
            self.links.iter().filter(|(_, link)| link.member.is_some()).map(|(key, _)| key).collect();
        // In no order that a gateway could know.
        queue.sort_by_key(|key| key.serial.wrapping_mul(0x9e37_79b1));
        let window = self.hub.drain_window;
        let step = window.checked_div(u32::try_from(queue.len()).unwrap_or(u32::MAX)).unwrap_or_default();
        self.drain = Some(Drain {
            queue: queue.into(),
            began: now.instant,
            step,
            closed: 0,
            deadline: now.instant + window + PATIENCE,
            next_look: now.instant,
            stage: Stage::Closing,
        });
    }

    /// Takes the drain a step further; returns whether there was something to do.
    pub(super) fn drain_next(&mut self, io: &mut I, now: Now) -> bool {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.has_ended()) else { return false };
        if !drain.queue.is_empty() && now.instant >= drain.next_close() {
            drain.closed += 1;
            if let Some(key) = drain.queue.pop_front() {
                self.with_session(io, now, key, |session, _| session.close(now, CloseReason::Shutdown));
                self.carry_out(io, now, key);
                self.wake_writer(key);
                self.settle(io, now, key);
            }
            return true;
        }
        if now.instant < drain.next_look {
            return false;
        }
        drain.next_look = now.instant + LOOK_INTERVAL;
        let over = now.instant >= drain.deadline;
        if drain.stage == Stage::Closing && (over || (self.hub.connections() == 0 && !self.pending.is_waiting())) {
            drain.stage = Stage::Settled;
            self.hub.settle();
        }
        if drain.stage == Stage::Settled && (over || self.hub.all_settled()) {
            drain.stage = Stage::Ended;
            self.end(io, now);
        }
        true
    }

    /// Ends what is left by force.
    fn end(&mut self, io: &mut I, now: Now) {
        io.stop_accepting();
        let left: Vec<_> = self.links.iter().map(|(key, link)| (key, link.member.is_some())).collect();
        let connections = left.iter().filter(|(_, member)| *member).count();
        if connections > 0 {
            io.notice(now, Notice::Forced { connections });
        }
        for (key, member) in left {
            if member {
                // Whoever is being closed for another reason ends with that one.
                self.with_session(io, now, key, |session, _| {
                    session.close(now, CloseReason::Shutdown);
                    session.handle_broken();
                });
                self.carry_out(io, now, key);
            }
            self.leave(io, now, key, CloseReason::Shutdown);
            if let Some(link) = self.links.remove(key) {
                io.close(link.socket);
            }
        }
    }
}
