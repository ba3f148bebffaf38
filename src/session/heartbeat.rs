//! Pings, and the silence after which a connection is closed (contract section 1). Deadlines are computed, not checked
//! at intervals, so a peer is closed exactly at its timeout.

use super::settings::Heartbeat as Settings;
use crate::model::{Instant, Now};
use std::time::Duration;

/// Time between two probes of a silent peer during its grace.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Number of times in one interval at which pings are sent.
const POINTS: u64 = 40;

/// Number of connections, one after the other in the core's memory, that ping at the same time.
const NEIGHBOURS: u32 = 8;

/// From the time of one group of neighbours to that of the next, in times. It has no divisor in common with [`POINTS`], so that all of
/// them are used, and a small fleet's are far apart.
const STRIDE: u64 = 11;

/// The heartbeat of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    next_ping: Instant,
    last_received: Instant,
    /// When the ping was sent that is not answered yet.
    pinged: Option<Instant>,
    /// When to probe the silent peer again, or [`UNREACHABLE`]; `None` while it is not silent.
    next_probe: Option<Instant>,
}

/// The action that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beat {
    Nothing,
    Ping,
    /// Ask the kernel whether the peer's still acknowledges bytes.
    Probe,
    /// Close the connection: its peer is silent.
    Dead,
    /// Close the connection: its gateway takes too long for one event.
    Overdue,
}

impl Heartbeat {
    /// Plans the first ping within one interval. Pings are sent at [`POINTS`] times of the interval, so that a core wakes
    /// once for many of them and reads their pongs together. The connection's `place` in the core's memory decides which
    /// it is: [`NEIGHBOURS`] ping together, because reading memory in its order is faster, and the next ones at another time,
    /// because those that came together must not all ping together.
    pub(super) fn new(settings: &Settings, now: Now, place: u32) -> Self {
        let interval = u64::try_from(settings.interval.as_micros()).unwrap_or(u64::MAX).max(1);
        let pause = interval / POINTS;
        let point = u64::from(place / NEIGHBOURS) * STRIDE % POINTS * pause;
        // In real time, which pings keep to (see [`Heartbeat::handle_lost`]).
        let since = now.instant.0 % interval;
        let mut wait = if point > since { point - since } else { point + interval - since };
        // Not at once: the gateway is busy with its begin.
        if wait < 2 * pause {
            wait += 2 * pause;
        }
        let next_ping = now.attended + Duration::from_micros(wait);
        Self { next_ping, last_received: now.attended, pinged: None, next_probe: None }
    }

    /// Bytes came from the peer.
    pub(super) fn handle_life(&mut self, now: Instant) {
        self.last_received = now;
        self.next_probe = None;
    }

    /// A pong came; returns the round-trip time unless it was unsolicited.
    pub(super) fn handle_pong(&mut self, now: Instant) -> Option<Duration> {
        self.pinged.take().map(|pinged| now.since(pinged))
    }

    /// The core did not run for the time `lost`, which `now` leaves out. The peer's silence in it does not count. Pings
    /// keep to real time, because the peer may time us out by them.
    pub(super) fn handle_lost(&mut self, lost: Duration) {
        self.next_ping = self.next_ping - lost;
    }

    /// Handles the answer to [`Beat::Probe`].
    pub(super) fn handle_peer_state(&mut self, now: Instant, reachable: bool) {
        // `None` if the peer has sent bytes meanwhile.
        if self.next_probe.is_some() {
            self.next_probe = Some(if reachable { now + PROBE_INTERVAL } else { UNREACHABLE });
        }
    }

    /// Returns the action that is due now. A gateway that processes an event may be silent until `busy_until`, as long as its kernel
    /// acknowledges bytes, and no longer.
    pub(super) fn handle_timeout(&mut self, now: Instant, settings: &Settings, busy_until: Option<Instant>) -> Beat {
        let silence_ends = self.last_received + settings.timeout;
        if busy_until.is_some_and(|until| now >= until) {
            return Beat::Overdue;
        }
        if now >= silence_ends {
            let in_grace = now < self.grace_ends(settings, busy_until) && self.next_probe != Some(UNREACHABLE);
            return match self.next_probe {
                _ if !in_grace => Beat::Dead,
                // Pings go on during the grace: a pong ends it.
                Some(next) if now < next => self.ping(now, settings),
                _ => {
                    self.next_probe = Some(now + PROBE_INTERVAL);
                    Beat::Probe
                }
            };
        }
        self.ping(now, settings)
    }

    fn ping(&mut self, now: Instant, settings: &Settings) -> Beat {
        if now < self.next_ping {
            return Beat::Nothing;
        }
        // Counted from the planned time, not from `now`: otherwise each late wake-up would shift the pings, and after a
        // pause of the core all connections would ping at the same time from then on.
        let missed = now.since(self.next_ping).div_duration_f64(settings.interval) as u32;
        self.next_ping = self.next_ping + settings.interval * (missed + 1);
        self.pinged = Some(now);
        Beat::Ping
    }

    /// When an action is due.
    pub(super) fn poll_timeout(&self, settings: &Settings, busy_until: Option<Instant>) -> Instant {
        let silence_ends = self.last_received + settings.timeout;
        let silence = match self.next_probe {
            Some(UNREACHABLE) => silence_ends,
            Some(next) => next.min(self.grace_ends(settings, busy_until)),
            None => silence_ends,
        };
        let due = self.next_ping.min(silence);
        busy_until.map_or(due, |until| until.min(due))
    }

    /// Until when a peer may be silent whose kernel acknowledges bytes.
    fn grace_ends(&self, settings: &Settings, busy_until: Option<Instant>) -> Instant {
        let grace_ends = self.last_received + settings.timeout + settings.busy_grace;
        busy_until.map_or(grace_ends, |until| until.max(grace_ends))
    }
}

/// The value of `next_probe` for a peer whose kernel does not acknowledge bytes either.
const UNREACHABLE: Instant = Instant(0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const SECOND: u64 = 1_000_000;

    /// A heartbeat with its settings.
    struct Tested(Heartbeat, Settings);

    impl Tested {
        fn begin(grace: u64, now: Instant, place: u32) -> Self {
            let settings = Settings {
                interval: Duration::from_secs(20),
                timeout: Duration::from_secs(30),
                busy_grace: Duration::from_secs(grace),
            };
            Self(Heartbeat::new(&settings, Now::new(now, Timestamp(0)), place), settings)
        }

        fn poll_timeout(&self, busy_until: Option<Instant>) -> Instant {
            self.0.poll_timeout(&self.1, busy_until)
        }

        fn handle_timeout(&mut self, now: Instant, busy_until: Option<Instant>) -> Beat {
            self.0.handle_timeout(now, &self.1, busy_until)
        }
    }

    fn heartbeat(grace: u64) -> Tested {
        Tested::begin(grace, Instant(0), 0)
    }

    /// Runs until a silent peer is declared dead; returns that time and the times of the pings.
    fn silent(mut heartbeat: Tested, reachable: bool) -> (u64, Vec<u64>) {
        let mut pings = Vec::new();
        loop {
            let now = heartbeat.poll_timeout(None);
            match heartbeat.handle_timeout(now, None) {
                Beat::Dead => return (now.0, pings),
                Beat::Ping => pings.push(now.0),
                Beat::Probe => heartbeat.0.handle_peer_state(now, reachable),
                Beat::Nothing | Beat::Overdue => panic!("woken for nothing at {now:?}"),
            }
        }
    }

    #[test]
    fn a_silent_peer_is_dead_exactly_at_the_timeout() {
        for _ in 0..100 {
            let (dead, pings) = silent(heartbeat(0), true);
            assert_eq!(dead, 30 * SECOND);
            assert!(pings[0] <= 20 * SECOND && pings[0] >= SECOND);
        }
    }

    #[test]
    fn only_a_peer_whose_kernel_acknowledges_gets_a_grace() {
        assert_eq!(silent(heartbeat(15), true).0, 45 * SECOND);
        assert_eq!(silent(heartbeat(15), false).0, 30 * SECOND);
    }

    #[test]
    fn a_gateway_that_processes_an_event_may_be_silent_until_its_time_is_over() {
        let until = Some(Instant(70 * SECOND));
        let ends = |reachable| {
            let mut heartbeat = heartbeat(0);
            loop {
                let now = heartbeat.poll_timeout(until);
                match heartbeat.handle_timeout(now, until) {
                    end @ (Beat::Dead | Beat::Overdue) => return (now.0, end),
                    Beat::Ping => {}
                    Beat::Probe => heartbeat.0.handle_peer_state(now, reachable),
                    Beat::Nothing => panic!("woken for nothing at {now:?}"),
                }
            }
        };
        assert_eq!(ends(true), (70 * SECOND, Beat::Overdue));
        assert_eq!(ends(false), (30 * SECOND, Beat::Dead), "its kernel is silent, too");
    }

    #[test]
    fn the_time_for_an_event_ends_although_the_gateway_is_heard() {
        let mut heartbeat = heartbeat(0);
        heartbeat.0.handle_life(Instant(9 * SECOND));
        let until = Some(Instant(10 * SECOND));
        assert!(heartbeat.poll_timeout(until) <= Instant(10 * SECOND));
        assert_eq!(heartbeat.handle_timeout(Instant(10 * SECOND), until), Beat::Overdue);
    }

    #[test]
    fn lost_time_does_not_count_as_silence_and_does_not_delay_the_next_ping() {
        let mut heartbeat = heartbeat(0);
        let due = heartbeat.poll_timeout(None);
        heartbeat.0.handle_lost(Duration::from_micros(due.0 / 2));
        assert_eq!(heartbeat.poll_timeout(None), due - Duration::from_micros(due.0 / 2));
        assert_eq!(silent(heartbeat, true).0, 30 * SECOND, "by the core's clock, which leaves the lost time out");
    }

    #[test]
    fn late_wake_ups_do_not_shift_the_pings() {
        let mut heartbeat = heartbeat(0);
        let mut pings = Vec::new();
        while pings.len() < 20 {
            let now = heartbeat.poll_timeout(None);
            // Every wake-up is a little late.
            let late = Instant(now.0 + 40_000);
            assert_eq!(heartbeat.handle_timeout(late, None), Beat::Ping);
            pings.push(late.0);
            let pong = Instant(late.0 + 3_000);
            heartbeat.0.handle_life(pong);
            assert_eq!(heartbeat.0.handle_pong(pong), Some(Duration::from_millis(3)));
        }
        assert!(pings.windows(2).all(|pair| pair[1] - pair[0] == 20 * SECOND));
        assert_eq!(heartbeat.0.handle_pong(Instant(0)), None, "an unsolicited pong measures nothing");
    }

    #[test]
    fn after_a_pause_a_due_ping_is_sent_at_once_and_the_phase_stays() {
        let begin = Instant(3_600 * SECOND);
        for pause in [1, 15, 45, 200].map(Duration::from_secs) {
            let mut heartbeat = Tested::begin(0, begin, 0);
            let planned = heartbeat.poll_timeout(None);
            heartbeat.0.handle_lost(pause);
            // The core's clock leaves the pause out; on the wall it is over at `begin + pause`.
            assert_eq!(heartbeat.handle_timeout(begin, None) == Beat::Ping, planned <= begin + pause);
            let next = heartbeat.poll_timeout(None) + pause;
            assert_eq!(next.since(planned).as_micros() as u64 % (20 * SECOND), 0, "its phase stays");
            assert!(
                next > begin + pause && next <= begin + pause + Duration::from_secs(20),
                "after a pause of {pause:?}"
            );
            assert_ne!(
                heartbeat.handle_timeout(begin + Duration::from_secs(29), None),
                Beat::Dead,
                "it had no time to answer"
            );
        }
    }

    #[test]
    fn first_pings_are_spread_over_the_interval() {
        for connections in [40, 100, 320, 10_000] {
            let mut seconds = [0; 20];
            for place in 0..connections {
                let due = Tested::begin(0, Instant(0), place).poll_timeout(None);
                seconds[((due.0 - 1) / SECOND) as usize] += 1;
            }
            // What would come in the first second comes up to a second later.
            let most = (connections / 20 * 3 / 2 + 2 * NEIGHBOURS) as usize;
            assert!(seconds.iter().all(|pings| *pings <= most), "{connections}: {seconds:?}");
            let used = seconds.iter().filter(|pings| **pings > 0).count();
            assert!(used + 1 >= 19.min(connections as usize / 8), "{connections}: {seconds:?}");
        }
    }

    #[test]
    fn neighbours_ping_together_whenever_they_came() {
        let begin = 3_600 * SECOND;
        let phase = |place, after| {
            let now = Instant(begin + after);
            let due = Tested::begin(0, now, place).poll_timeout(None);
            assert!(due.since(now) >= Duration::from_secs(1) && due.since(now) <= Duration::from_secs(20), "{due:?}");
            due.0 % (20 * SECOND)
        };
        for after in [1, 3 * SECOND, 12 * SECOND + 7] {
            assert_eq!(phase(NEIGHBOURS, 0), phase(2 * NEIGHBOURS - 1, after));
            assert_ne!(phase(NEIGHBOURS, 0), phase(2 * NEIGHBOURS, after), "those behind them ping at another time");
        }
    }

    #[test]
    fn neighbours_ping_together_although_one_came_after_a_stop_of_the_core() {
        let (came, lost) = (Instant(3_600 * SECOND), Duration::from_millis(2_700));
        let mut before = Tested::begin(0, came, 0);
        before.0.handle_lost(lost);
        let now = Now { instant: came + lost, attended: came, wall: Timestamp(0) };
        let after = Heartbeat::new(&before.1, now, 0);
        assert_eq!(before.poll_timeout(None), after.poll_timeout(&before.1, None));
    }
}
