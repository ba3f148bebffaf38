//! The bound on gateways' connections over all cores (`limits.max_connections`): one slot each, freed exactly once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The counter of taken slots, shared by all cores without a lock.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// One slot. Dropping it frees it.
// A value rather than a number to count down: it moves with the connection between cores, and no way in which the
// connection ends, a panic included, can leave it taken.
#[derive(Debug)]
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// Takes a slot; `None` if all are taken.
    pub(super) fn acquire(&self) -> Option<Slot> {
        // Not an addition that is undone when it was too much: at the last slot, two cores could then refuse each other.
        let take = |taken: usize| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Slot(Arc::clone(&self.taken)))
    }

    /// Number of slots taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_in_parallel_take_exactly_the_maximum_and_free_every_slot() {
        let slots = Slots::new(300);
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..100).filter_map(|_| slots.acquire()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((held.len(), slots.taken()), (300, 300));
        drop(held);
        assert_eq!(slots.taken(), 0);
    }
}
