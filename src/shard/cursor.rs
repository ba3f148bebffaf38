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

use super::{
    catch_up::{CatchUp, Chunked},
    feed::{Feed, Recent},
    piece::Piece,
    processing::{About, Processing},
};
use crate::model::{Frame, Position, log::Record};
use bytes::{Buf, Bytes};
use std::ops::RangeInclusive;

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
    /// What the gateway has and has not processed; `None` where its pongs prove nothing.
    pub(super) processing: Option<Box<Processing>>,
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
    Closing(Box<Rest>),
}

/// The rest of a frame.
#[derive(Debug)]
pub(super) struct Rest {
    bytes: Bytes,
    /// With it the socket has the whole record.
    completes: bool,
}

impl Rest {
    /// The socket has the whole record once it has what is left here.
    pub(super) fn completes(&self) -> bool {
        self.completes && !self.bytes.is_empty()
    }
}

/// The next record of a connection, which is passed over.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) offset: u64,
    pub(super) about: Option<About>,
    /// One of the reasons beside [`super::counters::REPLAY`].
    pub(super) why: &'static str,
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
            processing: None,
        }
    }

    /// Goes on from the begin of a new epoch of the log.
    pub(super) fn rebase(&mut self, base: Position, bytes: u64) {
        debug_assert!(self.at == 0, "no record is partly taken");
        (self.taken, self.confirmed, self.bytes) = (base.offset, base.offset, bytes);
        if let Some(processing) = &mut self.processing {
            processing.rebase(base.offset);
        }
        self.go_live(base);
    }

    /// The offsets of the feed's records that count this connection as a holder.
    pub(super) fn held(&self, feed: &Feed) -> Option<RangeInclusive<u64>> {
        (self.held_epoch == feed.end().epoch).then_some(self.held_from..=self.held_until)
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

    /// The cumulative bytes of what it has taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
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
        if matches!(self.stage, Stage::Joining | Stage::Closing(_)) { 0 } else { end.saturating_sub(self.bytes) }
    }

    /// Whether the publisher of the event at an offset waits until this connection has it.
    pub(super) fn counts(&self, offset: u64) -> bool {
        offset >= self.counted_from && self.processing.as_ref().is_none_or(|processing| processing.counts(offset))
    }

    /// Events that may be begun before the gateway has processed one.
    pub(super) fn room(&self) -> usize {
        self.processing.as_ref().map_or(usize::MAX, |processing| processing.room())
    }

    /// What this connection is given of the `n`th record from here, 0 being the next one. The window is not looked at.
    pub(super) fn piece<'a>(&'a self, feed: Option<&'a Feed>, n: usize) -> Option<Piece<'a>> {
        match &self.stage {
            Stage::Joining => None,
            Stage::Live => {
                let offset = self.taken + 1 + n as u64;
                feed?.record(offset).map(|record| self.piece_of(record, offset))
            }
            Stage::CatchingUp(catch_up) => catch_up.records.get(n).map(|record| Piece::whole(&record.frame)),
            Stage::Closing(rest) => {
                let end = rest.bytes.len();
                (n == 0 && end > 0).then_some(Piece { bytes: [&rest.bytes, &[], &[]], end, text: end })
            }
        }
    }

    fn piece_of<'a>(&self, record: &'a Recent, offset: u64) -> Piece<'a> {
        let piece = Piece::whole(&record.frame);
        let end = match &self.processing {
            Some(processing) if processing.passes_over(offset, record.is_skipped).is_some() => 0,
            Some(_) => piece.end,
            // The ping behind an event is for those whose pongs prove something.
            None => piece.text,
        };
        Piece { end, ..piece }
    }

    /// Whether another frame, such as a ping, may be sent before the next byte of events.
    pub(super) fn at_boundary(&self, feed: Option<&Feed>, boundary: fn(usize, usize) -> usize) -> bool {
        if let Stage::Closing(rest) = &self.stage {
            return rest.bytes.is_empty();
        }
        // `boundary` gives the end of the frame that contains an offset, so the last byte taken is asked for its frame.
        self.at == 0 || self.piece(feed, 0).is_none_or(|piece| piece.boundary(self.at - 1, boundary) == self.at)
    }

    /// Bytes handed over of the record behind `taken`.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next bytes were handed over. Returns the bytes of records that this frees.
    pub(super) fn advance(&mut self, feed: Option<&Feed>, bytes: usize) -> usize {
        let (mut left, mut freed) = (bytes, 0);
        while left > 0 {
            let Some(length) = self.piece(feed, 0).map(Piece::len).filter(|length| *length > 0) else {
                debug_assert!(false, "{left} bytes were handed over that did not wait");
                return freed;
            };
            let step = (length - self.at).min(left);
            self.at += step;
            left -= step;
            if let Stage::Closing(rest) = &mut self.stage {
                rest.bytes.advance(step);
                self.at = 0;
                self.taken += u64::from(rest.completes && rest.bytes.is_empty());
            } else if self.at == length {
                freed += self.take(feed, false);
            }
        }
        freed
    }

    /// The next record, if it is to be passed over.
    pub(super) fn next_passed(&self, feed: Option<&Feed>) -> Option<Passed> {
        let (offset, processing) = (self.taken + 1, self.processing.as_ref()?);
        let (about, why) = match &self.stage {
            Stage::CatchingUp(catch_up) => {
                let record = catch_up.records.front()?;
                (record.about.clone(), record.passed?)
            }
            Stage::Live => {
                let record = feed?.record(offset)?;
                (record.about.clone(), processing.passes_over(offset, record.is_skipped)?)
            }
            Stage::Joining | Stage::Closing(_) => return None,
        };
        Some(Passed { offset, about, why })
    }

    /// Passes over the next record. Returns the bytes that this frees.
    pub(super) fn pass_over(&mut self, feed: Option<&Feed>) -> usize {
        debug_assert_eq!(self.at, 0, "no byte of it was handed over");
        self.take(feed, true)
    }

    /// The next record was handed over whole, or is passed over. Returns the bytes that this frees.
    fn take(&mut self, feed: Option<&Feed>, is_passed: bool) -> usize {
        let offset = self.taken + 1;
        let (mut about, mut freed) = (None, 0);
        let is_given = self.processing.is_some() && !is_passed;
        match &mut self.stage {
            Stage::Live => {
                self.bytes = feed.map_or(0, |feed| feed.bytes_at(offset));
                about = feed.filter(|_| is_given).and_then(|feed| feed.record(offset)?.about.clone());
            }
            Stage::CatchingUp(catch_up) => {
                if let Some(record) = catch_up.records.pop_front() {
                    (self.bytes, about, freed) = (record.bytes, record.about, record.frame.len());
                    catch_up.held_bytes -= freed;
                }
            }
            Stage::Joining | Stage::Closing(_) => {}
        }
        (self.taken, self.at) = (offset, 0);
        let Some(processing) = &mut self.processing else { return freed };
        match about.filter(|_| !is_passed) {
            Some(about) => processing.give(offset, about),
            None => processing.pass(offset),
        }
        freed
    }

    /// The offset of the first event that the gateway has and has not processed.
    pub(super) fn first_in_flight(&self) -> Option<u64> {
        self.processing.as_ref()?.first().map(|(first, _)| first.offset)
    }

    /// Drops what was read and not begun, so that others can read. Returns the bytes that this frees.
    pub(super) fn give_back(&mut self) -> usize {
        let keeps = usize::from(self.at > 0);
        let Some(catch_up) = self.catch_up_mut() else { return 0 };
        let dropped = catch_up.records.drain(keeps.min(catch_up.records.len())..);
        let freed = dropped.map(|record| record.frame.len()).sum();
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
            let piece = self.piece_of(record, self.taken + 1);
            let frame = Frame::whole(piece.to_vec(0..piece.end), piece.end - piece.text);
            let (bytes, about) = (feed.bytes_at(self.taken + 1), record.about.clone());
            catch_up.push(Chunked { frame, bytes, about, passed: None });
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
        let mut rest = Rest { bytes: Bytes::new(), completes: false };
        // The peer would read the bytes of a close frame as payload if they came inside of another frame. The event is
        // cut after this frame, so the peer gets an unfinished message and then the close, and never a wrong one.
        if !self.at_boundary(feed, boundary)
            && let Some(piece) = self.piece(feed, 0)
        {
            let until = piece.boundary(self.at, boundary);
            rest.bytes = piece.to_vec(self.at..until).into();
            // The ping behind it is not sent: no pong could come.
            rest.completes = until >= piece.text;
            end += u64::from(rest.completes);
        }
        let freed = self.catch_up().map_or(0, |catch_up| catch_up.held_bytes);
        self.at = 0;
        self.stage = Stage::Closing(Box::new(rest));
        (end, freed)
    }
}
