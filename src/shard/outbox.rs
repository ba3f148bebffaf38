//! The outbox of one connection: its events that are not written to the socket yet, in order and bounded in bytes.
//!
//! ```text
//!   confirmed ──▶ │ taken, not confirmed │ partly taken │ waiting … │ ◀── push
//!                 └─────── handed over ──────────┘
//! ```
//!
//! Writing has three steps. `copy` copies the next bytes and changes nothing, so that a panic while they are sealed
//! leaves the outbox as it was. `advance` follows once they are sealed and offered to the socket: an event whose bytes
//! have all been handed over is *taken*. `confirm` follows once the socket has taken all of them: the events are
//! delivered.

use bytes::Bytes;
use std::collections::VecDeque;

/// The queue of one connection. Each entry has a tag of type `T`, which comes back when the entry is confirmed or
/// aborted.
#[derive(Debug)]
pub struct Outbox<T> {
    entries: Entries<T>,
    /// Number of entries at the front that are taken.
    taken: usize,
    /// Number of bytes taken of the next entry.
    offset: usize,
    /// Bytes of the entries of which nothing was taken yet. A partly taken event does not count against the bound: it
    /// cannot be taken back, because its frame has begun.
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    frame: Bytes,
    /// `None` for the rest of a frame after [`Outbox::abort`].
    tag: Option<T>,
}

/// The event would exceed the bound; it was not queued.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { entries: Entries::default(), taken: 0, offset: 0, waiting_bytes: 0 }
    }
}

impl<T> Outbox<T> {
    /// Queues an encoded event. If no other event waits it is always queued, whatever its size.
    ///
    /// # Errors
    /// [`Full`] if others wait and more than `bytes_max` bytes would wait with this one.
    pub fn push(&mut self, frame: Bytes, tag: T, bytes_max: usize) -> Result<(), Full> {
        // The bound may be configured below the size of the largest event, which must be deliverable all the same.
        if self.waiting_bytes > 0 && self.waiting_bytes + frame.len() > bytes_max {
            return Err(Full);
        }
        debug_assert!(!frame.is_empty(), "an event has bytes");
        self.waiting_bytes += frame.len();
        self.entries.push_back(Entry { frame, tag: Some(tag) });
        Ok(())
    }

    /// Appends up to `budget` of the next bytes to `out`, and returns how many. With `stop` it only copies to the end
    /// of a frame that has begun, so that another frame can follow; that end is `boundary(length of the event,
    /// offset)`.
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

    /// Takes the next `bytes`: they were handed over for writing.
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
                debug_assert!(self.waiting_bytes >= length, "`waiting_bytes` includes every event that waits");
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

    /// Whether another frame, such as a ping, may be sent before the next byte of this outbox.
    pub fn at_boundary(&self, boundary: fn(usize, usize) -> usize) -> bool {
        // `boundary` gives the end of the frame that contains an offset, so the last byte taken is asked for its frame.
        self.offset == 0
            || self
                .entries
                .get(self.taken)
                .is_none_or(|entry| boundary(entry.frame.len(), self.offset - 1) == self.offset)
    }

    /// Whether every byte was taken.
    pub fn is_empty(&self) -> bool {
        self.taken == self.entries.len()
    }

    /// Removes the entries that were taken, because the socket has all of their bytes, and returns their tags in order.
    pub fn confirm(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || {
            self.taken = self.taken.checked_sub(1)?;
            self.entries.pop_front()
        })
        .filter_map(|entry| entry.tag)
    }

    /// Frees the queue's memory if it is empty.
    pub fn shrink(&mut self) {
        self.entries.shrink();
    }

    /// Drops all events, and returns the tags of those that were not confirmed, in order. Of a frame that has begun the
    /// rest stays.
    pub fn abort(&mut self, boundary: fn(usize, usize) -> usize) -> Vec<T> {
        // The peer would read the bytes of a close frame as payload if they came inside of another frame. The event is
        // cut after this frame, so the peer gets an unfinished message and then the close, and never a wrong one.
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

    /// Whether more than `bytes_max` bytes wait, without the event that is partly taken.
    pub fn is_over(&self, bytes_max: usize) -> bool {
        self.waiting_bytes > bytes_max
    }

    /// Bytes of all entries that are not confirmed.
    pub fn queued_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.frame.len()).sum()
    }
}

/// Entries in order. The first is stored inline: a connection that keeps up has one entry at most, so delivering to it
/// allocates nothing.
#[derive(Debug)]
struct Entries<T> {
    first: Option<Entry<T>>,
    /// Entries that came while there was another one.
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

    fn shrink(&mut self) {
        // A queue that is not empty keeps its capacity, or each further event could reallocate it.
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
    fn bytes_are_taken_in_order_whatever_the_budget() {
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
    fn the_bound_counts_waiting_bytes_and_one_event_may_always_wait() {
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
    fn with_stop_only_the_frame_that_has_begun_is_copied() {
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
    fn aborting_returns_every_tag_once_and_keeps_the_frame_that_has_begun() {
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
