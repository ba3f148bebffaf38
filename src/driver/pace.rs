//! How a core waits: in the kernel for up to 5 ms while work is frequent, else parked in the runtime.
//!
//! Parking and waking costs glommio several ring calls. While work comes every few milliseconds, waiting in
//! `epoll_pwait2` is cheaper and wakes sooner (`docs/decisions/0008-one-epoll-set-a-core.md`).

use crate::model::Instant;
use std::time::Duration;

/// The longest wait outside of the runtime, whose timers do not run meanwhile.
const LINGER: Duration = Duration::from_millis(5);

/// The running mean of the gaps between batches of work.
pub(super) struct Pace {
    gap: Duration,
    last: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { gap: LINGER * 2, last: now }
    }

    /// A batch of work came.
    pub(super) fn handle_work(&mut self, now: Instant) {
        // Capped, so that one long pause does not make the core park for the next dozens of batches.
        let gap = now.since(self.last).min(LINGER * 8);
        self.gap = (self.gap * 7 + gap) / 8;
        self.last = now;
    }

    /// How long to wait in the kernel before parking; zero if work is rare.
    pub(super) fn linger(&self) -> Duration {
        if self.gap < LINGER { LINGER } else { Duration::ZERO }
    }

    /// A wait in the kernel ended without work: park at once until work is frequent again.
    pub(super) fn handle_idle(&mut self) {
        self.gap = LINGER * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_lingers_while_work_is_frequent_and_parks_when_it_is_rare() {
        let mut now = 1_000_000;
        let mut pace = Pace::new(Instant(now));
        assert!(pace.linger().is_zero());
        let mut batches = 0;
        while pace.linger().is_zero() {
            now += 2_000;
            pace.handle_work(Instant(now));
            batches += 1;
        }
        assert!(batches < 20, "{batches} batches");
        pace.handle_idle();
        assert!(pace.linger().is_zero());
        for _ in 0..100 {
            now += 8_000;
            pace.handle_work(Instant(now));
        }
        assert!(pace.linger().is_zero(), "work every 8 ms is not worth a linger of 5");
    }
}
