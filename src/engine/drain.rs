//! The drain of one core: when to close each connection, and when to go from one stage to the next.

use super::link::LinkKey;
use crate::model::Instant;
use std::{collections::VecDeque, time::Duration};

/// From the end of the window until the drain goes on without the peers that have not answered their close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// From the beginning of the drain until the first check. A keep-alive client that sends its next request in this time
/// gets a response with `Connection: close`. With an immediate check, its idle connection would be closed while that
/// request is on its way, which the client cannot tell from a failure.
const FIRST_CHECK_DELAY: Duration = Duration::from_millis(100);
/// How long the core waits for unfinished requests after the last gateway has gone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// From our FINs until the sockets are closed without the peers' FINs.
const FIN_TIMEOUT: Duration = Duration::from_millis(300);
/// Time between two checks. They are polled because no event tells that another core has settled.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The state of a drain.
pub(super) struct Drain {
    /// Gateways' connections to close, in shuffled order.
    queue: VecDeque<LinkKey>,
    began: Instant,
    /// Time between two closes.
    step: Duration,
    closed: u32,
    deadline: Instant,
    next_check: Instant,
    /// Since when the core waits for nothing but unfinished requests.
    only_requests_since: Option<Instant>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Closing connections, or waiting for them to end.
    Closing,
    /// Waiting for nothing on this core. It still answers other cores, which may wait for its shard, and refuses new
    /// connections with 503.
    Settled,
    /// Waiting for the peers' FINs, since this time.
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

    /// Begins a drain of these connections, with the closes spread over `window`.
    pub(super) fn new(now: Instant, mut connections: Vec<LinkKey>, window: Duration) -> Self {
        // Shuffled by a multiplicative hash: connections that came together, often the instances of one gateway, must
        // not be closed together and come back together.
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

    /// Takes the next connection to close, if it is due.
    pub(super) fn pop_close(&mut self, now: Instant) -> Option<LinkKey> {
        if self.has_ended() || self.queue.is_empty() || now < self.next_close() {
            return None;
        }
        self.closed += 1;
        self.queue.pop_front()
    }

    /// Returns whether a check is due, and schedules the next one.
    pub(super) fn take_check(&mut self, now: Instant) -> bool {
        let due = !self.has_ended() && now >= self.next_check;
        if due {
            self.next_check = now + CHECK_INTERVAL;
        }
        due
    }

    /// Settles the core once it waits for nothing, or at the deadline; returns whether it settled now. `waiting` says
    /// whether gateways or answers are outstanding, `idle` that no request is unfinished.
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

    /// Goes on to the FINs once all cores have settled, or at the deadline; returns whether it did now.
    pub(super) fn begin_finish(&mut self, now: Instant, all_settled: bool) -> bool {
        let begins = self.stage == Stage::Settled && (all_settled || now >= self.deadline);
        if begins {
            self.stage = Stage::AwaitingFins(now);
        }
        begins
    }

    /// Ends the drain once all sockets are closed, or after [`FIN_TIMEOUT`]; returns whether it ended now.
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
        assert!(!serials.is_sorted(), "in another order than they connected");
        serials.sort_unstable();
        assert_eq!(serials, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_core_ends_once_all_cores_have_settled_or_at_its_deadline() {
        let mut drain = Drain::new(Instant(0), keys(1), Duration::ZERO);
        assert!(
            !drain.take_check(Instant(99_999)) && drain.take_check(Instant(100_000)),
            "a client between two requests has 100 ms"
        );
        assert!(!drain.settle(Instant(0), true, true) && !drain.begin_finish(Instant(0), true));
        assert!(drain.settle(Instant(1), false, true) && !drain.settle(Instant(2), false, true), "it settles once");
        assert!(!drain.begin_finish(Instant(2), false) && drain.begin_finish(Instant(3), true) && !drain.has_ended());
        assert!(!drain.end(Instant(4), false) && drain.end(Instant(5), true) && drain.has_ended());
        let mut forced = Drain::new(Instant(0), keys(1), Duration::ZERO);
        let over = Instant(0) + CLOSE_TIMEOUT;
        assert!(forced.settle(over, true, false) && forced.begin_finish(over, false));
        assert!(!forced.end(over, false) && forced.end(over + FIN_TIMEOUT, false));
    }

    #[test]
    fn unfinished_requests_delay_the_end_by_one_second() {
        let mut drain = Drain::new(Instant(0), keys(1), Duration::ZERO);
        let begun = Instant(500_000);
        assert!(!drain.settle(begun, false, false) && !drain.settle(begun + REQUEST_TIMEOUT / 2, true, false));
        let again = begun + REQUEST_TIMEOUT;
        assert!(!drain.settle(again, false, false), "the time starts anew if a gateway is there in between");
        assert!(drain.settle(again + REQUEST_TIMEOUT, false, false));
    }
}
