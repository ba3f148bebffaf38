//! When to accept: after readiness, and after a delay where no descriptor is free or accepting failed.

use crate::model::Instant;
use std::time::Duration;

/// The state of accepting on one core.
#[derive(Default)]
pub(super) struct Acceptor {
    ready: bool,
    /// Do not accept before this time.
    retry: Option<Instant>,
    /// The last delay after a failed accept; zero after a successful one.
    backoff: Duration,
    /// A connection was closed to free a descriptor, and no accept has succeeded since.
    made_room: bool,
    /// Another core was asked to close a connection. Do not ask again before this time, unless it answers.
    asked_until: Option<Instant>,
}

const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// After this time without an answer, a core may be asked again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

impl Acceptor {
    pub(super) fn handle_ready(&mut self) {
        self.ready = true;
    }

    /// Whether to try an accept now.
    pub(super) fn is_ready(&self) -> bool {
        self.ready && self.retry.is_none()
    }

    pub(super) fn handle_accepted(&mut self) {
        self.backoff = Duration::ZERO;
        self.made_room = false;
    }

    /// Whether a connection may be closed to free a descriptor: once until an accept succeeds or the delay has passed.
    pub(super) fn may_make_room(&mut self) -> bool {
        // If the last one did not help, somebody else took the descriptor. Without this bound one attempt after another
        // would close every connection of the core.
        !std::mem::replace(&mut self.made_room, true)
    }

    /// Whether another core may be asked to close a connection.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        self.asked_until.is_none_or(|until| now >= until)
    }

    /// Another core was asked to close a connection: waits for its answer, or [`BACKOFF`].
    pub(super) fn handle_asked(&mut self, now: Instant) {
        self.ready = false;
        self.asked_until = Some(now + ANSWER_PATIENCE);
        self.retry = Some(now + BACKOFF);
    }

    /// The other core has answered. If it closed a connection, accepting is tried again at once; it fails if another
    /// core was faster.
    pub(super) fn handle_answered(&mut self, made: bool) {
        self.asked_until = None;
        if made {
            self.retry = None;
            self.ready = true;
            self.backoff = Duration::ZERO;
        }
    }

    /// No connection waits; a listener reports the next one.
    pub(super) fn handle_blocked(&mut self) {
        self.ready = false;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.retry.is_some_and(|at| now >= at) {
            self.retry = None;
            self.ready = true;
            self.made_room = false;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry
    }

    /// The kernel gave no connection. Waits for a time that doubles up to a second, but not beyond `candidate`: from then on there
    /// is a connection that may be closed for this one. Returns whether to log it: the first time, and when it lasts.
    pub(super) fn back_off(&mut self, now: Instant, candidate: Option<Instant>) -> bool {
        // Accepting fails at once while no descriptor is free, so retrying without a delay would take the whole core.
        self.ready = false;
        self.backoff = if self.backoff.is_zero() { BACKOFF } else { (self.backoff * 2).min(BACKOFF_MAX) };
        let retry = now + self.backoff;
        self.retry = Some(candidate.filter(|at| *at > now).map_or(retry, |at| at.min(retry)));
        self.backoff == BACKOFF || self.backoff == BACKOFF_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_answer_is_asked_once_a_second() {
        let mut acceptor = Acceptor::default();
        acceptor.handle_ready();
        let began = Instant(0);
        assert!(acceptor.may_make_room() && acceptor.may_ask(began));
        acceptor.handle_asked(began);
        assert!(!acceptor.is_ready());
        acceptor.handle_timeout(began + BACKOFF);
        assert!(acceptor.is_ready() && acceptor.may_make_room(), "after the delay, this core may close one of its own");
        assert!(!acceptor.may_ask(began + BACKOFF) && acceptor.may_ask(began + ANSWER_PATIENCE));
    }

    #[test]
    fn a_descriptor_freed_by_another_core_is_tried_at_once_and_only_once() {
        let mut acceptor = Acceptor::default();
        acceptor.handle_ready();
        assert!(acceptor.may_make_room());
        acceptor.handle_asked(Instant(0));
        acceptor.handle_answered(true);
        assert!(acceptor.is_ready() && acceptor.may_ask(Instant(1)));
        assert!(!acceptor.may_make_room(), "another core took it: do not close a second connection at once");
        acceptor.back_off(Instant(1), None);
        acceptor.handle_timeout(Instant(1) + BACKOFF);
        assert!(acceptor.is_ready() && acceptor.may_make_room());
    }

    #[test]
    fn accepting_is_tried_again_after_10_ms_if_the_other_core_closed_nothing() {
        let mut acceptor = Acceptor::default();
        acceptor.handle_ready();
        acceptor.handle_asked(Instant(0));
        acceptor.handle_answered(false);
        assert!(!acceptor.is_ready());
        acceptor.handle_timeout(Instant(0) + BACKOFF);
        assert!(acceptor.is_ready() && acceptor.may_ask(Instant(0) + BACKOFF));
    }
}
