//! How far the end of a core has come: whose close is due when, and when it is over whatever is left.

use super::link::LinkKey;
use crate::model::Instant;
use std::{collections::VecDeque, time::Duration};

/// After the window, this long for the last closes to be answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Nobody is settled with before this: who is between two requests hears with its next answer that it is the last.
const FIRST_CHECK_DELAY: Duration = Duration::from_millis(100);
/// After the last gateway has gone, so long requests are waited for that have begun.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// From our last FIN until the sockets go whatever the peers do.
const FIN_TIMEOUT: Duration = Duration::from_millis(300);
/// How often it is looked at whether all is done: another core may be what is waited for.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A drain that has begun.
pub(super) struct Drain {
    /// Gateways' connections that are still to be closed, in the order of chance that their places had.
    queue: VecDeque<LinkKey>,
    began: Instant,
    /// Between two closes.
    step: Duration,
    closed: u32,
    deadline: Instant,
    next_check: Instant,
    /// Since when only requests are waited for.
    only_requests_since: Option<Instant>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Connections are being closed, or have not gone yet.
    Closing,
    /// Nothing is left here; other cores may still need answers, and new connections theirs.
    Settled,
    /// Our FINs are on their way; the peers' are awaited since then.
    AwaitingFins(Instant),
    /// The core has ended.
    Ended,
}

impl Drain {
    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let close = (!self.queue.is_empty()).then(|| self.next_close());
        Some(close.map_or(self.next_check, |close| close.min(self.next_check)))
    }

    fn next_close(&self) -> Instant {
        self.began + self.step * self.closed
    }

    /// A drain of these connections that begins now; in no order that a gateway could know.
    pub(super) fn new(now: Instant, mut connections: Vec<LinkKey>, window: Duration) -> Self {
        connections.sort_by_key(|key| key.serial.wrapping_mul(0x9e37_79b1));
        let step = window.checked_div(u32::try_from(connections.len()).unwrap_or(u32::MAX)).unwrap_or_default();
        Self {
            queue: connections.into(),
            began: now,
            step,
            closed: 0,
            deadline: now + window + CLOSE_TIMEOUT,
            next_check: now + FIRST_CHECK_DELAY,
            only_requests_since: None,
            stage: Stage::Closing,
        }
    }

    /// The next connection to close, once its time has come.
    pub(super) fn pop_close(&mut self, now: Instant) -> Option<LinkKey> {
        if self.has_ended() || self.queue.is_empty() || now < self.next_close() {
            return None;
        }
        self.closed += 1;
        self.queue.pop_front()
    }

    /// Whether it is time to look at what is left.
    pub(super) fn take_check(&mut self, now: Instant) -> bool {
        let due = !self.has_ended() && now >= self.next_check;
        if due {
            self.next_check = now + CHECK_INTERVAL;
        }
        due
    }

    /// Nothing is left on this core that is waited for, or its time is over; returns whether this is news. With whether gateways
    /// or answers are waited for, and whether no request has begun.
    pub(super) fn settle(&mut self, now: Instant, waiting: bool, idle: bool) -> bool {
        if self.stage != Stage::Closing {
            return false;
        }
        let only_requests_since = if waiting { None } else { Some(self.only_requests_since.unwrap_or(now)) };
        self.only_requests_since = only_requests_since;
        let free = only_requests_since.is_some_and(|since| idle || now >= since + REQUEST_TIMEOUT);
        let settles = free || now >= self.deadline;
        if settles {
            self.stage = Stage::Settled;
        }
        settles
    }

    /// All cores have settled, or this one's time is over; returns whether this is news.
    pub(super) fn begin_finish(&mut self, now: Instant, all_settled: bool) -> bool {
        let begins = self.stage == Stage::Settled && (all_settled || now >= self.deadline);
        if begins {
            self.stage = Stage::AwaitingFins(now);
        }
        begins
    }

    /// All peers have gone, or the time for it is over; returns whether this is news.
    pub(super) fn end(&mut self, now: Instant, all_closed: bool) -> bool {
        let Stage::AwaitingFins(since) = self.stage else { return false };
        let ends = all_closed || now >= since + FIN_TIMEOUT;
        if ends {
            self.stage = Stage::Ended;
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u32) -> Vec<LinkKey> {
        (0..count).map(|index| LinkKey { index, serial: index + 1 }).collect()
    }

    #[test]
    fn closes_are_spread_over_the_window_and_each_comes_once() {
        let mut drain = Drain::new(Instant(0), keys(10), Duration::from_secs(5));
        let mut closed = Vec::new();
        for tick in 0..60 {
            while let Some(key) = drain.pop_close(Instant(tick * 100_000)) {
                closed.push((tick, key.serial));
            }
        }
        assert_eq!(closed.iter().map(|(tick, _)| *tick).collect::<Vec<_>>(), [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]);
        let mut serials: Vec<_> = closed.iter().map(|(_, serial)| *serial).collect();
        assert!(!serials.is_sorted(), "in another order than they came");
        serials.sort_unstable();
        assert_eq!(serials, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_core_ends_when_all_have_settled_or_its_time_is_over() {
        let mut drain = Drain::new(Instant(0), keys(1), Duration::ZERO);
        assert!(
            !drain.take_check(Instant(99_999)) && drain.take_check(Instant(100_000)),
            "who is between two requests has a moment"
        );
        assert!(!drain.settle(Instant(0), true, true) && !drain.begin_finish(Instant(0), true));
        assert!(drain.settle(Instant(1), false, true) && !drain.settle(Instant(2), false, true), "once");
        assert!(!drain.begin_finish(Instant(2), false) && drain.begin_finish(Instant(3), true) && !drain.has_ended());
        assert!(!drain.end(Instant(4), false) && drain.end(Instant(5), true) && drain.has_ended());
        let mut forced = Drain::new(Instant(0), keys(1), Duration::ZERO);
        let over = Instant(0) + CLOSE_TIMEOUT;
        assert!(forced.settle(over, true, false) && forced.begin_finish(over, false));
        assert!(!forced.end(over, false) && forced.end(over + FIN_TIMEOUT, false));
    }

    #[test]
    fn requests_that_have_begun_hold_the_end_up_for_a_while() {
        let mut drain = Drain::new(Instant(0), keys(1), Duration::ZERO);
        let begun = Instant(500_000);
        assert!(!drain.settle(begun, false, false) && !drain.settle(begun + REQUEST_TIMEOUT / 2, true, false));
        let again = begun + REQUEST_TIMEOUT;
        assert!(!drain.settle(again, false, false), "a gateway has come in between");
        assert!(drain.settle(again + REQUEST_TIMEOUT, false, false));
    }
}
