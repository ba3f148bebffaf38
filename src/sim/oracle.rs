//! The oracle knows what the peers sent and every byte that a simulated kernel took; from the first it derives what the
//! second must be. Rules about HTTP answers are in [`super::answers`], deadlines in [`super::deadlines`], messages in
//! [`super::frames`].

use super::{
    behaviour::{Misbehaviour, Profile, Reading},
    client::Seen,
    ledger::{Ledger, Outcome},
    proving::{Handled, Proving},
    roster::Roster,
    scenario::Scenario,
    trace::Trace,
};
use crate::model::{Change, CloseReason, ConnectionId, Instant, Side};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// A broken rule.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) rule: &'static str,
    pub(super) conn: Option<usize>,
    pub(super) text: String,
}

/// The content of a connection's `connection.ack`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) connection: ConnectionId,
    /// The offset of its position: the connection's events begin with the next.
    pub(super) offset: u64,
    pub(super) at: Instant,
    /// The connection goes on behind the position that it asked for.
    pub(super) resumed: bool,
}

/// The offset of an ack without a position, until the first event shows where the connection has begun.
pub(super) const NOWHERE: u64 = u64::MAX;

/// What the oracle knows about one connection.
#[derive(Default, Debug)]
pub(super) struct Watched {
    pub(super) platform: bool,
    /// The peer gives the hub no reason to close it or to wait for it.
    pub(super) good: bool,
    /// A gateway's key, as an index into the roster's keys.
    pub(super) key: Option<usize>,
    pub(super) accepted: Option<Instant>,
    /// When the peer sent its first request, where that ends in its stream, and when the hub had read it.
    pub(super) requested_at: Option<Instant>,
    pub(super) request_end: u64,
    pub(super) request_received: Option<Instant>,
    pub(super) ack: Option<Ack>,
    /// The kernel has taken all of its gateway's events up to this offset.
    pub(super) seen: u64,
    pub(super) last_received: Option<Instant>,
    pub(super) last_ping: Instant,
    /// Since when its socket is blocked: its kernel did not take all of a write.
    pub(super) blocked_since: Option<Instant>,
    /// When a blocked socket last took any byte.
    pub(super) last_progress: Instant,
    pub(super) was_blocked: bool,
    /// The hub closed it to free a descriptor.
    pub(super) made_room: bool,
    last_blocked: Option<Instant>,
    pub(super) close_sent: Option<(u16, Instant)>,
    pub(super) close_reason: Option<String>,
    /// When the hub ended its side: by close frame, FIN, or close of the socket.
    pub(super) ended: Option<Instant>,
    pub(super) closed: Option<Instant>,
    /// When its peer began to leave.
    pub(super) leaving: Option<Instant>,
    pub(super) answered_at: Option<Instant>,
    /// An answer had `Connection: close`.
    pub(super) last_answer: bool,
    pub(super) refused: Option<u16>,
    pub(super) reason: Option<CloseReason>,
    pub(super) connected: Option<ConnectionId>,
    pub(super) unfinished_bytes: usize,
    pub(super) proving: Proving,
}

impl Watched {
    pub(super) fn was_blocked_since(&self, since: Instant) -> bool {
        self.blocked_since.is_some() || self.last_blocked.is_some_and(|at| at >= since)
    }
}

/// Checks every rule while a world runs, and keeps the first violation.
pub(super) struct Oracle {
    pub(super) violation: Option<Violation>,
    pub(super) watched: Vec<Watched>,
    /// The address of each peer.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ledger: Ledger,
    pub(super) handled: Handled,
    pub(super) roster: Roster,
    pub(super) seen_events: u64,
    pub(super) failed_deliveries: u64,
    /// How often each kind of event happened; the tests require that a thousand worlds have all of them.
    pub(super) coverage: BTreeMap<&'static str, u64>,
    pub(super) scenario: Scenario,
    pub(super) drained: Option<Instant>,
    /// When a core died.
    pub(super) dead: Option<Instant>,
    /// All peers have left but the auditor, so the statistics must be exact.
    pub(super) audited: bool,
    /// The greatest lateness of each deadline, by its rule.
    pub(super) lateness: BTreeMap<&'static str, Duration>,
    /// How often rules were broken that the scenario only counts.
    pub(super) counted: BTreeMap<&'static str, u64>,
}

/// How late a deadline may be met; one slot of the timer wheel is included.
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
            handled: Handled::default(),
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

    /// The allowed lateness of every deadline.
    pub(super) fn slack(&self) -> Duration {
        SLACK
    }

    /// Counts an event for the coverage of the worlds.
    pub(super) fn cover(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
    }

    /// Records the first broken rule, or counts it if the scenario says so.
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

    /// A gateway has sent its upgrade request, which ends at this offset of its stream.
    pub(super) fn requested(&mut self, now: Instant, conn: usize, end: u64) {
        self.watched[conn].requested_at = Some(now);
        self.watched[conn].request_end = end;
    }

    /// What a peer wrote before its TLS handshake was over ends at this offset of its stream.
    pub(super) fn early_ends(&mut self, conn: usize, end: u64) {
        let half = self.scenario.profiles[conn].misbehaviour == Misbehaviour::HalfHead;
        if self.watched[conn].request_end == u64::MAX && !half {
            self.watched[conn].request_end = end;
        }
        self.ledger.early_ends(conn, end);
    }

    /// The hub has read the first `total` bytes of a peer.
    pub(super) fn received(&mut self, now: Instant, conn: usize, total: u64) {
        let watched = &mut self.watched[conn];
        watched.last_received = Some(now);
        if watched.requested_at.is_some() && watched.request_received.is_none() && watched.request_end <= total {
            watched.request_received = Some(now);
        }
        self.ledger.received(now, conn, total);
        self.receive_pongs(now, conn, total);
    }

    /// The peer begins to leave.
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

    /// The kernel has taken the last byte of an item of the hub's stream.
    pub(super) fn took(&mut self, now: Instant, conn: usize, item: &Seen, trace: &mut Trace) {
        trace.add(now, Some(conn), || match item {
            Seen::Text(text) => format!("gets {}", excerpt(text)),
            Seen::Response(status, body, _) => format!("gets {status} {}", excerpt(body)),
            other => format!("gets {other:?}"),
        });
        match item {
            // Bytes that are not TLS are answered with an alert, which the client reports as an error.
            Seen::Broken(_) if self.scenario.profiles[conn].misbehaviour == Misbehaviour::Garbage => {}
            // The peer broke off its handshake.
            Seen::Broken(_) if self.watched[conn].leaving.is_some() && self.watched[conn].ack.is_none() => {}
            Seen::Broken(what) => self.fail("the hub sends only whole frames in order", Some(conn), what.clone()),
            Seen::Response(status, body, last) => self.answered(now, conn, *status, body, *last),
            Seen::Upgraded => {}
            Seen::Text(text) if self.watched[conn].ack.is_none() => self.check_ack(now, conn, text),
            _ if self.watched[conn].ack.is_none() => {
                self.fail("the first frame is the ack", Some(conn), format!("{item:?}"));
            }
            Seen::Text(text) => self.check_event(now, conn, text),
            Seen::Ping(payload) => {
                self.check_ping(now, conn);
                self.check_ping_payload(conn, payload);
            }
            Seen::Pong => {}
            Seen::Close(code, reason) => self.check_close(conn, *code, reason, now),
        }
    }

    /// An answer that belongs to no open request: a refused upgrade, or a request that never was whole.
    pub(super) fn refused(&mut self, conn: usize, status: u16, body: &[u8]) {
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
            self.check_refusal(conn, status, String::from_utf8_lossy(body).contains("shutting down"));
        }
    }

    /// The status of a refused upgrade must have a cause; `ends` if the answer says that the hub does.
    fn check_refusal(&mut self, conn: usize, status: u16, ends: bool) {
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
            503 if self.drained.is_some() => true,
            503 if ends => false,
            503 => {
                let resumes = profile.resumes.is_some() && scenario.log.is_faulty();
                // It was waiting for its begin.
                let changed = watched.key.is_some_and(|key| self.roster.may_change_since(key, asked));
                resumes || changed || few(scenario.connections_max) || per_gateway > 0 || few(scenario.requests_max)
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

    /// The world has ended: checks each connection and the offsets of all events.
    pub(super) fn check_end(&mut self) {
        // A dead core never closes its sockets; in reality the kernel does when the process ends.
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
        self.check_handled();
        if let Err(text) = self.ledger.check_places() {
            self.fail("positions have no gaps", None, text);
        }
    }

    /// Once an event has failed on a connection, no later one counts as delivered there. Only answers that list all
    /// their failures are checked, because bytes that were encrypted before the failure may still go out.
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
                    broken = Some((
                        *conn,
                        format!("offset {first} failed, and event {event} at offset {offset} was delivered"),
                    ));
                }
            }
        }
        if let Some((conn, text)) = broken {
            self.fail("no event is delivered after one that failed", Some(conn), text);
        }
    }
}

/// The port of the first peer; each peer has a port of its own.
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
