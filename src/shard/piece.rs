//! The bytes that a connection is given of one record.

use crate::model::{Frame, copy_pieces};
use std::ops::Range;

/// What a connection is given of one record.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) bytes: [&'a [u8]; 3],
    /// The connection is given the bytes up to here.
    pub(super) end: usize,
    /// The bytes in front of this are the event, those behind it the ping.
    pub(super) text: usize,
}

impl<'a> Piece<'a> {
    /// All of a frame.
    pub(super) fn whole(frame: &'a Frame) -> Self {
        Self { bytes: frame.pieces(), end: frame.len(), text: frame.event_bytes() }
    }

    pub(super) fn len(self) -> usize {
        self.end
    }

    /// A copy of a range of its bytes.
    pub(super) fn to_vec(self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.len());
        self.copy(range, &mut bytes);
        bytes
    }

    /// Appends a range of its bytes to `out`.
    pub(super) fn copy(self, range: Range<usize>, out: &mut Vec<u8>) {
        debug_assert!(range.end <= self.end);
        copy_pieces(self.bytes, range, out);
    }

    /// It is passed over.
    pub(super) fn is_empty(self) -> bool {
        self.end == 0
    }

    /// The end of the frame that has the byte at an offset. `boundary` gives it for an event.
    pub(super) fn boundary(self, offset: usize, boundary: fn(usize, usize) -> usize) -> usize {
        if offset < self.text { boundary(self.text, offset) } else { self.end }
    }
}
