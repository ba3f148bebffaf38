//! Whether the kernel has connections to give, and how long it is left alone where it cannot.

use crate::model::Instant;
use std::time::Duration;

/// Whether connections wait, and since when the kernel gives none.
#[derive(Default)]
pub(super) struct Acceptor {
    ready: bool,
    retry: Option<Instant>,
    /// How long the last refusal was waited out.
    backoff: Duration,
    /// Room was made for a connection that has not come yet.
    made_room: bool,
    /// Another core was asked to make room, and is not asked again before this unless it answers.
    asked_until: Option<Instant>,
}

const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A core that has not answered by then is stuck.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

impl Acceptor {
    pub(super) fn handle_ready(&mut self) {
        self.ready = true;
    }

    /// Whether a connection may wait.
    pub(super) fn is_ready(&self) -> bool {
        self.ready && self.retry.is_none()
    }

    pub(super) fn handle_accepted(&mut self) {
        self.backoff = Duration::ZERO;
        self.made_room = false;
    }

    /// Whether room may be made. Where it has not helped, it waits for the next attempt: the descriptors are somebody else's.
    pub(super) fn may_make_room(&mut self) -> bool {
        !std::mem::replace(&mut self.made_room, true)
    }

    /// Whether another core may be asked to make room.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        self.asked_until.is_none_or(|until| now >= until)
    }

    /// Another core was asked to make room: its answer is waited for, or a moment.
    pub(super) fn handle_asked(&mut self, now: Instant) {
        self.ready = false;
        self.asked_until = Some(now + ANSWER_PATIENCE);
        self.retry = Some(now + BACKOFF);
    }

    /// The other core has answered. Where it made room, the next attempt comes at once; it may fail, because another core's
    /// connection was faster.
    pub(super) fn handle_answered(&mut self, made: bool) {
        self.asked_until = None;
        if made {
            self.retry = None;
            self.ready = true;
            self.backoff = Duration::ZERO;
        }
    }

    /// None waits any more.
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
        assert!(acceptor.is_ready() && acceptor.may_make_room(), "this core's own are not spared for long");
        assert!(!acceptor.may_ask(began + BACKOFF) && acceptor.may_ask(began + ANSWER_PATIENCE));
    }

    #[test]
    fn room_that_another_core_made_is_used_at_once_and_missed_once() {
        let mut acceptor = Acceptor::default();
        acceptor.handle_ready();
        assert!(acceptor.may_make_room());
        acceptor.handle_asked(Instant(0));
        acceptor.handle_answered(true);
        assert!(acceptor.is_ready() && acceptor.may_ask(Instant(1)));
        assert!(!acceptor.may_make_room(), "somebody else was faster: not a second one at once");
        acceptor.back_off(Instant(1), None);
        acceptor.handle_timeout(Instant(1) + BACKOFF);
        assert!(acceptor.is_ready() && acceptor.may_make_room());
    }

    #[test]
    fn a_core_that_had_none_to_close_is_not_waited_for_longer_than_a_moment() {
        let mut acceptor = Acceptor::default();
        acceptor.handle_ready();
        acceptor.handle_asked(Instant(0));
        acceptor.handle_answered(false);
        assert!(!acceptor.is_ready());
        acceptor.handle_timeout(Instant(0) + BACKOFF);
        assert!(acceptor.is_ready() && acceptor.may_ask(Instant(0) + BACKOFF));
    }
}
