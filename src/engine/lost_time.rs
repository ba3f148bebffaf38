//! Finds out that a core did not run: the machine stopped the process, or something kept the core for too long.
//!
//! A reading of the clock that comes later than it was expected by [`LOST_AFTER`] means that time was lost: within a pass the next
//! reading is expected at once, and after it when the core wanted to be woken, or after [`WAKE_INTERVAL`] at the latest.

use crate::model::{Instant, Now};
use std::time::Duration;

/// Whoever drives an engine begins a pass at least this often.
pub const WAKE_INTERVAL: Duration = Duration::from_millis(280);
/// What is later than this was not the core's own doing.
const LOST_AFTER: Duration = Duration::from_millis(250);

/// The time that a core has lost since it began.
pub(super) struct LostTime {
    total: Duration,
    /// When the next reading of the clock is expected at the latest.
    expected: Instant,
}

impl LostTime {
    pub(super) fn new(now: Instant) -> Self {
        Self { total: Duration::ZERO, expected: now }
    }

    pub(super) fn total(&self) -> Duration {
        self.total
    }

    /// Puts the attended time into a reading of the clock; returns how much time was found to be lost.
    pub(super) fn observe(&mut self, now: &mut Now) -> Option<Duration> {
        let late = now.instant.since(self.expected);
        let lost = (late >= LOST_AFTER).then_some(late);
        self.total += lost.unwrap_or_default();
        self.expected = self.expected.max(now.instant);
        now.attended = now.instant - self.total;
        lost
    }

    /// The core has nothing to do before `due`.
    pub(super) fn expect_wake(&mut self, now: Instant, due: Option<Instant>) {
        let latest = now + WAKE_INTERVAL;
        self.expected = due.map_or(latest, |due| due.clamp(now, latest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const MILLISECOND: u64 = 1_000;

    fn at(milliseconds: u64) -> Now {
        Now::new(Instant(milliseconds * MILLISECOND), Timestamp(0))
    }

    fn attend(lost: &mut LostTime, milliseconds: u64) -> (Option<u64>, u64) {
        let mut now = at(milliseconds);
        let found = lost.observe(&mut now).map(|lost| lost.as_millis() as u64);
        (found, now.attended.0 / MILLISECOND)
    }

    #[test]
    fn a_stop_within_a_pass_is_found_and_work_is_not() {
        let mut lost = LostTime::new(Instant(0));
        assert_eq!(attend(&mut lost, 1), (None, 1));
        assert_eq!(attend(&mut lost, 250), (None, 250), "a long turn");
        assert_eq!(attend(&mut lost, 500), (Some(250), 250));
        assert_eq!(attend(&mut lost, 501), (None, 251));
        assert_eq!(lost.total(), Duration::from_millis(250));
    }

    #[test]
    fn a_sleep_that_was_wanted_is_not_lost_and_what_is_beyond_it_is() {
        let mut lost = LostTime::new(Instant(0));
        lost.expect_wake(Instant(0), Some(at(100).instant));
        assert_eq!(attend(&mut lost, 101), (None, 101));
        lost.expect_wake(at(101).instant, Some(at(60_000).instant));
        assert_eq!(attend(&mut lost, 381 + 15_000), (Some(15_000), 381), "a core wakes several times a second");
        lost.expect_wake(at(15_381).instant, None);
        assert_eq!(attend(&mut lost, 15_600), (None, 600));
        lost.expect_wake(at(15_600).instant, Some(at(15_000).instant));
        assert_eq!(attend(&mut lost, 15_700), (None, 700), "what is overdue is due now");
    }
}
