//! Queues that the feeds of one shard use in turn: most are empty most of the time, and an empty one should have no memory, but a
//! publish should not allocate.

use std::collections::VecDeque;

/// Empty queues that have memory.
#[derive(Debug)]
pub(super) struct Queues<T>(Vec<VecDeque<T>>);

/// Maximum number of queues that are kept, and of items for which each has memory.
const KEPT: usize = 64;
const CAPACITY_MAX: usize = 8;

impl<T> Default for Queues<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Queues<T> {
    /// Adds an item to the end of a queue, which gets memory from here if it has none.
    pub(super) fn push(&mut self, queue: &mut VecDeque<T>, item: T) {
        if queue.capacity() == 0
            && let Some(spare) = self.0.pop()
        {
            *queue = spare;
        }
        queue.push_back(item);
    }

    /// Takes the memory of a queue that is empty.
    pub(super) fn reclaim(&mut self, queue: &mut VecDeque<T>) {
        if queue.is_empty() && queue.capacity() > 0 {
            let queue = std::mem::take(queue);
            if queue.capacity() <= CAPACITY_MAX && self.0.len() < KEPT {
                self.0.push(queue);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_has_no_memory_and_the_next_one_uses_it() {
        let (mut queues, mut first, mut second) = (Queues::default(), VecDeque::new(), VecDeque::new());
        queues.push(&mut first, 1);
        queues.push(&mut first, 2);
        queues.reclaim(&mut first);
        assert_eq!(first, [1, 2], "it is not empty");
        first.clear();
        queues.reclaim(&mut first);
        assert_eq!((first.capacity(), queues.0.len()), (0, 1));
        queues.push(&mut second, 3);
        assert_eq!((second, queues.0.len()), (VecDeque::from([3]), 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut queues = Queues::default();
        let mut large = VecDeque::<u8>::with_capacity(CAPACITY_MAX + 1);
        queues.reclaim(&mut large);
        assert_eq!((large.capacity(), queues.0.len()), (0, 0), "a large one is freed");
        (0..2 * KEPT).for_each(|_| queues.reclaim(&mut VecDeque::with_capacity(4)));
        assert_eq!(queues.0.len(), KEPT);
    }
}
