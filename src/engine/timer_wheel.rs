//! A hashed timer wheel for the deadlines of connections: 16 bytes an entry, and no allocation once it has grown to the
//! number of its entries.

use crate::model::Instant;
use std::collections::VecDeque;

/// Entries by the tick in which they are due. An entry beyond the horizon comes out at the horizon, and its owner
/// inserts it again.
pub(super) struct TimerWheel<T> {
    /// The first node of each slot's list.
    slots: Vec<u32>,
    nodes: Vec<Node<T>>,
    /// The first unused node.
    free: u32,
    /// One bit a slot, set if it has entries: the loop sleeps until the next one without a search of all slots.
    occupied: [u64; WORDS],
    /// The next tick to process.
    next: u64,
}

struct Node<T> {
    entry: Option<T>,
    next: u32,
}

/// Microseconds in a tick. An entry comes out at the end of its tick, so up to this much late.
const TICK: u64 = 10_000;
/// With [`TICK`] a horizon of 82 s.
// Longer than the usual deadlines, of which an idle HTTP connection's 60 s is the longest, so that few entries are
// inserted twice.
const SLOTS: u64 = 8192;
const WORDS: usize = (SLOTS / 64) as usize;
const NONE: u32 = u32::MAX;

impl<T> TimerWheel<T> {
    pub(super) fn new(now: Instant) -> Self {
        let slots = vec![NONE; SLOTS as usize];
        Self { slots, nodes: Vec::new(), free: NONE, occupied: [0; WORDS], next: now.0 / TICK }
    }

    /// When an entry for `at` comes out: at the end of its tick, or at the horizon.
    fn due(&self, at: Instant) -> Instant {
        Instant(at.0.div_ceil(TICK).clamp(self.next, self.next + SLOTS - 1) * TICK)
    }

    /// Inserts an entry. It comes out of [`TimerWheel::advance`] at [`TimerWheel::due`].
    fn insert(&mut self, at: Instant, entry: T) {
        debug_assert!(self.due(at).0.is_multiple_of(TICK), "an entry is due at the end of a tick");
        let slot = (self.due(at).0 / TICK % SLOTS) as usize;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        let node = Node { entry: Some(entry), next: self.slots[slot] };
        self.slots[slot] = match self.free {
            NONE => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("links are bounded far below 2^32")
            }
            free => {
                self.free = self.nodes[free as usize].next;
                self.nodes[free as usize] = node;
                free
            }
        };
    }

    /// Moves all entries due by `now` into `due`.
    pub(super) fn advance(&mut self, now: Instant, due: &mut VecDeque<T>) {
        let end = now.0 / TICK;
        while self.next <= end {
            // The bitmap leads straight to the next entries: after a long sleep there may be thousands of empty ticks.
            let Some(tick) = self.next_occupied().filter(|tick| *tick <= end) else {
                self.next = end + 1;
                return;
            };
            debug_assert!((self.next..self.next + SLOTS).contains(&tick), "a slot holds the entries of one tick");
            let slot = (tick % SLOTS) as usize;
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            let mut at = std::mem::replace(&mut self.slots[slot], NONE);
            while at != NONE {
                let node = &mut self.nodes[at as usize];
                due.extend(node.entry.take());
                let next = std::mem::replace(&mut node.next, self.free);
                self.free = at;
                at = next;
            }
            self.next = tick + 1;
        }
    }

    /// When the next entry comes out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_occupied().map(|tick| Instant(tick * TICK))
    }

    /// The first tick with entries, at or after `self.next`.
    fn next_occupied(&self) -> Option<u64> {
        let begin = (self.next % SLOTS) as usize;
        let first = self.occupied[begin / 64] & (u64::MAX << (begin % 64));
        // The search begins inside a word. That word comes again at the end, for its slots before the beginning.
        let words = (1..=WORDS).map(|step| (begin / 64 + step) % WORDS).map(|word| (word, self.occupied[word]));
        let (word, bits) = std::iter::once((begin / 64, first)).chain(words).find(|(_, bits)| *bits != 0)?;
        let slot = (word * 64 + bits.trailing_zeros() as usize) as u64;
        Some(self.next + (slot + SLOTS - self.next % SLOTS) % SLOTS)
    }
}

/// The time of an owner's current entry in a wheel. Entries cannot be removed, so an earlier deadline gets an entry of
/// its own and the later one comes out without effect. If each of those were replaced by another, a connection's
/// entries would pile up.
pub(super) struct Alarm(Instant);

impl Default for Alarm {
    /// Without an entry.
    fn default() -> Self {
        Self(NEVER)
    }
}

impl Alarm {
    /// Ensures that an entry comes out at `at` or before. Inserts nothing if the current one does: most deadlines only
    /// move later.
    pub(super) fn set<T>(&mut self, wheel: &mut TimerWheel<T>, at: Instant, entry: T) {
        let due = wheel.due(at);
        if due < self.0 {
            self.0 = due;
            wheel.insert(due, entry);
        }
    }

    /// An entry has come out; returns whether it was the current one, and then clears it.
    pub(super) fn ring(&mut self, now: Instant) -> bool {
        let counts = self.0 <= now;
        if counts {
            self.0 = NEVER;
        }
        counts
    }
}

const NEVER: Instant = Instant(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_within_the_horizon_come_out_once_and_never_early() {
        let mut wheel = TimerWheel::new(Instant(0));
        for at in [0, 1, TICK, TICK + 1, 10 * TICK, 7_900 * TICK] {
            wheel.insert(Instant(at), at);
        }
        let mut seen = Vec::new();
        for tick in 0..10_000 {
            let now = tick * TICK;
            let mut due = VecDeque::new();
            wheel.advance(Instant(now), &mut due);
            for at in due {
                assert!(at <= now && now < at + TICK, "{at} came at {now}");
                seen.push(at);
            }
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn an_entry_beyond_the_horizon_comes_out_at_the_horizon() {
        let mut wheel = TimerWheel::new(Instant(0));
        wheel.insert(Instant(u64::MAX / 2), ());
        let mut due = VecDeque::new();
        wheel.advance(Instant((SLOTS - 2) * TICK), &mut due);
        assert!(due.is_empty());
        wheel.advance(Instant((SLOTS - 1) * TICK), &mut due);
        assert_eq!(due.len(), 1);
    }

    #[test]
    fn a_deadline_that_moves_often_leaves_few_entries() {
        let (mut wheel, mut alarm) = (TimerWheel::new(Instant(0)), Alarm::default());
        let mut rings = 0;
        for tick in 0..10_000 {
            let now = Instant(tick * TICK + 1);
            let mut due = VecDeque::new();
            wheel.advance(now, &mut due);
            rings += due.into_iter().filter(|()| alarm.ring(now)).count();
            // A distant deadline that is replaced by a nearer one for a moment.
            for ticks in [400, 200 + tick % 7, 400] {
                alarm.set(&mut wheel, Instant(now.0 + ticks * TICK), ());
            }
        }
        assert!((25..=50).contains(&rings), "{rings} times");
        let left = wheel.nodes.iter().filter(|node| node.entry.is_some()).count();
        assert!(left <= 5, "{left} entries");
    }

    #[test]
    fn the_next_entry_is_found_from_every_position_of_the_wheel() {
        for start in [0, 1, 63, 64, 8_191, 8_192, 20_000] {
            for ahead in [0, 1, 62, 63, 64, 65, 8_000, 8_191] {
                let mut wheel = TimerWheel::new(Instant(start * TICK));
                assert_eq!(wheel.next_due(), None);
                wheel.insert(Instant((start + ahead) * TICK), ());
                assert_eq!(wheel.next_due(), Some(Instant((start + ahead) * TICK)), "{ahead} ahead of {start}");
            }
        }
    }

    #[test]
    fn the_nearest_deadline_rings_in_its_tick() {
        let (mut wheel, mut alarm) = (TimerWheel::new(Instant(0)), Alarm::default());
        for at in [300 * TICK, u64::MAX / 2, 7 * TICK - 1, 7 * TICK - 2, 20 * TICK] {
            alarm.set(&mut wheel, Instant(at), ());
        }
        let mut rings = Vec::new();
        for tick in 0..=400 {
            let mut due = VecDeque::new();
            wheel.advance(Instant(tick * TICK), &mut due);
            rings.extend(due.into_iter().filter(|()| alarm.ring(Instant(tick * TICK))).map(|()| tick));
        }
        assert_eq!(rings, [7]);
    }
}
