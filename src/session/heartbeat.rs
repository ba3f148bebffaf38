//! Pings and the silence that ends a connection; deadlines are computed, never ticked (contract section 1).

use super::settings::Heartbeat as Settings;
use crate::model::{ConnectionId, Instant};
use std::time::Duration;

/// How often a silent peer in its grace is looked at.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Moments of an interval at which pings go out.
const GRID: u64 = 40;

/// The heartbeat of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    settings: Settings,
    next_ping: Instant,
    last_life: Instant,
    pinged: Option<Instant>,
    probe: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beat {
    Nothing,
    Ping,
    Probe,
    Dead,
}

impl Heartbeat {
    /// The first ping is within one interval, at a moment of the connection's own, so that connections that came
    /// together do not ping together. Moments lie on a common grid, a fortieth of the interval: a core that has woken
    /// for one ping sends those of its neighbours, and finds their answers together, too.
    pub(super) fn new(settings: Settings, now: Instant, connection: ConnectionId) -> Self {
        let spread = u64::from(u32::try_from(connection.0.as_u128() >> 96).unwrap_or(0));
        let interval = u64::try_from(settings.interval.as_micros()).unwrap_or(u64::MAX);
        let grid = (interval / GRID).max(1);
        // From a twentieth of the interval to all of it.
        let least = interval / 20;
        let phase = least + ((u128::from(interval - least) * u128::from(spread)) >> 32) as u64;
        let first = now + Duration::from_micros(phase);
        let next_ping = Instant(first.0 - first.0 % grid);
        Self { settings, next_ping, last_life: now, pinged: None, probe: None }
    }

    /// Something came from the peer.
    pub(super) fn handle_life(&mut self, now: Instant) {
        self.last_life = now;
        self.probe = None;
    }

    /// A pong came; returns the way there and back if it was asked for.
    pub(super) fn handle_pong(&mut self, now: Instant) -> Option<Duration> {
        self.pinged.take().map(|pinged| now.since(pinged))
    }

    /// The core did not run for a while, which `now` leaves out. The peer's time stood still; that of the pings, which
    /// the peer counts on, did not.
    pub(super) fn handle_lost(&mut self, lost: Duration) {
        self.next_ping = self.next_ping - lost;
    }

    /// The kernel was asked about a silent peer.
    pub(super) fn handle_peer_state(&mut self, now: Instant, reachable: bool) {
        if self.probe.is_some() {
            self.probe = Some(if reachable { now + PROBE_INTERVAL } else { DEAD });
        }
    }

    /// What is due now.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Beat {
        let silence_ends = self.last_life + self.settings.timeout;
        if now >= silence_ends {
            let in_grace = now < silence_ends + self.settings.busy_grace && self.probe != Some(DEAD);
            return match self.probe {
                _ if !in_grace => Beat::Dead,
                Some(next) if now < next => self.ping(now),
                _ => {
                    self.probe = Some(now + PROBE_INTERVAL);
                    Beat::Probe
                }
            };
        }
        self.ping(now)
    }

    fn ping(&mut self, now: Instant) -> Beat {
        if now < self.next_ping {
            return Beat::Nothing;
        }
        // From the plan, by whole intervals: neither a late tick nor a pause shifts the rhythm, or brings all into one.
        let missed = now.since(self.next_ping).div_duration_f64(self.settings.interval) as u32;
        self.next_ping = self.next_ping + self.settings.interval * (missed + 1);
        self.pinged = Some(now);
        Beat::Ping
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        let silence_ends = self.last_life + self.settings.timeout;
        let silence = match self.probe {
            Some(DEAD) => silence_ends,
            Some(next) => next.min(silence_ends + self.settings.busy_grace),
            None => silence_ends,
        };
        self.next_ping.min(silence)
    }
}

/// The peer's kernel is gone, too.
const DEAD: Instant = Instant(0);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn heartbeat(grace: u64) -> Heartbeat {
        let settings = Settings {
            interval: Duration::from_secs(20),
            timeout: Duration::from_secs(30),
            busy_grace: Duration::from_secs(grace),
        };
        Heartbeat::new(settings, Instant(0), ConnectionId::random())
    }

    /// Runs to the end of a silent peer's life; returns when it was judged dead and the pings before.
    fn silent(mut heartbeat: Heartbeat, reachable: bool) -> (u64, Vec<u64>) {
        let mut pings = Vec::new();
        loop {
            let now = heartbeat.poll_timeout();
            match heartbeat.handle_timeout(now) {
                Beat::Dead => return (now.0, pings),
                Beat::Ping => pings.push(now.0),
                Beat::Probe => heartbeat.handle_peer_state(now, reachable),
                Beat::Nothing => panic!("woken for nothing at {now:?}"),
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
    fn a_grace_is_given_to_a_peer_whose_kernel_is_there_and_to_no_other() {
        assert_eq!(silent(heartbeat(15), true).0, 45 * SECOND);
        assert_eq!(silent(heartbeat(15), false).0, 30 * SECOND);
    }

    #[test]
    fn lost_time_is_not_the_peers_and_the_next_ping_makes_up_for_it() {
        let mut heartbeat = heartbeat(0);
        let due = heartbeat.poll_timeout();
        heartbeat.handle_lost(Duration::from_micros(due.0 / 2));
        assert_eq!(heartbeat.poll_timeout(), due - Duration::from_micros(due.0 / 2));
        assert_eq!(silent(heartbeat, true).0, 30 * SECOND, "by the core's clock, which stood still meanwhile");
    }

    #[test]
    fn pings_keep_their_rhythm_while_the_peer_answers() {
        let mut heartbeat = heartbeat(0);
        let mut pings = Vec::new();
        while pings.len() < 20 {
            let now = heartbeat.poll_timeout();
            // Every wake-up is a little late.
            let late = Instant(now.0 + 40_000);
            assert_eq!(heartbeat.handle_timeout(late), Beat::Ping);
            pings.push(late.0);
            let pong = Instant(late.0 + 3_000);
            heartbeat.handle_life(pong);
            assert_eq!(heartbeat.handle_pong(pong), Some(Duration::from_millis(3)));
        }
        assert!(pings.windows(2).all(|pair| pair[1] - pair[0] == 20 * SECOND));
        assert_eq!(heartbeat.handle_pong(Instant(0)), None, "an unsolicited pong measures nothing");
    }

    #[test]
    fn after_a_pause_a_ping_that_fell_due_goes_out_at_once_and_the_rhythm_stays() {
        let begin = Instant(3_600 * SECOND);
        for pause in [1, 15, 45, 200].map(Duration::from_secs) {
            let mut heartbeat = Heartbeat::new(heartbeat(0).settings, begin, ConnectionId::random());
            let planned = heartbeat.poll_timeout();
            heartbeat.handle_lost(pause);
            // The core's clock leaves the pause out; on the wall it is over at `begin + pause`.
            assert_eq!(heartbeat.handle_timeout(begin) == Beat::Ping, planned <= begin + pause);
            let next = heartbeat.poll_timeout() + pause;
            assert_eq!(next.since(planned).as_micros() as u64 % (20 * SECOND), 0, "the rhythm of its own");
            assert!(
                next > begin + pause && next <= begin + pause + Duration::from_secs(20),
                "after a pause of {pause:?}"
            );
            assert_ne!(
                heartbeat.handle_timeout(begin + Duration::from_secs(29)),
                Beat::Dead,
                "it had no time to answer"
            );
        }
    }

    #[test]
    fn first_pings_are_spread_over_the_interval() {
        let mut seconds = [0; 20];
        for _ in 0..10_000 {
            seconds[((heartbeat(0).poll_timeout().0 - 1) / SECOND) as usize] += 1;
        }
        assert!(seconds.iter().max() < Some(&1_000), "{seconds:?}");
    }
}
