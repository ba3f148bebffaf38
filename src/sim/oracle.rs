//! The oracle knows what peers sent and every byte that a kernel took; from the first it knows what the second has to be.
//! What answers must say is in [`super::answers`], what must happen by when in [`super::deadlines`].

use super::{
    behaviour::{Misbehaviour, Profile, Reading},
    client::Seen,
    ledger::{Ledger, Outcome},
    roster::Roster,
    scenario::Scenario,
    trace::Trace,
};
use crate::model::{Change, CloseReason, ConnectionId, Instant, Side};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// A rule that does not hold.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) rule: &'static str,
    pub(super) conn: Option<usize>,
    pub(super) text: String,
}

/// What a connection's first frame told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) connection: ConnectionId,
    /// Its events begin behind this one.
    pub(super) offset: u64,
    pub(super) at: Instant,
}

/// One peer's connection.
#[derive(Default, Debug)]
pub(super) struct Watched {
    pub(super) platform: bool,
    /// Nothing about the peer gives the hub a reason to end it or to wait for it.
    pub(super) good: bool,
    /// The key that it comes with.
    pub(super) key: Option<usize>,
    pub(super) accepted: Option<Instant>,
    /// When it asked to be let in, and when the hub had read that.
    pub(super) requested_at: Option<Instant>,
    pub(super) request_end: u64,
    pub(super) request_received: Option<Instant>,
    pub(super) ack: Option<Ack>,
    /// Its gateway's events up to this offset went out whole.
    pub(super) seen: u64,
    pub(super) last_received: Option<Instant>,
    pub(super) last_ping: Instant,
    /// Since when its socket has not taken all that it was offered.
    pub(super) blocked_since: Option<Instant>,
    /// When it last took anything of that.
    pub(super) last_progress: Instant,
    pub(super) was_blocked: bool,
    /// It was closed so that another could be accepted.
    pub(super) made_room: bool,
    last_blocked: Option<Instant>,
    pub(super) close_sent: Option<(u16, Instant)>,
    /// When the hub said its last: close frame, FIN, or the end of the socket.
    pub(super) ended: Option<Instant>,
    pub(super) closed: Option<Instant>,
    /// When its peer began to leave.
    pub(super) leaving: Option<Instant>,
    pub(super) answered_at: Option<Instant>,
    /// An answer said that it is the last.
    pub(super) last_answer: bool,
    pub(super) refused: Option<u16>,
    pub(super) reason: Option<CloseReason>,
    pub(super) connected: Option<ConnectionId>,
    pub(super) outbox_bytes: usize,
    pub(super) unfinished_bytes: usize,
}

impl Watched {
    pub(super) fn was_blocked_since(&self, since: Instant) -> bool {
        self.blocked_since.is_some() || self.last_blocked.is_some_and(|at| at >= since)
    }
}

/// The oracle.
pub(super) struct Oracle {
    pub(super) violation: Option<Violation>,
    pub(super) watched: Vec<Watched>,
    /// Where each peer comes from.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ledger: Ledger,
    pub(super) roster: Roster,
    pub(super) seen_events: u64,
    pub(super) failed_deliveries: u64,
    /// How often things happened that a set of worlds must not lack.
    pub(super) coverage: BTreeMap<&'static str, u64>,
    pub(super) scenario: Scenario,
    pub(super) drained: Option<Instant>,
    /// Since when a core does nothing any more.
    pub(super) dead: Option<Instant>,
    /// Everybody has left but who asks for the statistics.
    pub(super) audited: bool,
    /// The latest that a deadline was kept, by its name.
    pub(super) lateness: BTreeMap<&'static str, Duration>,
    /// Violations of rules that only are counted.
    pub(super) counted: BTreeMap<&'static str, u64>,
}

/// How late a deadline may be kept (one slot of the timer wheel is in it).
pub(super) const SLACK: Duration = Duration::from_millis(50);

impl Oracle {
    pub(super) fn new(scenario: Scenario, roster: Roster, addresses: Vec<IpAddr>) -> Self {
        let watched = |profile: &Profile| Watched {
            platform: profile.platform,
            good: profile.is_good(),
            key: profile.key.filter(|_| !profile.platform),
            ..Watched::default()
        };
        Self {
            violation: None,
            watched: scenario.profiles.iter().map(watched).collect(),
            addresses,
            ledger: Ledger::default(),
            roster,
            seen_events: 0,
            failed_deliveries: 0,
            coverage: BTreeMap::new(),
            drained: None,
            audited: false,
            lateness: BTreeMap::new(),
            dead: None,
            counted: scenario.counted.iter().map(|rule| (*rule, 0)).collect(),
            scenario,
        }
    }

    /// Deadlines of a world whose turns cost much are kept later by some of these turns.
    pub(super) fn slack(&self) -> Duration {
        SLACK
    }

    /// Counts something that happened.
    pub(super) fn cover(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
    }

    /// Notes the first rule that is broken.
    pub(super) fn fail(&mut self, rule: &'static str, conn: Option<usize>, text: String) {
        if let Some(count) = self.counted.get_mut(rule) {
            *count += 1;
            return;
        }
        self.violation.get_or_insert(Violation { rule, conn, text });
    }

    pub(super) fn side(&self, conn: usize) -> Side {
        match self.scenario.profiles[conn].side {
            Some(side) => side,
            None => Side::Both,
        }
    }

    /// The peer has said its opening, which ends here among its bytes.
    pub(super) fn requested(&mut self, now: Instant, conn: usize, end: u64) {
        self.watched[conn].requested_at = Some(now);
        self.watched[conn].request_end = end;
    }

    /// What the peer has said before the handshake of TLS was over ends here among its bytes.
    pub(super) fn early_ends(&mut self, conn: usize, end: u64) {
        let half = self.scenario.profiles[conn].misbehaviour == Misbehaviour::HalfHead;
        if self.watched[conn].request_end == u64::MAX && !half {
            self.watched[conn].request_end = end;
        }
        self.ledger.early_ends(conn, end);
    }

    /// The hub has read so many bytes of a peer.
    pub(super) fn received(&mut self, now: Instant, conn: usize, total: u64) {
        let watched = &mut self.watched[conn];
        watched.last_received = Some(now);
        if watched.requested_at.is_some() && watched.request_received.is_none() && watched.request_end <= total {
            watched.request_received = Some(now);
        }
        self.ledger.received(now, conn, total);
    }

    /// The peer is about to leave.
    pub(super) fn leaves(&mut self, now: Instant, conn: usize) {
        self.watched[conn].leaving.get_or_insert(now);
    }

    /// The kernel did not take all of a write.
    pub(super) fn write_was_short(&mut self, now: Instant, conn: usize, progress: bool) {
        self.cover("short write");
        let watched = &mut self.watched[conn];
        watched.was_blocked = true;
        if progress || watched.blocked_since.is_none() {
            watched.last_progress = now;
        }
        watched.blocked_since.get_or_insert(now);
    }

    /// The kernel took all of a write.
    pub(super) fn write_was_whole(&mut self, now: Instant, conn: usize) {
        let watched = &mut self.watched[conn];
        if watched.blocked_since.take().is_some() {
            watched.last_blocked = Some(now);
        }
    }

    /// The store has committed a change.
    pub(super) fn committed(&mut self, now: Instant, change: Change) {
        self.roster.committed(now, change);
    }

    /// Something whole went into a kernel.
    pub(super) fn took(&mut self, now: Instant, conn: usize, item: &Seen, trace: &mut Trace) {
        trace.add(now, Some(conn), || match item {
            Seen::Text(text) => format!("gets {}", excerpt(text)),
            Seen::Response(status, body, _) => format!("gets {status} {}", excerpt(body)),
            other => format!("gets {other:?}"),
        });
        match item {
            // What is not TLS is answered with an alert.
            Seen::Broken(_) if self.scenario.profiles[conn].misbehaviour == Misbehaviour::Garbage => {}
            // A handshake that its peer broke off.
            Seen::Broken(_) if self.watched[conn].leaving.is_some() && self.watched[conn].ack.is_none() => {}
            Seen::Broken(what) => self.fail("the hub sends only whole frames in order", Some(conn), what.clone()),
            Seen::Response(status, body, last) => self.answered(now, conn, *status, body, *last),
            Seen::Upgraded => {}
            Seen::Text(text) if self.watched[conn].ack.is_none() => self.check_ack(now, conn, text),
            _ if self.watched[conn].ack.is_none() => {
                self.fail("the first frame is the ack", Some(conn), format!("{item:?}"));
            }
            Seen::Text(text) => self.check_event(now, conn, text),
            Seen::Ping => self.check_ping(now, conn),
            Seen::Pong => {}
            Seen::Close(code, reason) => self.check_close(conn, *code, reason, now),
        }
    }

    /// An answer to a gateway that is not let in, or to what was not a request.
    pub(super) fn refused(&mut self, now: Instant, conn: usize, status: u16) {
        let platform = self.watched[conn].platform;
        if !matches!(status, 400 | 401 | 404 | 405 | 408 | 414 | 426 | 429 | 431 | 503)
            || self.watched[conn].refused.is_some()
        {
            return self.fail("every HTTP answer belongs to a request", Some(conn), status.to_string());
        }
        self.watched[conn].refused = Some(status);
        if platform && status != 408 {
            self.fail("every HTTP answer belongs to a request", Some(conn), status.to_string());
        }
        if !platform {
            self.check_refusal(now, conn, status);
        }
    }

    /// A rejected gateway: the status must have its cause.
    fn check_refusal(&mut self, _: Instant, conn: usize, status: u16) {
        let watched = &self.watched[conn];
        let asked = watched.requested_at.unwrap_or_default();
        let profile = &self.scenario.profiles[conn];
        let plain = profile.misbehaviour.is_tolerated();
        let good_key = watched.key.is_some_and(|key| self.roster.is_good(key, asked));
        let scenario = &self.scenario;
        let few = |max: usize| max < scenario.profiles.len();
        let per_gateway = scenario.connections_per_gateway_max;
        let cause = match status {
            401 => !good_key,
            429 => scenario.rate_per_window > 0,
            503 => {
                self.drained.is_some() || few(scenario.connections_max) || per_gateway > 0 || few(scenario.requests_max)
            }
            408 => profile.misbehaviour == Misbehaviour::HalfHead || !watched.good,
            _ => !plain,
        };
        match status {
            401 => self.cover("unauthorized"),
            429 => self.cover("rate limited"),
            503 if few(self.scenario.connections_max) => self.cover("capacity exceeded"),
            503 => self.cover("connection refused with 503"),
            408 => self.cover("handshake timed out"),
            _ => {}
        }
        if !cause {
            self.fail("the status of a refusal has a cause", Some(conn), status.to_string());
        }
    }

    /// Everybody has left: what must be true of each connection now.
    pub(super) fn check_end(&mut self) {
        // What a dead core held goes with its process.
        if self.dead.is_some() {
            return;
        }
        for conn in 0..self.watched.len() {
            let watched = &self.watched[conn];
            let reads = self.scenario.profiles[conn].reading == Reading::Eager;
            let text = format!("accepted {:?}, closed {:?}", watched.accepted, watched.closed);
            if watched.requested_at.is_some() && watched.closed.is_none() {
                self.fail("every connection and every core ends", Some(conn), text);
            } else if watched.connected.is_some() != watched.reason.is_some()
                || watched.ack.is_some_and(|ack| watched.connected != Some(ack.connection))
            {
                self.fail(
                    "a connection is reported connected once and disconnected once",
                    Some(conn),
                    format!("{watched:?}"),
                );
            } else if let (Some((code, _)), Some(reason)) = (watched.close_sent, watched.reason)
                && reads
                && reason.code().is_some_and(|expected| expected != code)
                && watched.leaving.is_none()
            {
                self.fail("the close code matches the close reason", Some(conn), format!("{code} for {reason}"));
            }
        }
        self.check_failures();
        if let Err(text) = self.ledger.check_places() {
            self.fail("positions have no gaps", None, text);
        }
    }

    /// Once an event has failed on a connection, none behind it counts as delivered there. What was sealed already may still
    /// go out.
    fn check_failures(&mut self) {
        let mut lost = BTreeMap::new();
        for entry in &self.ledger.events {
            let (Outcome::Answered(counts), Some(offset)) = (&entry.outcome, entry.offset) else { continue };
            for connection in &counts.failures {
                let first = lost.entry(*connection).or_insert(offset);
                *first = offset.min(*first);
            }
        }
        let mut broken = None;
        for (event, entry) in self.ledger.events.iter().enumerate() {
            let (Outcome::Answered(counts), Some(offset)) = (&entry.outcome, entry.offset) else { continue };
            let all_listed = counts.failures.len() as u64 == counts.failed && counts.pending == 0;
            for (conn, _) in entry.written.iter().filter(|_| all_listed) {
                let Some(ack) = self.watched[*conn].ack else { continue };
                let first = lost.get(&ack.connection).filter(|first| **first < offset);
                if let Some(first) = first.filter(|_| !counts.failures.contains(&ack.connection)) {
                    broken = Some((*conn, format!("{first} failed, and event {event} at {offset} was delivered")));
                }
            }
        }
        if let Some((conn, text)) = broken {
            self.fail("no event is delivered after one that failed", Some(conn), text);
        }
    }
}

/// The port of the first line's peer.
pub(super) const FIRST_PORT: u16 = 1_000;

pub(super) fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let count = text.chars().count();
    if count <= 420 {
        return text.into_owned();
    }
    let begin: String = text.chars().take(160).collect();
    let end: String = text.chars().skip(count - 240).collect();
    format!("{begin}…{end}")
}
