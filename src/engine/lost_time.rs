//! Detects that a core did not run, because the process was stopped or its processor was taken away.
//!
//! Peers must not be closed for a silence in which the core could not read. So the core measures its own *lost time*: a
//! reading of the clock that comes [`LOST_AFTER`] or more after it was expected. Within a pass the next reading is
//! expected at once; after a pass, when the core asked to be woken, [`WAKE_INTERVAL`] later at most. What a peer must
//! do in time runs on `attended` = real time less lost time; what the hub promises (publish timeout, rate window,
//! drain) runs on real time.

use crate::model::{Instant, Now};
use std::time::Duration;

/// The caller of an engine begins a pass at least this often, so that a stop of an idle core is noticed as well.
// Longer than the half second between the pings of a fleet (`POINTS` of the heartbeat): a core that only sends them wakes for nothing else.
pub const WAKE_INTERVAL: Duration = Duration::from_millis(520);
/// Lateness from which it counts as lost time. Shorter delays are ordinary load, and deadlines have room for them.
const LOST_AFTER: Duration = Duration::from_millis(250);

/// The lost time of one core since its start.
pub(super) struct LostTime {
    total: Duration,
    /// When the clock is expected to be read next.
    expected: Instant,
}

impl LostTime {
    pub(super) fn new(now: Instant) -> Self {
        Self { total: Duration::ZERO, expected: now }
    }

    pub(super) fn total(&self) -> Duration {
        self.total
    }

    /// Sets `attended` in a reading of the clock; returns the lost time that it revealed, if any.
    pub(super) fn observe(&mut self, now: &mut Now) -> Option<Duration> {
        let late = now.instant.since(self.expected);
        let lost = (late >= LOST_AFTER).then_some(late);
        self.total += lost.unwrap_or_default();
        // A core may be woken before the time that it asked for. An early reading does not move the expectation back.
        self.expected = self.expected.max(now.instant);
        now.attended = now.instant - self.total;
        lost
    }

    /// The core goes to sleep until `due`.
    pub(super) fn expect_wake(&mut self, now: Instant, due: Option<Instant>) {
        let latest = now + WAKE_INTERVAL;
        // An overdue deadline counts from now: the core has run until now, so no time before it is lost.
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
    fn a_stop_within_a_pass_is_lost_time_and_long_work_is_not() {
        let mut lost = LostTime::new(Instant(0));
        assert_eq!(attend(&mut lost, 1), (None, 1));
        assert_eq!(attend(&mut lost, 250), (None, 250), "a long visit");
        assert_eq!(attend(&mut lost, 500), (Some(250), 250));
        assert_eq!(attend(&mut lost, 501), (None, 251));
        assert_eq!(lost.total(), Duration::from_millis(250));
    }

    #[test]
    fn only_what_exceeds_the_requested_sleep_is_lost_time() {
        let mut lost = LostTime::new(Instant(0));
        lost.expect_wake(Instant(0), Some(at(100).instant));
        assert_eq!(attend(&mut lost, 101), (None, 101));
        lost.expect_wake(at(101).instant, Some(at(60_000).instant));
        assert_eq!(attend(&mut lost, 621 + 15_000), (Some(15_000), 621), "a core wakes about twice a second");
        lost.expect_wake(at(15_621).instant, None);
        assert_eq!(attend(&mut lost, 15_900), (None, 900));
        lost.expect_wake(at(15_900).instant, Some(at(15_000).instant));
        assert_eq!(attend(&mut lost, 16_000), (None, 1_000), "an overdue deadline is expected now");
    }
}
