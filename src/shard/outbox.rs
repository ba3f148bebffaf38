//! What waits for one socket: shared frames in order, bounded in bytes.
//!
//! ```text
//!   confirmed ──▶ │ taken, not confirmed │ partly taken │ waiting … │ ◀── push
//!                 └──── in flight ───────┴──────────────┘
//! ```
//!
//! An event's bytes are copied out first; the outbox moves on when they were handed over for writing. An event is *taken* then,
//! and *confirmed* when the socket has it whole.

use bytes::Bytes;
use std::collections::VecDeque;

/// The queue of one connection; `T` is what an entry stands for.
#[derive(Debug)]
pub struct Outbox<T> {
    entries: Entries<T>,
    /// Entries at the front whose bytes have all been taken.
    taken: usize,
    /// Bytes taken of the entry after those.
    offset: usize,
    /// Bytes of entries of which nothing was taken yet.
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    frame: Bytes,
    tag: Option<T>,
}

/// The outbox is over its bound; nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { entries: Entries::default(), taken: 0, offset: 0, waiting_bytes: 0 }
    }
}

impl<T> Outbox<T> {
    /// Queues an encoded event behind the others. One event may always wait, however large; beyond it `bytes_max` counts.
    ///
    /// # Errors
    /// [`Full`] where it would be over the bound.
    pub fn push(&mut self, frame: Bytes, tag: T, bytes_max: usize) -> Result<(), Full> {
        if self.waiting_bytes > 0 && self.waiting_bytes + frame.len() > bytes_max {
            return Err(Full);
        }
        debug_assert!(!frame.is_empty(), "an event has bytes");
        self.waiting_bytes += frame.len();
        self.entries.push_back(Entry { frame, tag: Some(tag) });
        Ok(())
    }

    /// Appends up to `budget` bytes of what comes next to `out`, and returns how many. With `stop`, stays within the frame that
    /// is begun, whose end is `boundary(length of the event, offset)`. Nothing moves on before [`Outbox::advance`].
    pub fn copy(&self, budget: usize, stop: bool, boundary: fn(usize, usize) -> usize, out: &mut Vec<u8>) -> usize {
        if stop {
            let Some(entry) = self.entries.get(self.taken).filter(|_| !self.at_boundary(boundary)) else { return 0 };
            let end = boundary(entry.frame.len(), self.offset).min(self.offset + budget);
            out.extend_from_slice(&entry.frame[self.offset..end]);
            return end - self.offset;
        }
        let (mut left, mut at, mut offset) = (budget, self.taken, self.offset);
        while left > 0
            && let Some(entry) = self.entries.get(at)
        {
            let step = (entry.frame.len() - offset).min(left);
            out.extend_from_slice(&entry.frame[offset..offset + step]);
            left -= step;
            (at, offset) = (at + 1, 0);
        }
        budget - left
    }

    /// The first `bytes` of what comes next were handed over for writing.
    pub fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let Some(entry) = self.entries.get(self.taken) else {
                debug_assert!(false, "{left} bytes were handed over that were not in the outbox");
                return;
            };
            let length = entry.frame.len();
            let step = (length - self.offset).min(left);
            if self.offset == 0 {
                debug_assert!(self.waiting_bytes >= length, "the bytes that wait are those of the events");
                self.waiting_bytes -= length;
            }
            self.offset += step;
            left -= step;
            if self.offset == length {
                self.taken += 1;
                self.offset = 0;
            }
        }
    }

    /// Whether another frame may be put between what was taken and what comes next.
    pub fn at_boundary(&self, boundary: fn(usize, usize) -> usize) -> bool {
        self.offset == 0
            || self
                .entries
                .get(self.taken)
                .is_none_or(|entry| boundary(entry.frame.len(), self.offset - 1) == self.offset)
    }

    /// Whether nothing is left to take.
    pub fn is_empty(&self) -> bool {
        self.taken == self.entries.len()
    }

    /// All that was taken is in the socket: forgets it and returns what it stood for, in order.
    pub fn confirm(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || {
            self.taken = self.taken.checked_sub(1)?;
            self.entries.pop_front()
        })
        .filter_map(|entry| entry.tag)
    }

    /// Gives the memory of a queue back, once it is empty.
    pub fn shrink(&mut self) {
        self.entries.shrink();
    }

    /// No event is to be written any more: returns what the unconfirmed ones stood for, in order. The frame that is begun
    /// stays, up to its end.
    pub fn abort(&mut self, boundary: fn(usize, usize) -> usize) -> Vec<T> {
        let tags = self.entries.iter_mut().filter_map(|entry| entry.tag.take()).collect();
        let rest = if self.at_boundary(boundary) {
            None
        } else {
            self.entries.get(self.taken).map(|entry| {
                let end = boundary(entry.frame.len(), self.offset);
                entry.frame.slice(..end)
            })
        };
        self.entries.clear();
        self.taken = 0;
        self.waiting_bytes = 0;
        match rest {
            Some(frame) => self.entries.push_back(Entry { frame, tag: None }),
            None => self.offset = 0,
        }
        tags
    }

    /// Whether more than `bytes_max` waits of which nothing was handed over yet.
    pub fn is_over(&self, bytes_max: usize) -> bool {
        self.waiting_bytes > bytes_max
    }

    /// Bytes that are not confirmed yet.
    pub fn queued_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.frame.len()).sum()
    }
}

/// Entries in order. The first has its place here: a connection that keeps up has one at the most, and asks the allocator for
/// nothing.
#[derive(Debug)]
struct Entries<T> {
    first: Option<Entry<T>>,
    /// What came while there was another.
    behind: VecDeque<Entry<T>>,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { first: None, behind: VecDeque::new() }
    }
}

impl<T> Entries<T> {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.behind.len()
    }

    fn push_back(&mut self, entry: Entry<T>) {
        if self.len() == 0 {
            self.first = Some(entry);
        } else {
            self.behind.push_back(entry);
        }
    }

    fn pop_front(&mut self) -> Option<Entry<T>> {
        self.first.take().or_else(|| self.behind.pop_front())
    }

    fn get(&self, index: usize) -> Option<&Entry<T>> {
        match (&self.first, index) {
            (None, index) => self.behind.get(index),
            (first, 0) => first.as_ref(),
            (_, index) => self.behind.get(index - 1),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.first.iter().chain(&self.behind)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry<T>> {
        self.first.iter_mut().chain(&mut self.behind)
    }

    fn clear(&mut self) {
        self.first = None;
        self.behind.clear();
    }

    /// Gives back what no entry is in.
    fn shrink(&mut self) {
        if self.behind.is_empty() && self.behind.capacity() > 0 {
            self.behind = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of ten bytes, cut anywhere.
    fn tens(length: usize, offset: usize) -> usize {
        ((offset / 10 + 1) * 10).min(length)
    }

    fn take(outbox: &mut Outbox<u32>, budget: usize, stop: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let copied = outbox.copy(budget, stop, tens, &mut out);
        assert_eq!(copied, out.len());
        outbox.advance(copied);
        out
    }

    fn bytes(length: usize) -> Bytes {
        (0..length).map(|i| i as u8).collect()
    }

    #[test]
    fn bytes_leave_in_order_whatever_the_budget() {
        for budget in 1..40 {
            let mut outbox = Outbox::default();
            let frames = [bytes(7), bytes(25), bytes(1)];
            for (tag, frame) in frames.iter().enumerate() {
                outbox.push(frame.clone(), tag as u32, 1_000).unwrap();
            }
            let mut all = Vec::new();
            while !outbox.is_empty() {
                all.extend(take(&mut outbox, budget, false));
            }
            assert_eq!(all, frames.concat());
            assert_eq!(outbox.confirm().collect::<Vec<_>>(), [0, 1, 2]);
            assert_eq!(outbox.queued_bytes(), 0);
        }
    }

    #[test]
    fn the_bound_counts_what_waits_and_one_event_may_always_wait() {
        let mut outbox = Outbox::default();
        outbox.push(bytes(50), 0, 20).unwrap();
        assert_eq!(outbox.push(bytes(1), 1, 20), Err(Full));
        take(&mut outbox, 1, false);
        outbox.push(bytes(19), 1, 20).unwrap();
        outbox.push(bytes(1), 2, 20).unwrap();
        assert_eq!(outbox.push(bytes(1), 3, 20), Err(Full));
        assert_eq!(outbox.queued_bytes(), 70);
    }

    #[test]
    fn only_whole_events_are_confirmed() {
        let mut outbox = Outbox::default();
        outbox.push(bytes(5), 0, 100).unwrap();
        outbox.push(bytes(5), 1, 100).unwrap();
        take(&mut outbox, 7, false);
        assert_eq!(outbox.confirm().collect::<Vec<_>>(), [0]);
        take(&mut outbox, 7, false);
        assert_eq!(outbox.confirm().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_begun_frame_is_ended_and_not_more() {
        let mut outbox = Outbox::default();
        outbox.push(bytes(25), 0, 100).unwrap();
        assert!(outbox.at_boundary(tens));
        take(&mut outbox, 3, false);
        assert!(!outbox.at_boundary(tens));
        assert_eq!(take(&mut outbox, 100, true), bytes(25)[3..10]);
        assert!(outbox.at_boundary(tens));
        assert!(take(&mut outbox, 100, true).is_empty());
        assert_eq!(take(&mut outbox, 100, false), bytes(25)[10..]);
    }

    #[test]
    fn aborting_gives_every_tag_back_once_and_keeps_the_begun_frame() {
        let mut outbox = Outbox::default();
        for tag in 0..3 {
            outbox.push(bytes(25), tag, 100).unwrap();
        }
        take(&mut outbox, 28, false);
        assert_eq!(outbox.abort(tens), [0, 1, 2]);
        assert_eq!(take(&mut outbox, 100, true), bytes(25)[3..10]);
        assert!(outbox.is_empty() && outbox.confirm().next().is_none());
        assert!(outbox.abort(tens).is_empty());
    }
}
