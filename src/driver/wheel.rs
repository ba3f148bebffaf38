//! When which connection wants to be looked at: a hashed timing wheel, 16 bytes an entry.

use crate::model::Instant;

/// Entries by the tick that they are due in. One beyond the horizon is due at the horizon, and is put back then.
pub(crate) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// The next tick to be looked at.
    next: u64,
}

/// Microseconds of one tick: an entry is due up to so much late.
pub(crate) const TICK: u64 = 50_000;
const SLOTS: u64 = 1024;

impl<T> Wheel<T> {
    pub(crate) fn new(now: Instant) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: now.0 / TICK }
    }

    /// Puts an entry in; it comes out of [`Wheel::advance`] not before `at` or the horizon.
    pub(crate) fn insert(&mut self, at: Instant, entry: T) {
        let tick = at.0.div_ceil(TICK).clamp(self.next, self.next + SLOTS - 1);
        self.slots[(tick % SLOTS) as usize].push(entry);
    }

    /// Moves everything that is due by `now` into `due`.
    pub(crate) fn advance(&mut self, now: Instant, due: &mut Vec<T>) {
        while self.next <= now.0 / TICK {
            due.append(&mut self.slots[(self.next % SLOTS) as usize]);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_once_and_never_early_within_the_horizon() {
        let mut wheel = Wheel::new(Instant(0));
        for at in [0, 1, TICK, TICK + 1, 10 * TICK, 900 * TICK] {
            wheel.insert(Instant(at), at);
        }
        let mut seen = Vec::new();
        for tick in 0..2_000 {
            let now = tick * TICK;
            let mut due = Vec::new();
            wheel.advance(Instant(now), &mut due);
            for at in due {
                assert!(at <= now && now < at + TICK, "{at} came at {now}");
                seen.push(at);
            }
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn what_lies_beyond_the_horizon_comes_at_the_horizon() {
        let mut wheel = Wheel::new(Instant(0));
        wheel.insert(Instant(u64::MAX / 2), ());
        let mut due = Vec::new();
        wheel.advance(Instant((SLOTS - 2) * TICK), &mut due);
        assert!(due.is_empty());
        wheel.advance(Instant((SLOTS - 1) * TICK), &mut due);
        assert_eq!(due.len(), 1);
    }
}
