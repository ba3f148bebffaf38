//! A feed: what the shard holds of the log of one gateway. That is how far the log has told it, and the records that a
//! connection has yet to take.
//!
//! ```text
//!   log ──▶ push │ first … last │      each connection has a cursor that moves to the right;
//!                └──────────────┘      a record that no connection holds any more leaves on the left
//! ```
//!
//! Each record is encoded once, for all connections. They refer to it by its offset, so a connection that waits for
//! nothing costs nothing here, and a slow one only keeps records that would have left.

use super::{
    connection_key::ConnectionKey,
    gateway_progress::GatewayProgress,
    in_flight::EventRef,
    processing::About,
    queues::{Queue, Spare},
};
use crate::model::{Buffers, DeliveryMode, Frame, Instant, Life, Position};
use smallvec::SmallVec;

/// What the shard knows of one gateway's log.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) life: Life,
    /// The log has said where the feed begins.
    pub(super) begun: bool,
    /// The log was too busy to be asked where the feed begins, and is asked again later. Events of its gateway are refused until
    /// then: the feed would begin behind them.
    pub(super) held_back: bool,
    /// The epoch of its positions.
    epoch: u64,
    /// Offset of the last record that the log has told.
    last: u64,
    /// [`crate::model::log::Record::bytes`] of that record.
    bytes: u64,
    /// The records up to `last`, without a gap: the log numbers the events of a gateway by ones.
    records: Queue<Recent>,
    /// Memory of `records`.
    held_bytes: usize,
    /// Its connections, but for those that are closing: `begun_count` that get events, in the order in which they began, and behind
    /// them those whose begin is not known yet.
    open: SmallVec<[ConnectionKey; 2]>,
    begun_count: u32,
    /// Index of the next connection to wake for a new record; `None` if all are woken.
    next_woken: Option<u32>,
    /// A record came after the first of them was woken for the one before.
    wakes_again: bool,
    /// Number of `connections` that take their records from the log.
    pub(super) behind: u32,
    /// Events of this shard's publishers that are kept, and that the log has not told yet.
    awaiting: Queue<(u64, EventRef)>,
    /// How the events of its gateway are delivered. A change of it ends the feed.
    pub(super) mode: DeliveryMode,
    /// How far the gateway has processed its events, once the log has said it. `None` for the delivery `written`; boxed, so that those stay small.
    pub(super) progress: Option<Box<GatewayProgress>>,
    /// With the delivery `written`: the last offset that a connection of the gateway had taken when it ended, or [`UNKNOWN`].
    left_at: u64,
    /// Number of events that the gateway had missed when it came back the last time.
    pub(super) missed: u32,
    /// Where it stood when the log told it no more the last time.
    pub(super) interrupted_at: Option<u64>,
    /// Number of connections that it has, those that are closing included.
    pub(super) members: u32,
    /// When it is removed, if it has no connection until then.
    pub(super) idle_until: Option<Instant>,
}

/// One record that a connection has yet to take.
#[derive(Debug)]
pub(super) struct Recent {
    /// Its encoded bytes.
    pub(super) frame: Frame,
    /// What it is, where pongs prove something.
    pub(super) about: Option<About>,
    /// Its type is one that a connection is not given if it comes later.
    pub(super) is_skipped: bool,
    /// Cumulative bytes of payloads before it.
    pub(super) before: u64,
    /// The publisher that waits for it.
    pub(super) of: Option<EventRef>,
    /// Number of connections that have it before them, or in a socket that has not taken all of it.
    pub(super) holders: u32,
    /// Number of those that the publisher waits for.
    pub(super) counted: u32,
}

impl Recent {
    /// One connection does not hold it any more. Returns the publisher if that waits for this connection.
    pub(super) fn let_go(&mut self, counted: bool) -> Option<EventRef> {
        debug_assert!(self.holders > 0, "a holder lets go once");
        self.holders -= 1;
        let of = self.of.filter(|_| counted)?;
        self.counted -= 1;
        Some(of)
    }

    fn memory(&self) -> usize {
        self.frame.len() + RECORD_OVERHEAD
    }
}

/// Memory of a record beside its bytes: its entry, the header of its bytes, and the publisher's entry.
const RECORD_OVERHEAD: usize = 192;

/// The value of `left_at` for a gateway of which no connection has ended.
const UNKNOWN: u64 = u64::MAX;

/// What the feeds of a shard use in turn: memory for texts, records and publishers that wait.
#[derive(Debug, Default)]
pub(super) struct Spares {
    pub(super) texts: Buffers,
    records: Spare<Recent>,
    awaiting: Spare<(u64, EventRef)>,
}

impl Feed {
    pub(super) fn new(life: Life, mode: DeliveryMode) -> Self {
        Self {
            life,
            begun: false,
            held_back: false,
            epoch: 0,
            last: 0,
            bytes: 0,
            records: Queue::default(),
            held_bytes: 0,
            open: SmallVec::new(),
            begun_count: 0,
            next_woken: None,
            wakes_again: false,
            behind: 0,
            awaiting: Queue::default(),
            mode,
            progress: None,
            left_at: UNKNOWN,
            missed: 0,
            interrupted_at: None,
            members: 0,
            idle_until: None,
        }
    }

    /// The log tells what is behind this position.
    pub(super) fn begin(&mut self, position: Position, bytes: u64) {
        debug_assert!(self.records.is_empty(), "what was held before would not be in front of this position");
        self.begun = true;
        (self.epoch, self.last, self.bytes) = (position.epoch, position.offset, bytes);
    }

    /// The position of the last record that the log has told.
    pub(super) fn end(&self) -> Position {
        Position { epoch: self.epoch, offset: self.last }
    }

    /// The cumulative bytes at [`Feed::end`].
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Offset of the first record held; one beyond the last if none is.
    pub(super) fn first(&self) -> u64 {
        self.last + 1 - self.records.len() as u64
    }

    /// Memory of the records held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The record at an offset, if it is held.
    pub(super) fn record(&self, offset: u64) -> Option<&Recent> {
        self.records.get(self.index(offset)?)
    }

    /// The record at an offset, if it is held.
    pub(super) fn record_mut(&mut self, offset: u64) -> Option<&mut Recent> {
        let index = self.index(offset)?;
        self.records.get_mut(index)
    }

    /// One more connection takes the held records from this offset on.
    pub(super) fn add_holder(&mut self, first: u64) {
        let index = usize::try_from(first.saturating_sub(self.first())).unwrap_or(usize::MAX);
        for record in self.records.iter_mut_from(index) {
            record.holders += 1;
        }
    }

    fn index(&self, offset: u64) -> Option<usize> {
        offset.checked_sub(self.first()).and_then(|index| usize::try_from(index).ok())
    }

    /// The cumulative bytes up to the record at an offset, which is the last or in front of a record that is held.
    pub(super) fn bytes_at(&self, offset: u64) -> u64 {
        self.record(offset + 1).map_or(self.bytes, |record| record.before)
    }

    /// Adds the next record that the log has told, with its [`crate::model::log::Record::bytes`]. Returns the memory that
    /// it takes.
    pub(super) fn push(&mut self, record: Recent, bytes: u64, spares: &mut Spares) -> usize {
        debug_assert_eq!(record.before, self.bytes);
        self.last += 1;
        self.bytes = bytes;
        let memory = record.memory();
        self.held_bytes += memory;
        self.records.push(record, &mut spares.records);
        memory
    }

    /// Removes the oldest record. Returns the memory that it frees.
    pub(super) fn pop(&mut self) -> Option<(Recent, usize)> {
        let record = self.records.pop()?;
        let memory = record.memory();
        self.held_bytes -= memory;
        Some((record, memory))
    }

    /// Removes the records at the front that no connection holds. Returns the memory that they had.
    pub(super) fn release(&mut self, spares: &mut Spares) -> usize {
        let mut freed = 0;
        while self.records.front().is_some_and(|record| record.holders == 0)
            && let Some((record, memory)) = self.pop()
        {
            spares.texts.put(record.frame.into_buffer());
            freed += memory;
        }
        self.records.reclaim(&mut spares.records);
        freed
    }

    /// Its connections that get events, in the order in which they began.
    pub(super) fn connections(&self) -> &[ConnectionKey] {
        &self.open[..self.begun_count as usize]
    }

    /// Its connections whose begin is not known yet.
    pub(super) fn joining(&self) -> &[ConnectionKey] {
        &self.open[self.begun_count as usize..]
    }

    /// All of its connections, but for those that are closing.
    pub(super) fn open(&self) -> &[ConnectionKey] {
        &self.open
    }

    /// Adds a connection whose begin is not known yet.
    pub(super) fn join(&mut self, key: ConnectionKey) {
        self.open.push(key);
    }

    /// The begin of a connection is known: it gets events from now on.
    pub(super) fn start(&mut self, key: ConnectionKey) {
        let joining = &mut self.open[self.begun_count as usize..];
        if let Some(index) = joining.iter().position(|other| *other == key) {
            joining[..=index].rotate_right(1);
            self.begun_count += 1;
        }
    }

    /// Number of its connections that are given records as the log tells them.
    pub(super) fn live(&self) -> u32 {
        self.begun_count - self.behind
    }

    /// Its connections are to be woken for a new record. Returns false if that goes on already.
    pub(super) fn begin_wake(&mut self) -> bool {
        // Those at the end come first, then the ones that were woken for an earlier record: so all are woken, however
        // fast the records come.
        self.wakes_again |= self.next_woken.is_some_and(|next| next > 0);
        let begins = self.next_woken.is_none();
        self.next_woken = self.next_woken.or(Some(0));
        begins
    }

    /// The next connection to wake; `None` once all are.
    pub(super) fn next_woken(&mut self) -> Option<ConnectionKey> {
        let next = self.next_woken?;
        self.next_woken = Some(next + 1);
        self.connections().get(next as usize).copied()
    }

    /// All connections are woken. Returns whether they are to be woken again.
    pub(super) fn end_wake(&mut self) -> bool {
        let again = std::mem::take(&mut self.wakes_again);
        self.next_woken = again.then_some(0);
        again
    }

    /// Removes a connection that is closing. The others keep their order.
    pub(super) fn remove_connection(&mut self, key: ConnectionKey) {
        let Some(index) = self.open.iter().position(|other| *other == key) else { return };
        self.open.remove(index);
        self.begun_count -= u32::from(index < self.begun_count as usize);
        if let Some(next) = self.next_woken.as_mut().filter(|next| **next as usize > index) {
            *next -= 1;
        }
    }

    /// A publisher waits until the log tells the record at this offset.
    pub(super) fn await_record(&mut self, offset: u64, of: EventRef, spares: &mut Spares) {
        self.awaiting.push((offset, of), &mut spares.awaiting);
    }

    /// The publisher that waits for the record at this offset.
    pub(super) fn take_awaiting(&mut self, offset: u64, spares: &mut Spares) -> Option<EventRef> {
        if self.awaiting.front()?.0 != offset {
            return None;
        }
        let of = self.awaiting.pop().map(|(_, of)| of);
        self.awaiting.reclaim(&mut spares.awaiting);
        of
    }

    /// Every publisher that waits; the log tells none of their records any more.
    pub(super) fn take_all_awaiting(&mut self) -> impl Iterator<Item = (u64, EventRef)> + use<> {
        self.awaiting.take()
    }

    /// Whether pongs of its gateway's connections prove what was processed.
    pub(super) fn is_proved(&self) -> bool {
        self.mode == DeliveryMode::Processed
    }

    /// The last offset that a connection of the gateway had taken when it ended, with the delivery `written`.
    pub(super) fn left_at(&self) -> Option<u64> {
        (self.left_at != UNKNOWN).then_some(self.left_at)
    }

    /// A connection of the gateway has ended that had taken everything up to this offset.
    pub(super) fn leave_at(&mut self, offset: u64) {
        self.left_at = self.left_at().map_or(offset, |before| before.max(offset));
    }

    /// Whether it is certain at a glance that every connection has all records that the log has told.
    pub(super) fn has_given_all(&self) -> bool {
        self.records.is_empty() && self.behind == 0 && self.joining().is_empty()
    }

    /// Whether no connection needs it.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}
