//! Queues that have no memory while they are empty, of which the feeds of a shard have two each: most are empty most of
//! the time. They use memory in turn, so that a publish does not allocate.

use std::collections::VecDeque;

/// A queue.
#[expect(clippy::box_collection, reason = "an empty queue has 8 bytes in its feed, not 32")]
#[derive(Debug)]
pub(super) struct Queue<T>(Option<Box<VecDeque<T>>>);

/// Memory of queues that are empty.
#[expect(clippy::vec_box, reason = "a queue takes the box")]
#[derive(Debug)]
pub(super) struct Spare<T>(Vec<Box<VecDeque<T>>>);

/// Maximum number of queues whose memory is kept, and of items for which each has memory.
const KEPT: usize = 64;
const CAPACITY_MAX: usize = 8;

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Queue<T> {
    /// Adds an item to the end. If the queue has no memory, it takes some of `spare`.
    pub(super) fn push(&mut self, item: T, spare: &mut Spare<T>) {
        self.0.get_or_insert_with(|| spare.0.pop().unwrap_or_default()).push_back(item);
    }

    /// Removes the first item.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    /// Gives its memory to `spare` if it is empty.
    pub(super) fn reclaim(&mut self, spare: &mut Spare<T>) {
        if let Some(queue) = self.0.take_if(|queue| queue.is_empty())
            && queue.capacity() <= CAPACITY_MAX
            && spare.0.len() < KEPT
        {
            spare.0.push(queue);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.get(0)
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.0.as_ref()?.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(index)
    }

    /// The items from this index on.
    pub(super) fn iter_mut_from(&mut self, index: usize) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(move |queue| queue.iter_mut().skip(index))
    }

    /// All items; the queue is empty then.
    pub(super) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.0.take().into_iter().flat_map(|queue| *queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_has_no_memory_and_the_next_one_uses_it() {
        let (mut spare, mut first, mut second) = (Spare::default(), Queue::default(), Queue::default());
        first.push(1, &mut spare);
        first.push(2, &mut spare);
        first.reclaim(&mut spare);
        assert_eq!((first.len(), first.pop(), first.pop(), first.pop()), (2, Some(1), Some(2), None));
        first.reclaim(&mut spare);
        assert_eq!((first.0.is_none(), first.len(), spare.0.len()), (true, 0, 1));
        second.push(3, &mut spare);
        assert_eq!((second.take().collect::<Vec<_>>(), spare.0.len()), (vec![3], 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spare = Spare::default();
        let mut large = Queue(Some(Box::new(VecDeque::<u8>::with_capacity(CAPACITY_MAX + 1))));
        large.reclaim(&mut spare);
        assert_eq!((large.0.is_none(), spare.0.len()), (true, 0), "a large one is freed");
        (0..2 * KEPT).for_each(|_| Queue(Some(Box::new(VecDeque::with_capacity(4)))).reclaim(&mut spare));
        assert_eq!(spare.0.len(), KEPT);
    }
}
