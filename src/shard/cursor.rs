//! The cursor of one connection: which record it is given next, and the byte in that record. Nothing else waits for it.
//!
//! ```text
//!   confirmed ──▶ │ taken, not confirmed │ partly taken │ … │
//!                 └────── handed over ──────────┘
//! ```
//!
//! Writing has three steps. `copy` copies the next bytes and changes nothing, so that a panic while they are sealed
//! leaves the cursor as it was. `advance` follows once they are sealed and offered to the socket: a record whose bytes
//! have all been handed over is *taken*. Once the socket has all of them it is *confirmed*, that is, delivered.

use super::feed::Feed;
use crate::model::{
    Instant, Position,
    log::{ReadKey, Record},
};
use bytes::{Buf, Bytes};
use std::{collections::VecDeque, ops::RangeInclusive};

/// Where one connection stands in its gateway's log.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Offset of the last record whose bytes were all handed over.
    pub(super) taken: u64,
    /// Bytes handed over of the record behind it.
    at: usize,
    /// Offset of the last record of which the socket has all bytes.
    pub(super) confirmed: u64,
    /// [`crate::model::log::Record::bytes`] of the record at `taken`.
    bytes: u64,
    /// The feed's records from this offset on, and up to the next one, count this connection as a holder, unless they are
    /// confirmed.
    pub(super) held_from: u64,
    pub(super) held_until: u64,
    /// The epoch of those records. The feed of another epoch has other records at the same offsets.
    held_epoch: u64,
    /// Publishers of records from this offset on wait for this connection.
    pub(super) counted_from: u64,
    pub(super) stage: Stage,
}

/// Where the next bytes of a connection come from.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nowhere: its begin is not known yet.
    Joining,
    /// The feed's records.
    Live,
    /// The log: the record that comes next is not in the feed.
    CatchingUp(Box<CatchUp>),
    /// The rest of a frame that has begun. The connection is closing.
    Closing {
        rest: Bytes,
        /// With that rest the socket has the whole record.
        completes: bool,
    },
}

/// Records that were read from the log for one connection.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// With [`crate::model::log::Record::bytes`] of each.
    records: VecDeque<(Bytes, u64)>,
    /// Bytes of `records`.
    pub(super) held_bytes: usize,
    pub(super) read: Reading,
    /// Whether the connection is resumed depends on its first read.
    pub(super) undecided: bool,
    /// When the last read came.
    pub(super) read_at: Instant,
}

/// The state of a connection's next read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Reading {
    /// None is needed yet.
    #[default]
    No,
    /// It waits for its turn.
    Queued,
    /// The log was asked.
    Asked(ReadKey),
}

impl Cursor {
    /// The cursor of a connection that has not begun.
    pub(super) fn joining() -> Self {
        let nothing = u64::MAX;
        Self {
            taken: 0,
            at: 0,
            confirmed: 0,
            bytes: 0,
            held_from: nothing,
            held_until: nothing,
            held_epoch: 0,
            counted_from: nothing,
            stage: Stage::Joining,
        }
    }

    /// Goes on from the begin of a new epoch of the log.
    pub(super) fn rebase(&mut self, base: Position, bytes: u64) {
        debug_assert!(self.at == 0, "no record is partly taken");
        (self.taken, self.confirmed, self.bytes) = (base.offset, base.offset, bytes);
        self.go_live(base);
    }

    /// The offsets of the feed's records that count this connection as a holder, and from which on publishers wait for it.
    pub(super) fn held(&self, feed: &Feed) -> Option<(RangeInclusive<u64>, u64)> {
        (self.held_epoch == feed.end().epoch).then_some((self.held_from..=self.held_until, self.counted_from))
    }

    /// Whether a record is partly taken.
    pub(super) fn is_inside_record(&self) -> bool {
        self.at > 0
    }

    /// Is given events as the log tells them, from here on.
    pub(super) fn go_live(&mut self, end: Position) {
        (self.held_from, self.held_until, self.counted_from) = (self.taken + 1, u64::MAX, end.offset + 1);
        self.held_epoch = end.epoch;
        self.stage = Stage::Live;
    }

    /// Begins behind the record at an offset with these cumulative bytes.
    pub(super) fn begin(&mut self, offset: u64, bytes: u64, stage: Stage) {
        debug_assert!(matches!(self.stage, Stage::Joining), "a connection begins once");
        (self.taken, self.confirmed, self.bytes, self.stage) = (offset, offset, bytes, stage);
    }

    /// Begins behind the last record of the feed.
    pub(super) fn begin_live(&mut self, end: Position, bytes: u64) {
        // A connection whose resume has failed has begun elsewhere, and was given nothing yet.
        (self.taken, self.confirmed, self.bytes) = (end.offset, end.offset, bytes);
        self.go_live(end);
    }

    /// Whether it has not begun.
    pub(super) fn is_joining(&self) -> bool {
        matches!(self.stage, Stage::Joining)
    }

    /// Whether it is given events as the log tells them.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    pub(super) fn catch_up(&self) -> Option<&CatchUp> {
        if let Stage::CatchingUp(catch_up) = &self.stage { Some(catch_up) } else { None }
    }

    /// The last offset that it has taken, or that was read for it from the log.
    pub(super) fn read_up_to(&self) -> u64 {
        self.taken + self.catch_up().map_or(0, |catch_up| catch_up.len() as u64)
    }

    pub(super) fn catch_up_mut(&mut self) -> Option<&mut CatchUp> {
        if let Stage::CatchingUp(catch_up) = &mut self.stage { Some(catch_up) } else { None }
    }

    /// The first record of a connection that resumes: what is in front of it does not wait.
    pub(super) fn learn_bytes(&mut self, first: &Record) {
        self.bytes = first.bytes.saturating_sub(first.event.payload.len() as u64);
    }

    /// Bytes of payloads that wait for this connection in the log, up to `end`.
    pub(super) fn behind(&self, end: u64) -> u64 {
        if matches!(self.stage, Stage::Joining | Stage::Closing { .. }) { 0 } else { end.saturating_sub(self.bytes) }
    }

    /// The bytes of the `n`th record from here, 0 being the next one.
    fn frame<'a>(&'a self, feed: Option<&'a Feed>, n: usize) -> Option<&'a Bytes> {
        match &self.stage {
            Stage::Joining => None,
            Stage::Live => feed?.record(self.taken + 1 + n as u64).map(|record| &record.frame),
            Stage::CatchingUp(catch_up) => catch_up.records.get(n).map(|(frame, _)| frame),
            Stage::Closing { rest, .. } => (n == 0 && !rest.is_empty()).then_some(rest),
        }
    }

    /// Whether another frame, such as a ping, may be sent before the next byte of events.
    fn at_boundary(&self, feed: Option<&Feed>, boundary: fn(usize, usize) -> usize) -> bool {
        if let Stage::Closing { rest, .. } = &self.stage {
            return rest.is_empty();
        }
        // `boundary` gives the end of the frame that contains an offset, so the last byte taken is asked for its frame.
        self.at == 0 || self.frame(feed, 0).is_none_or(|frame| boundary(frame.len(), self.at - 1) == self.at)
    }

    /// The next bytes were handed over. Returns the bytes of records that this frees.
    pub(super) fn advance(&mut self, feed: Option<&Feed>, bytes: usize) -> usize {
        let (mut left, mut freed) = (bytes, 0);
        while left > 0 {
            let Some(length) = self.frame(feed, 0).map(Bytes::len) else {
                debug_assert!(false, "{left} bytes were handed over that did not wait");
                return freed;
            };
            let step = (length - self.at).min(left);
            self.at += step;
            left -= step;
            match &mut self.stage {
                Stage::Closing { rest, completes } => {
                    rest.advance(step);
                    self.at = 0;
                    self.taken += u64::from(*completes && rest.is_empty());
                    continue;
                }
                _ if self.at < length => continue,
                Stage::Live => self.bytes = feed.map_or(0, |feed| feed.bytes_at(self.taken + 1)),
                Stage::CatchingUp(catch_up) => {
                    if let Some((frame, bytes)) = catch_up.records.pop_front() {
                        self.bytes = bytes;
                        catch_up.held_bytes -= frame.len();
                        freed += frame.len();
                    }
                }
                Stage::Joining => {}
            }
            self.taken += 1;
            self.at = 0;
        }
        freed
    }

    /// Drops what was read and not begun, so that others can read. Returns the bytes that this frees.
    pub(super) fn give_back(&mut self) -> usize {
        let keeps = usize::from(self.at > 0);
        let Some(catch_up) = self.catch_up_mut() else { return 0 };
        let dropped = catch_up.records.drain(keeps.min(catch_up.records.len())..);
        let freed = dropped.map(|(frame, _)| frame.len()).sum();
        catch_up.held_bytes -= freed;
        freed
    }

    /// Begins to take records from the log, and not from the feed. A record that is partly taken is kept. Returns the bytes
    /// that are kept.
    pub(super) fn fall_behind(&mut self, feed: &Feed) -> usize {
        debug_assert!(self.is_live(), "only a live connection falls behind");
        let mut catch_up = CatchUp::default();
        if self.at > 0
            && let Some(record) = feed.record(self.taken + 1)
        {
            catch_up.held_bytes = record.frame.len();
            catch_up.records.push_back((record.frame.clone(), feed.bytes_at(self.taken + 1)));
        }
        let kept = catch_up.held_bytes;
        self.stage = Stage::CatchingUp(Box::new(catch_up));
        self.held_until = self.taken;
        kept
    }

    /// Whether the next record is in the feed, or will be the next that the log tells.
    pub(super) fn has_caught_up(&self, feed: &Feed) -> bool {
        self.catch_up().is_some_and(|catch_up| catch_up.records.is_empty()) && self.taken + 1 >= feed.first()
    }

    /// Stops all but the frame that has begun, because a close frame follows. Returns the offset behind which the
    /// connection gets nothing, and the bytes of records that this frees.
    pub(super) fn stop(&mut self, feed: Option<&Feed>, boundary: fn(usize, usize) -> usize) -> (u64, usize) {
        let mut end = self.taken;
        let (mut rest, mut completes) = (Bytes::new(), false);
        // The peer would read the bytes of a close frame as payload if they came inside of another frame. The event is
        // cut after this frame, so the peer gets an unfinished message and then the close, and never a wrong one.
        if !self.at_boundary(feed, boundary)
            && let Some(frame) = self.frame(feed, 0)
        {
            let until = boundary(frame.len(), self.at);
            rest = frame.slice(self.at..until);
            completes = until == frame.len();
            end += u64::from(completes);
        }
        let freed = self.catch_up().map_or(0, |catch_up| catch_up.held_bytes);
        self.at = 0;
        self.stage = Stage::Closing { rest, completes };
        (end, freed)
    }
}

impl CatchUp {
    /// Of a connection that is resumed if its first read shows that nothing is missing.
    pub(super) fn resuming() -> Self {
        Self { undecided: true, ..Self::default() }
    }

    /// Adds a record that was read from the log.
    pub(super) fn push(&mut self, frame: Bytes, bytes: u64) {
        self.held_bytes += frame.len();
        self.records.push_back((frame, bytes));
    }

    /// Number of records that are not taken yet.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

/// A read-only view of the events that wait for one connection. The session reads them through it, and cannot change
/// the shard.
#[derive(Clone, Copy)]
pub struct Waiting<'a> {
    /// `None` if the connection has left.
    pub(super) cursor: Option<&'a Cursor>,
    pub(super) feed: Option<&'a Feed>,
    pub(super) boundary: fn(usize, usize) -> usize,
}

impl Waiting<'_> {
    /// Appends up to `budget` of the next bytes to `out`, and returns how many. With `stop` it only copies to the end
    /// of a frame that has begun, so that another frame can follow.
    pub fn copy(&self, budget: usize, stop: bool, out: &mut Vec<u8>) -> usize {
        let Some(cursor) = self.cursor else { return 0 };
        if stop {
            let Some(frame) = cursor.frame(self.feed, 0).filter(|_| !self.at_boundary()) else { return 0 };
            let boundary = if let Stage::Closing { .. } = cursor.stage {
                frame.len()
            } else {
                (self.boundary)(frame.len(), cursor.at)
            };
            let end = boundary.min(cursor.at + budget);
            out.extend_from_slice(&frame[cursor.at..end]);
            return end - cursor.at;
        }
        let (mut left, mut n, mut at) = (budget, 0, cursor.at);
        while left > 0
            && let Some(frame) = cursor.frame(self.feed, n)
        {
            let step = (frame.len() - at).min(left);
            out.extend_from_slice(&frame[at..at + step]);
            left -= step;
            (n, at) = (n + 1, 0);
        }
        budget - left
    }

    /// Whether another frame may be sent before the next bytes of events.
    pub fn at_boundary(&self) -> bool {
        self.cursor.is_none_or(|cursor| cursor.at_boundary(self.feed, self.boundary))
    }

    /// Whether nothing waits that could be handed over now.
    pub fn is_drained(&self) -> bool {
        self.cursor.is_none_or(|cursor| cursor.frame(self.feed, 0).is_none())
    }
}
