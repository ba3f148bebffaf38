//! The view that a session has of the events that wait for its connection.

use super::{
    cursor::{Cursor, Stage},
    feed::Feed,
    piece::Piece,
};
use crate::model::Position;

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
            let Some(piece) = cursor.piece(self.feed, 0).filter(|_| !self.at_boundary()) else { return 0 };
            let is_closing = matches!(cursor.stage, Stage::Closing(_));
            let boundary = if is_closing { piece.len() } else { piece.boundary(cursor.at(), self.boundary) };
            let end = boundary.min(cursor.at() + budget);
            piece.copy(cursor.at()..end, out);
            return end - cursor.at();
        }
        let (mut left, mut n, mut at, mut room) = (budget, 0, cursor.at(), cursor.room());
        while left > 0
            && room > 0
            && let Some(piece) = cursor.piece(self.feed, n).filter(|piece| !piece.is_empty())
        {
            let step = (piece.len() - at).min(left);
            piece.copy(at..at + step, out);
            left -= step;
            (n, at, room) = (n + 1, 0, room - 1);
        }
        budget - left
    }

    /// Whether another frame may be sent before the next bytes of events.
    pub fn at_boundary(&self) -> bool {
        self.cursor.is_none_or(|cursor| cursor.at_boundary(self.feed, self.boundary))
    }

    /// Whether nothing waits that could be handed over now. What the window has no room for does not wait.
    pub fn is_drained(&self) -> bool {
        self.cursor.is_none_or(|cursor| cursor.room() == 0 || cursor.piece(self.feed, 0).is_none_or(Piece::is_empty))
    }

    /// Whether the next byte of events is the first of one.
    pub fn begins_event(&self) -> bool {
        self.cursor.is_some_and(|cursor| cursor.at() == 0 && !matches!(cursor.stage, Stage::Closing(_)))
            && !self.is_drained()
    }

    /// The position of the last event that was handed over whole; `None` if pongs of this connection prove nothing.
    pub fn ping_position(&self) -> Option<Position> {
        let (cursor, feed) = (self.cursor?, self.feed?);
        cursor.processing.as_ref().map(|processing| Position { offset: processing.ping_offset(), ..feed.end() })
    }

    /// Whether events were handed over whole that the gateway has not processed.
    pub fn is_processing(&self) -> bool {
        let processing = self.cursor.and_then(|cursor| cursor.processing.as_ref());
        processing.is_some_and(|processing| !processing.is_idle())
    }
}
