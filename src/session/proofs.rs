//! What pongs prove about a gateway (contract section 1, delivery `processed`): the pings that name a position, and the time
//! that one event may take.
//!
//! Behind each event goes a ping that names its position; the shard knows those. The pings here are the session's own: those of
//! the heartbeat, and one in front of an event that comes after a silence. They name the last event before them, because a gateway
//! need answer only the latest of several pings (RFC 6455 section 5.5.3).

use crate::model::{Instant, Proof};
use std::{collections::VecDeque, time::Duration};

/// What a pong is to the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PongOutcome {
    /// A ping asked for it.
    pub expected: bool,
    /// The time from ping to pong, if the gateway had nothing to process in between.
    pub round_trip: Option<Duration>,
}

/// A gateway is asked in front of an event if it has answered nothing for this time: it disconnects 35 s after the last ping that it
/// has handled, and part of that may be over when a slow event begins.
const SILENCE: Duration = Duration::from_secs(1);

/// Pings of the session's own that are remembered. There is one every second at most, and the processing timeout comes before.
const UNANSWERED_MAX: usize = 128;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Proofs {
    processing_timeout: Duration,
    /// Offsets that the session's own pings named and that were not answered, in the order in which they were sent.
    unanswered: VecDeque<u64>,
    /// When the last pong came, or a ping went in front of an event.
    asked_at: Option<Instant>,
    /// The first event that the gateway has and has not processed, and since when it can be at work on it.
    first: Option<(u64, Instant)>,
    /// An own ping that was sent while the gateway had nothing to process.
    timed: Option<(u64, Instant)>,
}

impl Proofs {
    pub(super) fn new(processing_timeout: Duration) -> Self {
        Self { processing_timeout, unanswered: VecDeque::new(), asked_at: None, first: None, timed: None }
    }

    /// Whether a ping goes in front of the event that is sent next.
    pub(super) fn asks_first(&self, now: Instant) -> bool {
        self.asked_at.is_none_or(|at| now.since(at) > SILENCE)
    }

    /// An own ping that names this offset is sent; `is_idle` if the gateway has nothing to process.
    pub(super) fn handle_ping(&mut self, now: Instant, offset: u64, is_idle: bool) {
        self.asked_at = Some(now);
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(offset);
        self.timed = is_idle.then_some((offset, now));
    }

    /// A pong has come that names this offset.
    pub(super) fn handle_pong(&mut self, now: Instant, offset: u64, proof: Proof) -> PongOutcome {
        let expected = match proof {
            Proof::Invented => false,
            Proof::Processed => {
                while self.unanswered.front().is_some_and(|asked| *asked < offset) {
                    self.unanswered.pop_front();
                }
                true
            }
            Proof::Known => {
                let asked = self.unanswered.iter().position(|asked| *asked == offset);
                asked.is_some_and(|index| self.unanswered.drain(..=index).next().is_some())
            }
        };
        if !expected {
            return PongOutcome { expected, round_trip: None };
        }
        self.asked_at = Some(now);
        let round_trip = self.timed.take_if(|(asked, _)| *asked <= offset).filter(|(asked, _)| *asked == offset);
        PongOutcome { expected, round_trip: round_trip.map(|(_, at)| now.since(at)) }
    }

    /// The first event that the gateway has and has not processed: the time for it begins when it becomes the first.
    pub(super) fn set_first(&mut self, now: Instant, first: Option<u64>) {
        if self.first.map(|(offset, _)| offset) != first {
            self.first = first.map(|offset| (offset, now));
        }
    }

    /// When the time for the first event is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.first.map(|(_, since)| since + self.processing_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * SECOND)
    }

    #[test]
    fn the_time_for_an_event_begins_when_it_becomes_the_first() {
        let mut proofs = Proofs::new(Duration::from_secs(60));
        assert_eq!(proofs.deadline(), None);
        for (now, first, deadline) in [
            (1, Some(4), Some(61)),
            (2, Some(4), Some(61)),
            (30, Some(5), Some(90)),
            (31, None, None),
            (40, Some(6), Some(100)),
        ] {
            proofs.set_first(at(now), first);
            assert_eq!(proofs.deadline(), deadline.map(at), "at {now}");
        }
    }

    #[test]
    fn only_as_many_pongs_are_expected_as_were_asked_for() {
        let mut proofs = Proofs::new(Duration::from_secs(60));
        let expected = |proofs: &mut Proofs, offset, proof| proofs.handle_pong(at(9), offset, proof).expected;
        assert!(!expected(&mut proofs, 3, Proof::Known), "no ping of its own has named it");
        proofs.handle_ping(at(1), 3, true);
        proofs.handle_ping(at(2), 3, true);
        assert!(expected(&mut proofs, 3, Proof::Known));
        assert!(expected(&mut proofs, 3, Proof::Known));
        assert!(!expected(&mut proofs, 3, Proof::Known), "a repeated pong");
        proofs.handle_ping(at(3), 3, true);
        assert!(expected(&mut proofs, 4, Proof::Processed), "it answers all pings before it");
        assert!(!expected(&mut proofs, 3, Proof::Known));
        assert!(!expected(&mut proofs, 9, Proof::Invented));
    }

    #[test]
    fn a_round_trip_is_measured_only_while_there_was_nothing_to_process() {
        let mut proofs = Proofs::new(Duration::from_secs(60));
        let round_trip =
            |proofs: &mut Proofs, now, offset, proof| proofs.handle_pong(at(now), offset, proof).round_trip;
        proofs.handle_ping(at(1), 3, true);
        assert_eq!(round_trip(&mut proofs, 2, 3, Proof::Known), Some(Duration::from_secs(1)));
        proofs.handle_ping(at(3), 3, true);
        assert_eq!(round_trip(&mut proofs, 9, 4, Proof::Processed), None, "it has processed an event in between");
        proofs.handle_ping(at(10), 4, false);
        assert_eq!(round_trip(&mut proofs, 12, 4, Proof::Known), None);
    }

    #[test]
    fn a_ping_goes_in_front_of_an_event_after_a_second_of_silence() {
        let mut proofs = Proofs::new(Duration::from_secs(60));
        assert!(proofs.asks_first(at(1)), "nothing was answered yet");
        proofs.handle_ping(at(1), 3, true);
        assert!(!proofs.asks_first(at(2)));
        assert!(proofs.asks_first(at(3)));
        proofs.handle_pong(at(3), 3, Proof::Known);
        assert!(!proofs.asks_first(at(4)));
        assert!(proofs.asks_first(at(5)));
    }

    #[test]
    fn pings_that_are_never_answered_use_bounded_memory() {
        let mut proofs = Proofs::new(Duration::from_secs(60));
        (0..10_000).for_each(|n| proofs.handle_ping(at(n), 3, true));
        assert_eq!(proofs.unanswered.len(), UNANSWERED_MAX);
    }
}
