//! When which connection wants to be looked at: a hashed timing wheel, 16 bytes an entry.

use crate::model::Instant;
use std::cell::Cell;

/// Entries by the tick that they are due in. One beyond the horizon is due at the horizon, and is put back then.
pub(crate) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// The next tick to be looked at.
    next: u64,
}

/// Microseconds of one tick: an entry is due up to so much late.
pub(crate) const TICK: u64 = 100_000;
const SLOTS: u64 = 1024;

impl<T> Wheel<T> {
    pub(crate) fn new(now: Instant) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: now.0 / TICK }
    }

    /// When an entry for `at` comes out: not before it, or at the horizon.
    fn due(&self, at: Instant) -> Instant {
        Instant(at.0.div_ceil(TICK).clamp(self.next, self.next + SLOTS - 1) * TICK)
    }

    /// Puts an entry in; it comes out of [`Wheel::advance`] at [`Wheel::due`].
    fn insert(&mut self, at: Instant, entry: T) {
        let tick = self.due(at).0 / TICK;
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

/// The one entry that counts for its owner. Those that it has overtaken come out, too, and are nobody's: were each
/// followed by another, a connection would have more of them with every day.
pub(crate) struct Alarm(Cell<Instant>);

impl Alarm {
    /// No entry.
    pub(crate) fn new() -> Self {
        Self(Cell::new(NEVER))
    }

    /// Sees to it that an entry comes out at `at` or before.
    pub(crate) fn set<T>(&self, wheel: &mut Wheel<T>, at: Instant, entry: T) {
        let due = wheel.due(at);
        if due < self.0.get() {
            self.0.set(due);
            wheel.insert(due, entry);
        }
    }

    /// An entry has come out; returns whether it is the one that counts, which there is none of then.
    pub(crate) fn ring(&self, now: Instant) -> bool {
        let counts = self.0.get() <= now;
        if counts {
            self.0.set(NEVER);
        }
        counts
    }
}

const NEVER: Instant = Instant(u64::MAX);

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

    #[test]
    fn deadlines_that_come_and_go_leave_few_entries() {
        let (mut wheel, alarm) = (Wheel::new(Instant(0)), Alarm::new());
        let mut rings = 0;
        for tick in 0..10_000 {
            let now = Instant(tick * TICK + 1);
            let mut due = Vec::new();
            wheel.advance(now, &mut due);
            rings += due.into_iter().filter(|()| alarm.ring(now)).count();
            // A deadline far away, and often one that is nearer for a moment.
            for ticks in [400, 200 + tick % 7, 400] {
                alarm.set(&mut wheel, Instant(now.0 + ticks * TICK), ());
            }
        }
        assert!((25..=50).contains(&rings), "{rings} times");
        let left: usize = wheel.slots.iter().map(Vec::len).sum();
        assert!(left <= 5, "{left} entries");
    }

    #[test]
    fn the_nearest_deadline_rings_in_its_tick() {
        let (mut wheel, alarm) = (Wheel::new(Instant(0)), Alarm::new());
        for at in [300 * TICK, u64::MAX / 2, 7 * TICK - 1, 7 * TICK - 2, 20 * TICK] {
            alarm.set(&mut wheel, Instant(at), ());
        }
        let mut rings = Vec::new();
        for tick in 0..=400 {
            let mut due = Vec::new();
            wheel.advance(Instant(tick * TICK), &mut due);
            rings.extend(due.into_iter().filter(|()| alarm.ring(Instant(tick * TICK))).map(|()| tick));
        }
        assert_eq!(rings, [7]);
    }
}
