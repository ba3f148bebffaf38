//! Deadlines that the oracle checks: acks, events, pings, silence, blocked writes, revocations, the end of a
//! connection, drains.
//!
//! A check counts only for connections that nothing else could have delayed: their peers are well-behaved, or their
//! sockets were not blocked, or they have not begun to leave.

use super::{
    behaviour::{Ending, Misbehaviour, Reading},
    ledger::Outcome,
    net::START,
    oracle::{Oracle, SLACK},
    socket::Socket,
};
use crate::{limits, model::Instant};
use std::time::Duration;

/// A revoked key's connections must be closed within this time.
const REVOCATION: Duration = Duration::from_secs(1);
/// Longest time until the hub tries `accept` again after the descriptors ran out.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

impl Oracle {
    /// Records how late something is that was due at `due` and happens at `now`, and fails the rule beyond the slack.
    pub(super) fn late(&mut self, rule: &'static str, conn: usize, due: Instant, now: Instant) {
        let late = now.since(due);
        let most = self.lateness.entry(rule).or_default();
        *most = (*most).max(late);
        if late > self.slack() {
            self.fail(rule, Some(conn), format!("{late:?} late"));
        }
    }

    /// The hub accepts a connection that was in the kernel's queue since `due`.
    pub(super) fn accepted(&mut self, now: Instant, conn: usize, due: Instant) {
        self.watched[conn].accepted = Some(now);
        let due = if self.scenario.descriptors.is_some() { due + ACCEPT_RETRY } else { due };
        self.late("a waiting connection is accepted at once", conn, due, now);
    }

    /// A gateway got its ack: it must come at once after the upgrade request.
    pub(super) fn check_admission(&mut self, now: Instant, conn: usize) {
        let Some(received) = self.watched[conn].request_received.filter(|_| !self.watched[conn].was_blocked) else {
            return;
        };
        // Without a position the ack waits for the log for a second, with one for four.
        let resumes = self.scenario.profiles[conn].resumes.is_some();
        let most = if resumes { limits::RESUME_PATIENCE } else { limits::FOLLOW_PATIENCE };
        // One that begins in the past reads the log, and waits for memory if there is little.
        let reads = resumes || self.watched[conn].key.is_some_and(|_| self.has_processed());
        let waits = reads && self.scenario.is_read_late();
        let log = if waits { most } else { (self.scenario.log.lateness() * if reads { 4 } else { 2 }).min(most) };
        // A request in hundreds of tiny pieces takes as many visits.
        let is_cut = self.scenario.profiles[conn].piece_max < 8;
        let visits = Duration::from_millis(if is_cut { 100 } else { 0 });
        let lanes = Duration::from_micros(self.scenario.mesh_delay_max) * 3 + log + visits;
        self.late("a gateway with a valid key gets its ack at once", conn, received + lanes, now);
    }

    /// A connection has got an event: on one that was never blocked it must come at once after the publish.
    pub(super) fn check_promptness(&mut self, now: Instant, conn: usize, event: usize) {
        let watched = &self.watched[conn];
        let call = &self.ledger.calls[self.ledger.events[event].call];
        let firm = watched.good && watched.leaving.is_none() && !watched.was_blocked;
        // Not for batches: their lines wait for each other, so the time depends on the batch's length.
        let single = matches!(call.kind, super::ledger::CallKind::Publish(_));
        if let Some(arrived) = call.arrived.filter(|_| firm && single && !call.early && self.drained.is_none()) {
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max);
            // What the log cannot tell at once is delivered late, and what waits for the window.
            let proving = &watched.proving;
            // Beside others with a window, it may get some from the log.
            let waits = proving.mode.is_none() || (self.has_processed() && self.shares_windows(conn));
            if self.scenario.log.is_faulty() || watched.ack.is_some_and(|ack| ack.resumed) || waits {
                return;
            }
            let window_opened = proving.proved_at.unwrap_or_default();
            let lanes = lanes + self.scenario.log.lateness();
            // Requests of one connection are served one by one, so the time begins with the answer to the one before.
            let call = self.ledger.events[event].call;
            let publisher = self.ledger.open.iter().find(|(_, calls)| calls.front() == Some(&call));
            let Some((publisher, _)) = publisher else { return };
            let before = self.watched[*publisher].answered_at.unwrap_or_default();
            let accepted = self.watched[*publisher].accepted.unwrap_or_default();
            let start = arrived.max(before).max(accepted).max(window_opened);
            self.late("an event reaches a reading connection at once", conn, start + lanes, now);
        }
    }

    pub(super) fn check_ping(&mut self, now: Instant, conn: usize) {
        self.cover("ping");
        if self.watched[conn].close_sent.is_some() {
            return self.fail("nothing follows a close frame", Some(conn), "a ping".to_owned());
        }
        self.check_ping_gap(now, conn);
        self.watched[conn].last_ping = now;
    }

    fn check_ping_gap(&mut self, now: Instant, conn: usize) {
        let watched = &self.watched[conn];
        let interval = self.scenario.session.heartbeat.interval;
        if watched.good && !watched.was_blocked && watched.leaving.is_none() && self.drained.is_none() {
            let due = self.after_pause(watched.last_ping + interval);
            self.late("pings are at most one interval apart", conn, due, now);
        }
    }

    /// Moves a deadline that falls into a pause of the hub to the end of the pause.
    fn after_pause(&self, due: Instant) -> Instant {
        let pause = self.scenario.pause.map(|(from, until)| (Instant(START) + from, Instant(START) + until));
        pause.filter(|(from, until)| (*from..*until).contains(&due)).map_or(due, |(_, until)| until)
    }

    /// The hub has sent a FIN or a close frame, or closed the socket.
    pub(super) fn ended(&mut self, now: Instant, conn: usize, socket: &Socket) {
        if self.watched[conn].ended.is_none() {
            self.check_stall(now, conn, socket);
            self.check_offered(now, conn, socket);
            self.check_leaving(now, conn, socket);
        }
        self.check_end_of(now, conn);
    }

    /// The hub has ended its side, by close frame, FIN or close; checks what must hold then, once for each connection.
    pub(super) fn check_end_of(&mut self, now: Instant, conn: usize) {
        if self.watched[conn].ended.replace(now).is_some_and(|before| {
            self.watched[conn].ended = Some(before);
            true
        }) {
            return;
        }
        if self.watched[conn].ack.is_some() {
            self.check_ping_gap(now, conn);
            self.end_proving(now, conn);
            self.check_drain(now, conn);
            self.check_silence(now, conn);
            self.check_good(conn);
            self.check_delivered(now, conn);
            self.check_revocation(now, conn);
        } else {
            self.check_patience(now, conn);
        }
    }

    /// A silent peer is closed at the heartbeat timeout (plus the busy grace), not before and not after.
    fn check_silence(&mut self, now: Instant, conn: usize) {
        let heartbeat = self.scenario.session.heartbeat;
        let watched = &self.watched[conn];
        let Some(last) = watched.last_received.filter(|_| self.drained.is_none()) else { return };
        let life = last.max(watched.ack.map_or(last, |ack| ack.at));
        // A peer that is closing, or was closed for another reason, gets the close deadline on top to take the last
        // bytes.
        let closing = watched.was_blocked_since(Instant(now.0.saturating_sub(1_000)))
            || (watched.leaving.is_some() && !matches!(self.scenario.profiles[conn].ending, Ending::Vanish))
            || !watched.good && self.scenario.profiles[conn].misbehaviour != Misbehaviour::None;
        let more = if closing { limits::CLOSE_DEADLINE } else { Duration::ZERO };
        // One that is at work on an event has its own time for that.
        let due = (life + heartbeat.timeout + heartbeat.busy_grace).max(self.may_work_until(conn)) + more;
        self.late("a silent peer is closed at the heartbeat timeout", conn, due, now);
        let watched = &self.watched[conn];
        // Code 1001 without a drain means the heartbeat. Not checked under TLS: part of a record is
        // received, but does not count as a sign of life yet. Nor where the socket took the close frame in pieces: a pong
        // may come in between.
        let blocked = watched.was_blocked_since(Instant(now.0.saturating_sub(1_000_000)));
        let silent = !blocked && watched.close_sent.is_some_and(|(code, _)| code == 1001) && watched.leaving.is_none();
        let silent = silent && watched.close_reason.as_deref() != Some("delivery changed");
        let silence = now.since(last);
        if silent && !self.scenario.tls && silence < heartbeat.timeout {
            self.fail("a silent peer is closed at the heartbeat timeout", Some(conn), format!("after {silence:?}"));
        }
        let is_alive = self.scenario.profiles[conn].conditions.is_perfect() || self.scenario.strict;
        let patience = heartbeat.timeout + heartbeat.busy_grace;
        let works = self.watched[conn].proving.is_processed() && now < self.may_work_until(conn);
        if silent && is_alive && !self.scenario.tls && (silence < patience || works) {
            self.fail("a peer whose kernel acknowledges gets the busy grace", Some(conn), format!("after {silence:?}"));
        }
    }

    /// The engine reports a heartbeat timeout: the peer must not be one that answers every ping.
    pub(super) fn check_answered_pings(&mut self, conn: usize) {
        let (watched, profile) = (&self.watched[conn], &self.scenario.profiles[conn]);
        let answers = profile.pongs && profile.reading == Reading::Eager && profile.misbehaviour == Misbehaviour::None;
        if self.scenario.strict && answers && watched.leaving.is_none() {
            self.fail("a peer that answers its pings is not closed", Some(conn), String::new());
        }
    }

    /// A well-behaved peer with a valid key is closed only in a drain.
    fn check_good(&mut self, conn: usize) {
        let watched = &self.watched[conn];
        let revoked = watched.key.is_some_and(|key| self.roster.removal_of(key).begun.is_some());
        // With little memory a burst goes through the log, and a small log trims it before it is read.
        let is_scarce = self.scenario.is_scarce() || (self.scenario.trims() && watched.proving.is_processed());
        let trimmed = is_scarce && matches!(watched.close_sent, Some((1013, _)));
        let changed = watched.close_reason.as_deref() == Some("delivery changed");
        if changed {
            return self.check_change(conn);
        }
        if watched.good && watched.leaving.is_none() && !revoked && self.drained.is_none() && !trimmed {
            let close_sent = watched.close_sent;
            self.fail("a well-behaved peer is not closed", Some(conn), format!("{close_sent:?}"));
        }
    }

    /// A connection that was never blocked has every event whose publish was answered more than a second ago, plus what the
    /// log may take.
    pub(super) fn check_delivered(&mut self, now: Instant, conn: usize) {
        let watched = &self.watched[conn];
        let (Some(ack), Some(key)) = (watched.ack, watched.key) else { return };
        if !watched.good || watched.was_blocked || self.roster.removal_of(key).begun.is_some() {
            return;
        }
        let proving = &watched.proving;
        if proving.mode.is_none() || (proving.is_processed() && (!proving.in_flight.is_empty() || self.is_behind(conn)))
        {
            return;
        }
        let answered = proving.proved_at.unwrap_or_default();
        let gateway = self.roster.keys[key].gateway;
        let until = watched.leaving.unwrap_or(now);
        // A follow that was interrupted, and a read that has failed, take another way through the log.
        let log = self.scenario.log;
        let patience = Duration::from_secs(1)
            + log.lateness() * 6
            + if log.is_faulty() || self.scenario.is_scarce() { Duration::from_secs(3) } else { Duration::ZERO };
        let seen = watched.seen;
        let missing = self.ledger.events.iter().filter(|event| event.gateway == gateway).find_map(|event| {
            let Outcome::Answered(counts) = &event.outcome else { return None };
            let old = counts.at.max(answered) + patience < until && counts.at > ack.at;
            event.offset.filter(|offset| old && *offset > seen && *offset > ack.offset)
        });
        if let Some(offset) = missing {
            self.fail(
                "no event is lost between ack and close",
                Some(conn),
                format!("offset {offset} is missing, {seen} is the last"),
            );
        }
    }

    /// A revoked key's connections end within a second; outside of strict worlds only if their peers read.
    fn check_revocation(&mut self, now: Instant, conn: usize) {
        let watched = &self.watched[conn];
        let (Some(ack), Some(key)) = (watched.ack, watched.key) else { return };
        let end = self.roster.removal_of(key);
        let since = if self.scenario.strict { end.begun } else { end.committed };
        let Some(committed) = since.filter(|at| *at <= now) else { return };
        self.cover("revoked with connections");
        let watched = &self.watched[conn];
        let unread = watched.was_blocked_since(committed) && !self.scenario.strict;
        let left = watched.leaving.is_some() && !self.scenario.strict;
        if !unread && !left && self.drained.is_none() {
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max);
            let due = committed.max(ack.at) + REVOCATION + lanes;
            let watched = &self.watched[conn];
            if now > due {
                let text =
                    format!("{:?} after the change; short since {:?}", now.since(committed), watched.blocked_since);
                self.fail("a revoked key's connections end within a second", Some(conn), text);
            }
        }
    }

    /// A connection that never became a gateway's: an unfinished head and an idle connection end at their deadlines,
    /// not earlier.
    fn check_patience(&mut self, now: Instant, conn: usize) {
        let watched = &self.watched[conn];
        let profile = &self.scenario.profiles[conn];
        let Some(accepted) = watched.accepted.filter(|_| self.drained.is_none() && !watched.made_room) else { return };
        let asked = watched.request_received.is_some() || watched.answered_at.is_some();
        if !asked && profile.misbehaviour == Misbehaviour::HalfHead && watched.leaving.is_none() {
            let due = accepted + self.scenario.session.handshake_deadline;
            // The 408 may have to wait for a blocked socket.
            let due = if watched.was_blocked { due + self.scenario.session.write_deadline } else { due };
            self.late("an unfinished handshake is closed at its deadline", conn, due, now);
            if now + Duration::from_millis(1) < due && !self.watched[conn].was_blocked {
                self.fail(
                    "an unfinished handshake is closed at its deadline",
                    Some(conn),
                    format!("{:?} early", due.since(now)),
                );
            }
        }
        let idle = self.ledger.waiting(conn) == 0 && watched_idle(&self.watched[conn]);
        if let Some(answered) = self.watched[conn].answered_at.filter(|_| idle) {
            let due = answered + limits::HTTP_IDLE_DEADLINE;
            self.late("an idle HTTP connection is closed at its deadline", conn, due, now);
            // The hub's timer starts when it computes the answer, a visit or two before the kernel takes it.
            if now + Duration::from_millis(10) < due {
                self.fail(
                    "an idle HTTP connection is closed at its deadline",
                    Some(conn),
                    format!("{:?} early", due.since(now)),
                );
            } else {
                self.cover("idle connection closed");
            }
        }
    }

    /// The hub writes to a socket that has become writable: at once, because bytes were left over.
    pub(super) fn check_offered(&mut self, now: Instant, conn: usize, socket: &Socket) {
        if let Some(offered) = socket.writable_since {
            // The socket may be in a handoff to another core.
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max);
            self.late("a socket that becomes writable is written to at once", conn, offered + lanes, now);
        }
    }

    /// A core takes from its control lane, as it did at `before`: the round between must be short.
    pub(super) fn check_round(&mut self, now: Instant, before: Instant) {
        let took = now.since(before);
        let most = self.lateness.entry(ROUND).or_default();
        *most = (*most).max(took);
        if took > ROUND_MAX && self.scenario.pause.is_none() {
            self.fail(ROUND, None, format!("{took:?}"));
        }
    }

    /// In a drain, each well-behaved connection gets a close frame before the end of the window.
    fn check_drain(&mut self, now: Instant, conn: usize) {
        let Some(drained) = self.drained else { return };
        let watched = &self.watched[conn];
        if watched.good && !watched.was_blocked && watched.leaving.is_none() {
            if watched.close_sent.is_none() {
                return self.fail("a drain sends every connection a close frame", Some(conn), String::new());
            }
            // The window begins with the order to drain, not with a connection's ack: some connect after it.
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max) * 3;
            let due = drained + self.scenario.drain_window + lanes;
            self.late("a drain closes every connection within its window", conn, due, now);
        }
    }

    /// A socket that stays blocked is closed at the write deadline.
    fn check_stall(&mut self, now: Instant, conn: usize, socket: &Socket) {
        let Some(short) = socket.blocked_since.filter(|_| self.drained.is_none()) else { return };
        let deadline = self.scenario.session.write_deadline;
        // Bytes that the peer acknowledged after the block restart the deadline; the hub may notice only when the first
        // ends.
        let due = if socket.arrived_at > short { socket.arrived_at + deadline * 2 } else { short + deadline };
        self.late("a stalled socket is closed at the write deadline", conn, due, now);
        if now >= due {
            self.cover("write deadline");
        }
    }

    /// The hub handles a FIN or RST of the peer at once.
    fn check_leaving(&mut self, now: Instant, conn: usize, socket: &Socket) {
        let lanes = Duration::from_micros(self.scenario.mesh_delay_max) * 3;
        let watched = &self.watched[conn];
        let free =
            watched.blocked_since.is_none() && !watched.was_blocked_since(Instant(now.0.saturating_sub(1_000_000)));
        let streaming = watched.ack.is_some() && free && watched.leaving.is_some();
        let since = watched.ack.map_or(now, |ack| ack.at);
        let misbehaviour = self.scenario.profiles[conn].misbehaviour;
        let flood = matches!(misbehaviour, Misbehaviour::PingFlood | Misbehaviour::MessageFlood);
        let gone = match (socket.reset, socket.fin) {
            (Some(reset), _) if watched.accepted.is_some() => Some(reset.max(watched.accepted.unwrap_or(reset))),
            (None, Some(fin)) if streaming && !flood && self.drained.is_none() => Some(fin.max(since)),
            _ => None,
        };
        if let Some(gone) = gone {
            self.late("a FIN or RST of the peer is handled at once", conn, gone + lanes, now);
        }
    }

    /// The hub has closed the socket.
    pub(super) fn closed(&mut self, now: Instant, conn: usize, socket: &Socket) {
        self.ended(now, conn, socket);
        self.count_attempts(now, conn);
        self.watched[conn].closed = Some(now);
        let watched = &self.watched[conn];
        let waiting = self.ledger.open.get(&conn).into_iter().flatten();
        let unanswered = waiting.filter(|call| self.ledger.calls[**call].received.is_some()).count();
        let last = watched.last_answer && !self.scenario.strict;
        let excused = last || self.drained.is_some() || socket.reset.is_some() || !watched.good;
        let left = watched.leaving.is_some() && !self.scenario.strict;
        if unanswered > 0 && !excused && !left {
            self.fail("every request is answered", Some(conn), format!("{unanswered} are not"));
        }
        // After its close frame the hub waits for the peer's close frame and FIN, but not longer than their deadlines.
        let closed = self.watched[conn].close_sent.map(|(_, at)| at);
        let free = closed.is_some_and(|at| !self.watched[conn].was_blocked_since(at));
        if let Some(closed) = closed.filter(|_| free && self.drained.is_none()) {
            let most = closed + limits::CLOSE_DEADLINE + LINGER + SLACK;
            self.late("a connection is gone soon after its close frame", conn, most, now);
        }
    }
}

/// The shares of a round add up to much less; the rest is for one visit that overruns its share in worlds where each
/// call costs up to fifty times as much.
const ROUND: &str = "a core's round takes at most 20 ms";
const ROUND_MAX: Duration = Duration::from_millis(20);

/// After the close handshake the hub sends its FIN and waits this long for the peer's.
const LINGER: Duration = Duration::from_secs(1);

fn watched_idle(watched: &super::oracle::Watched) -> bool {
    watched.platform && watched.good && watched.leaving.is_none() && !watched.last_answer
}
