//! Limits log lines by kind, over all cores of a hub. The next line of a kind reports the number of lines left out
//! before it.

use crate::{limits::LOG_LINES_PER_SECOND, model::Instant};
use std::sync::atomic::{AtomicU64, Ordering};

/// The kind of a line at WARN or ERROR, or of one for each event. Each kind has its own limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum LineKind {
    RateLimited,
    CapacityExceeded,
    Unavailable,
    Draining,
    Unauthorized,
    OriginRefused,
    MadeRoom,
    DeliveryFailed,
    EventWaits,
    EventSkipped,
    EventsMissed,
    IdRepeated,
    Malformed,
    Panicked,
    CannotAccept,
    CannotWait,
    TimeLost,
    ReplyLost,
}

const KINDS: usize = LineKind::ReplyLost as usize + 1;

/// The limit of one hub. Each kind is one atomic that holds the second of its last line (24 bits), the number of lines
/// written in that second (8 bits) and the number left out since the last line (32 bits).
#[derive(Default)]
pub(crate) struct LineLimit([AtomicU64; KINDS]);

impl LineLimit {
    /// If a line may be written now, returns the number of lines of its kind left out since the last one.
    pub(super) fn allow(&self, now: Instant, kind: LineKind) -> Option<u64> {
        let second = (now.0 / 1_000_000) & SECOND_MASK;
        self.update(kind, |state| state.allow(second))
    }

    /// Counts lines of this kind that another limit has left out.
    pub(super) fn leave_out(&self, kind: LineKind, lines: u64) {
        self.update(kind, |state| (state.leave_out(lines), ()));
    }

    fn update<T>(&self, kind: LineKind, step: impl Fn(State) -> (State, T)) -> T {
        // Relaxed is enough: all state of a kind is in one atomic, and no other memory depends on it.
        let cell = &self.0[kind as usize];
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let (next, result) = step(State::unpack(seen));
            match cell.compare_exchange_weak(seen, next.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return result,
                Err(changed) => seen = changed,
            }
        }
    }
}

/// Keeps 24 bits of the second, which wrap around after 194 days.
const SECOND_MASK: u64 = (1 << 24) - 1;
/// By how many seconds one core's clock may be behind another's: each core reads the clock at its own times.
const BEHIND_MAX: u64 = 10;

#[derive(Clone, Copy)]
struct State {
    second: u64,
    lines: u8,
    left_out: u32,
}

impl State {
    fn unpack(bits: u64) -> Self {
        Self { second: bits >> 40, lines: (bits >> 32) as u8, left_out: bits as u32 }
    }

    fn pack(self) -> u64 {
        self.second << 40 | u64::from(self.lines) << 32 | u64::from(self.left_out)
    }

    fn allow(mut self, second: u64) -> (Self, Option<u64>) {
        // A core whose clock is slightly behind must not go back to an earlier second, which would reset the count.
        let behind = self.second.wrapping_sub(second) & SECOND_MASK;
        if behind > BEHIND_MAX {
            (self.second, self.lines) = (second, 0);
        }
        if self.lines >= LOG_LINES_PER_SECOND {
            return (self.leave_out(1), None);
        }
        let left_out = u64::from(self.left_out);
        (Self { lines: self.lines + 1, left_out: 0, ..self }, Some(left_out))
    }

    fn leave_out(self, lines: u64) -> Self {
        Self { left_out: self.left_out.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const LINES_MAX: u64 = LOG_LINES_PER_SECOND as u64;

    #[test]
    fn lines_of_a_kind_are_limited_and_the_next_one_reports_the_number_left_out() {
        let limit = LineLimit::default();
        let allow = |at, kind| limit.allow(Instant(at), kind);
        for _ in 0..LINES_MAX {
            assert_eq!(allow(5 * SECOND, LineKind::Unauthorized), Some(0));
        }
        assert_eq!(allow(6 * SECOND - 1, LineKind::Unauthorized), None);
        assert_eq!(allow(6 * SECOND - 1, LineKind::DeliveryFailed), Some(0), "another kind has its own limit");
        limit.leave_out(LineKind::Unauthorized, 7);
        assert_eq!(allow(6 * SECOND, LineKind::Unauthorized), Some(8));
        assert_eq!(allow(6 * SECOND, LineKind::Unauthorized), Some(0));
    }

    #[test]
    fn a_core_whose_clock_is_behind_does_not_reset_the_count() {
        let limit = LineLimit::default();
        let mut written = 0;
        for round in 0..100 {
            // Two cores read the clock just before and just after the end of a second.
            written += u64::from(limit.allow(Instant(9 * SECOND - 1 + round % 2), LineKind::MadeRoom).is_some());
        }
        assert!(written <= 2 * LINES_MAX, "{written}");
    }

    #[test]
    fn the_limit_is_the_same_in_every_second_of_the_clock() {
        let limit = LineLimit::default();
        for second in [0, 1, 20, 8_000_000, 31_622_400, 31_622_401, 60_000_000] {
            for line in 0..=LINES_MAX {
                let written = limit.allow(Instant(second * SECOND), LineKind::MadeRoom).is_some();
                assert_eq!(written, line < LINES_MAX, "line {line} of second {second}");
            }
        }
    }

    #[test]
    fn every_line_of_concurrent_cores_is_written_or_counted() {
        let limit = LineLimit::default();
        let counted = std::thread::scope(|scope| {
            let core = || {
                let allowed = (0..10_000).filter_map(|at| limit.allow(Instant(at * 1_000), LineKind::Malformed));
                allowed.fold(0, |sum, left_out| sum + 1 + left_out)
            };
            let cores: Vec<_> = (0..4).map(|_| scope.spawn(core)).collect();
            cores.into_iter().map(|core| core.join().unwrap()).sum::<u64>()
        });
        let last = limit.allow(Instant(60 * SECOND), LineKind::Malformed).expect("a new second");
        assert_eq!(counted + last, 40_000);
    }
}
