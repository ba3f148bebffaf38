//! How a gateway handles events: how long each takes, and when it answers the pings behind them.
//!
//! ```text
//!   read loop:       event ── handler ──▶ ping ──▶ pong      (proves that the event was handled)
//!   another thread:  event, ping ──▶ pong                    (proves that it was received)
//! ```

use super::rng::Rng;
use crate::model::Instant;
use std::{collections::VecDeque, time::Duration};

/// When a gateway answers pings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answers {
    /// Each in its turn, after the events before it.
    InTurn,
    /// In its turn, but only the latest of those that it has read (RFC 6455 section 5.5.3).
    Latest,
    /// At once, on another thread than the handlers of events.
    AtOnce,
}

/// Everything that is decided about a gateway's read loop before the world begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handling {
    /// Longest usual time for one event, in microseconds.
    pub(super) usual_max: u64,
    /// How likely an event takes up to `slow_max`, per mille.
    pub(super) slow: u64,
    pub(super) slow_max: Duration,
    /// How likely the handler of an event never ends, per mille.
    pub(super) hangs: u64,
    pub(super) answers: Answers,
    /// Longest time in microseconds between the handling of a ping and its pong.
    pub(super) pong_delay_max: u64,
    /// It disconnects if it has handled no ping for this time.
    pub(super) monitor: Option<Duration>,
    /// It sends pongs that no ping has asked for: invented ones, repeated ones, and of another epoch.
    pub(super) invents: bool,
}

impl Handling {
    /// Handles everything at once and in its turn.
    pub(super) const INSTANT: Self = Self {
        usual_max: 0,
        slow: 0,
        slow_max: Duration::ZERO,
        hangs: 0,
        answers: Answers::InTurn,
        pong_delay_max: 0,
        monitor: None,
        invents: false,
    };

    /// Whether it takes so little time for each event that the hub has no reason to close its connection.
    pub(super) fn is_quick(&self) -> bool {
        self.slow == 0 && self.hangs == 0 && self.pong_delay_max <= 400_000
    }

    /// The time that the next event takes; `None` if its handler never ends.
    fn draw(&self, rng: &mut Rng) -> Option<Duration> {
        if self.hangs > 0 && rng.chance(self.hangs) {
            return None;
        }
        let slow = self.slow > 0 && rng.chance(self.slow);
        let most = if slow { self.slow_max.as_micros() as u64 } else { self.usual_max };
        Some(Duration::from_micros(if most > 0 { rng.below(most + 1) } else { 0 }))
    }
}

/// The state of one gateway's read loop.
#[derive(Default)]
pub(super) struct Handler {
    /// The offset of the event that it is at work on, and when that ends.
    busy: Option<(u64, Instant)>,
    /// The ping that it answers once it has read no more.
    latest: Option<Vec<u8>>,
    /// Pongs that it sends later.
    late: VecDeque<(Instant, Vec<u8>)>,
    /// When it last handled a ping, or had its 101.
    pinged_at: Instant,
    /// The last pong that it has sent.
    pub(super) answered: Option<Vec<u8>>,
}

impl Handler {
    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The monitor's time begins.
    pub(super) fn open(&mut self, now: Instant) {
        self.pinged_at = now;
    }

    /// Begins to handle an event. Returns whether it is handled already.
    pub(super) fn begin(&mut self, now: Instant, offset: u64, handling: &Handling, rng: &mut Rng) -> bool {
        match handling.draw(rng) {
            Some(Duration::ZERO) => true,
            took => {
                self.busy = Some((offset, took.map_or(Instant(u64::MAX), |took| now + took)));
                false
            }
        }
    }

    /// Takes the event whose handler has ended by now.
    pub(super) fn end(&mut self, now: Instant) -> Option<u64> {
        self.busy.take_if(|(_, until)| *until <= now).map(|(offset, _)| offset)
    }

    /// Takes the event that it is at work on.
    pub(super) fn interrupt(&mut self) -> Option<u64> {
        (self.latest, self.late) = (None, VecDeque::new());
        self.busy.take().map(|(offset, _)| offset)
    }

    /// Handles a ping. The pong comes by [`Handler::next_pong`].
    pub(super) fn ping(&mut self, now: Instant, payload: Vec<u8>, handling: &Handling, rng: &mut Rng) {
        self.pinged_at = now;
        match handling.answers {
            Answers::Latest => self.latest = Some(payload),
            Answers::InTurn | Answers::AtOnce => self.answer(now, payload, handling, rng),
        }
    }

    fn answer(&mut self, now: Instant, payload: Vec<u8>, handling: &Handling, rng: &mut Rng) {
        let delay = if handling.pong_delay_max > 0 { rng.below(handling.pong_delay_max + 1) } else { 0 };
        let before = self.late.back().map_or(now, |(at, _)| *at);
        self.late.push_back((before.max(now + Duration::from_micros(delay)), payload));
    }

    /// It has read no more for now.
    pub(super) fn rest(&mut self, now: Instant, handling: &Handling, rng: &mut Rng) {
        if let Some(payload) = self.latest.take() {
            self.answer(now, payload, handling, rng);
        }
    }

    /// Takes a pong that is due.
    pub(super) fn next_pong(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.late.front().filter(|(at, _)| *at <= now)?;
        self.late.pop_front().map(|(_, payload)| payload)
    }

    /// Whether it disconnects, because it has handled no ping for too long.
    pub(super) fn hangs_up(&self, now: Instant, handling: &Handling) -> bool {
        handling.monitor.is_some_and(|most| now >= self.pinged_at + most)
    }

    /// When it has something to do next.
    pub(super) fn next_turn(&self, handling: &Handling) -> Option<Instant> {
        let busy = self.busy.map(|(_, until)| until).filter(|until| until.0 < u64::MAX);
        let late = self.late.front().map(|(at, _)| *at);
        let monitor = handling.monitor.map(|most| self.pinged_at + most);
        [busy, late, monitor].into_iter().flatten().min()
    }
}
