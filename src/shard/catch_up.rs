//! What was read from the log for one connection that catches up, and the state of its next read.

use super::processing::About;
use crate::model::{Frame, Instant, log::ReadKey};
use std::collections::VecDeque;

/// Records that were read from the log for one connection.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    pub(super) records: VecDeque<Chunked>,
    /// Bytes of `records`.
    pub(super) held_bytes: usize,
    pub(super) read: Reading,
    /// Where the connection begins depends on its first read.
    pub(super) is_undecided: bool,
    /// What its gateway is told then; `None` if it has not asked to resume.
    pub(super) resumed: Option<bool>,
    /// The next read asks for one event only, because there is a damaged one among the next.
    pub(super) is_single: bool,
    /// When the last read came.
    pub(super) read_at: Instant,
}

/// A record that was read for one connection.
#[derive(Debug)]
pub(super) struct Chunked {
    /// Its encoded bytes; none if it is passed over.
    pub(super) frame: Frame,
    /// Its [`crate::model::log::Record::bytes`].
    pub(super) bytes: u64,
    /// What it is, for a connection whose pongs prove something.
    pub(super) about: Option<About>,
    /// Why it is passed over, if it is.
    pub(super) passed: Option<&'static str>,
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

impl CatchUp {
    /// Of a connection that begins in the past if its first read shows that nothing is missing.
    pub(super) fn undecided(resumed: Option<bool>) -> Self {
        Self { is_undecided: true, resumed, ..Self::default() }
    }

    /// Adds a record that was read from the log.
    pub(super) fn push(&mut self, record: Chunked) {
        self.held_bytes += record.frame.len();
        self.records.push_back(record);
    }

    /// Number of records that are not taken yet.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}
