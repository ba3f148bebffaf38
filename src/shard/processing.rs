//! What one connection has been given and its gateway has not processed: the window, and what pongs have proved
//! (contract section 1, delivery `processed`).
//!
//! ```text
//!   processed ──▶ │ in flight: each with a ping behind it │ ──▶ taken by the socket ──▶ waits for the window
//!                 └── a pong answers all before it ───────┘
//! ```

use super::counters;
use crate::model::{CorrelationId, EventType, Instant, Timestamp};
use std::{collections::VecDeque, time::Duration};

/// What an event is, for logs and statistics. Its payload is not needed any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// Its type.
    pub kind: EventType,
    /// Its correlation id.
    pub correlation: CorrelationId,
}

/// An event that was handed over whole.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) offset: u64,
    pub(super) about: About,
    /// `None` until the socket has taken its ping.
    pub(super) written: Option<Written>,
}

/// When the kernel had taken an event with its ping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    at: Instant,
    wall: Timestamp,
    /// Bytes that it had taken of the connection then: once the peer has acknowledged as many, it has the event.
    sent_bytes: u64,
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Processing {
    window: u32,
    /// The offset behind which the connection has begun.
    begin: u64,
    /// The last offset that was handed over whole, or passed over.
    reached: u64,
    /// Each event up to this offset was processed, or passed over, since the connection began behind an event that was.
    processed: u64,
    in_flight: VecDeque<Given>,
    /// When the last pong came: the first event in flight is not handled before.
    answered: Option<(Instant, Timestamp)>,
    /// The gateway's last event when the connection began. Up to here some types are passed over.
    pub(super) replay_until: u64,
    /// An event that is passed over because the gateway never gets past it.
    pub(super) poison: Option<u64>,
    /// Ranges of offsets whose publishers do not wait for this connection, because its window was full when they came.
    uncounted: VecDeque<(u64, u64)>,
}

impl Processing {
    /// Of a connection that begins behind an offset.
    pub(super) fn new(window: u32, begin: u64, replay_until: u64, poison: Option<u64>) -> Self {
        Self {
            window,
            begin,
            reached: begin,
            processed: begin,
            in_flight: VecDeque::new(),
            answered: None,
            replay_until,
            poison,
            uncounted: VecDeque::new(),
        }
    }

    /// Up to where every event was processed or passed over.
    pub(super) fn processed(&self) -> u64 {
        self.processed
    }

    /// The offset behind which the connection has begun.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// Events that may be begun now.
    pub(super) fn room(&self) -> usize {
        (self.window as usize).saturating_sub(self.in_flight.len())
    }

    /// The first event that the gateway has and has not processed, and since when it can be at work on it. `None` while the
    /// socket has not taken all of it.
    pub(super) fn first(&self) -> Option<(&Given, Timestamp)> {
        let first = self.in_flight.front()?;
        let written = first.written?;
        let since = self.answered.filter(|(at, _)| *at > written.at).map_or(written.wall, |(_, wall)| wall);
        Some((first, since))
    }

    /// The offset that a ping names which is sent now: that of the last event that was handed over.
    pub(super) fn ping_offset(&self) -> u64 {
        self.in_flight.back().map_or(self.processed, |last| last.offset)
    }

    /// Whether no event is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Why the event at an offset is not given to this connection, if it is not. `is_skipped` if its type is one of those that are
    /// not delivered late.
    pub(super) fn passes_over(&self, offset: u64, is_skipped: bool) -> Option<&'static str> {
        if self.poison == Some(offset) {
            return Some(counters::POISON);
        }
        (is_skipped && offset <= self.replay_until).then_some(counters::REPLAY)
    }

    /// The event behind those that were taken was handed over whole.
    pub(super) fn give(&mut self, offset: u64, about: About) {
        debug_assert!(self.in_flight.back().is_none_or(|last| last.offset < offset), "in order");
        self.reached = offset;
        self.in_flight.push_back(Given { offset, about, written: None });
    }

    /// The event at this offset, which is the next one, is passed over.
    pub(super) fn pass(&mut self, offset: u64) {
        self.reached = offset;
        if self.in_flight.is_empty() {
            self.processed = offset;
        }
    }

    /// The socket has taken all that was handed over. Returns the number of events that it has taken by that.
    pub(super) fn handle_written(&mut self, (at, wall): (Instant, Timestamp), sent_bytes: u64) -> u64 {
        let mut events = 0;
        for given in self.in_flight.iter_mut().rev().take_while(|given| given.written.is_none()) {
            given.written = Some(Written { at, wall, sent_bytes });
            events += 1;
        }
        events
    }

    /// A pong names this offset. Returns whether a ping that the kernel
    /// has taken behind an unprocessed event names it. Then `took` is called with the time that the gateway took for each event.
    pub(super) fn handle_pong(
        &mut self,
        (now, wall): (Instant, Timestamp),
        offset: u64,
        mut took: impl FnMut(Duration),
    ) -> bool {
        let Ok(index) = self.in_flight.binary_search_by_key(&offset, |given| given.offset) else { return false };
        if self.in_flight[index].written.is_none() {
            return false;
        }
        let mut begun = self.answered.map_or(Instant::default(), |(at, _)| at);
        for given in self.in_flight.drain(..=index) {
            let written = given.written.map_or(now, |written| written.at);
            took(now.since(written.max(begun)));
            // Where one pong answers several pings, the first event stands for the time of all.
            begun = now;
        }
        self.answered = Some((now, wall));
        self.processed = self.in_flight.front().map_or(self.reached, |next| next.offset - 1);
        true
    }

    /// Whether the peer's kernel has the first event in flight, if it has acknowledged this number of bytes.
    pub(super) fn reached(&self, acknowledged_bytes: u64) -> Option<&Given> {
        let first = self.in_flight.front()?;
        first.written.filter(|written| acknowledged_bytes >= written.sent_bytes).map(|_| first)
    }

    /// The publisher of the event at this offset does not wait for this connection.
    pub(super) fn leave_uncounted(&mut self, offset: u64) {
        match self.uncounted.back_mut() {
            Some((_, last)) if *last + 1 == offset => *last = offset,
            _ => self.uncounted.push_back((offset, offset)),
        }
    }

    /// Whether a publisher may wait for this connection to take the event at this offset.
    pub(super) fn counts(&self, offset: u64) -> bool {
        !self.uncounted.iter().any(|(first, last)| (*first..=*last).contains(&offset))
    }

    /// The socket has all bytes up to an offset.
    pub(super) fn forget_uncounted(&mut self, confirmed: u64) {
        while self.uncounted.front().is_some_and(|(_, last)| *last <= confirmed) {
            self.uncounted.pop_front();
        }
    }

    /// The log has another epoch, with a base behind which the connection goes on. It has nothing in flight.
    pub(super) fn rebase(&mut self, base: u64) {
        debug_assert!(self.in_flight.is_empty(), "no ping names a position of the old epoch");
        (self.begin, self.reached, self.processed) = (base, base, base);
        (self.replay_until, self.poison) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About { kind: EventType::parse("t").unwrap(), correlation: CorrelationId::random() }
    }

    fn at(seconds: u64) -> (Instant, Timestamp) {
        (Instant(seconds * 1_000_000), Timestamp(seconds as i64 * 1_000))
    }

    /// With these offsets handed over, and written at these seconds.
    fn given(events: &[(u64, u64)]) -> Processing {
        let mut processing = Processing::new(9, events[0].0 - 1, 0, None);
        for (offset, second) in events {
            processing.give(*offset, about());
            assert_eq!(processing.handle_written(at(*second), 1_000 * second), 1);
        }
        processing
    }

    fn took(processing: &mut Processing, second: u64, offset: u64) -> Vec<u64> {
        let mut took = Vec::new();
        assert!(processing.handle_pong(at(second), offset, |time| took.push(time.as_secs())));
        took
    }

    #[test]
    fn an_event_takes_from_its_write_or_the_pong_before_to_its_own() {
        let mut processing = given(&[(4, 1), (5, 1), (6, 8)]);
        assert_eq!(processing.first().map(|(first, since)| (first.offset, since)), Some((4, at(1).1)));
        assert_eq!(took(&mut processing, 3, 4), [2]);
        assert_eq!(processing.first().map(|(first, since)| (first.offset, since)), Some((5, at(3).1)));
        assert_eq!(took(&mut processing, 7, 5), [4]);
        assert_eq!(took(&mut processing, 9, 6), [1], "it was written after the pong before");
        assert_eq!(processing.processed(), 6);
    }

    #[test]
    fn one_pong_for_several_events_counts_their_time_once() {
        let mut processing = given(&[(4, 1), (5, 1), (6, 1)]);
        assert_eq!(took(&mut processing, 7, 6), [6, 0, 0]);
    }

    #[test]
    fn what_is_passed_over_counts_as_processed_once_all_before_it_is() {
        let mut processing = Processing::new(9, 3, 0, None);
        processing.pass(4);
        assert_eq!(processing.processed(), 4);
        processing.give(5, about());
        processing.handle_written(at(1), 1);
        processing.pass(6);
        assert_eq!((processing.processed(), processing.ping_offset()), (4, 5), "a ping names an event that was given");
        assert!(processing.handle_pong(at(2), 5, |_| {}));
        assert_eq!((processing.processed(), processing.ping_offset()), (6, 6));
    }

    #[test]
    fn a_peer_has_an_event_once_it_has_acknowledged_its_last_byte() {
        let processing = given(&[(4, 2), (5, 3)]);
        assert!(processing.reached(1_999).is_none());
        assert_eq!(processing.reached(2_000).map(|first| first.offset), Some(4));
    }

    #[test]
    fn publishers_of_events_beyond_the_window_do_not_wait() {
        let mut processing = Processing::new(1, 0, 0, None);
        [2, 3, 4, 7].into_iter().for_each(|offset| processing.leave_uncounted(offset));
        let counts = |processing: &Processing| (1..9).filter(|offset| processing.counts(*offset)).collect::<Vec<_>>();
        assert_eq!(counts(&processing), [1, 5, 6, 8]);
        assert_eq!(processing.uncounted.len(), 2, "a range has one entry");
        processing.forget_uncounted(4);
        assert_eq!(processing.uncounted, [(7, 7)]);
    }
}
