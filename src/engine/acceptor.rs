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
}

const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

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

    /// The kernel gave none; returns whether this is worth a line in the log: the first time, and when it lasts.
    pub(super) fn back_off(&mut self, now: Instant) -> bool {
        self.ready = false;
        self.backoff = if self.backoff.is_zero() { BACKOFF } else { (self.backoff * 2).min(BACKOFF_MAX) };
        self.retry = Some(now + self.backoff);
        self.backoff == BACKOFF || self.backoff == BACKOFF_MAX
    }
}
