//! What must happen by when: pings, silence, stalls, revocations, admissions, events, leaving.

use super::{
    behaviour::{Ending, Misbehaviour, Reading},
    ledger::Outcome,
    net::START,
    oracle::{Oracle, SLACK},
    socket::Socket,
};
use crate::{limits, model::Instant};
use std::time::Duration;

/// A revoked key's connections are closed within this.
const REVOCATION: Duration = Duration::from_secs(1);
/// The kernel is asked again after this at most where it gave no connections.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

impl Oracle {
    /// Something was due at `due` and happens now.
    fn late(&mut self, rule: &'static str, conn: usize, due: Instant, now: Instant) {
        let late = now.since(due);
        let most = self.lateness.entry(rule).or_default();
        *most = (*most).max(late);
        if late > self.slack() {
            self.fail(rule, Some(conn), format!("{late:?} late"));
        }
    }

    /// The hub takes a connection that the kernel had since `due`.
    pub(super) fn accepted(&mut self, now: Instant, conn: usize, due: Instant) {
        self.watched[conn].accepted = Some(now);
        let due = if self.scenario.descriptors.is_some() { due + ACCEPT_RETRY } else { due };
        self.late("a waiting connection is accepted at once", conn, due, now);
    }

    /// A good key is let in at once where nothing stands against it.
    pub(super) fn check_admission(&mut self, now: Instant, conn: usize) {
        let Some(received) = self.watched[conn].request_received.filter(|_| !self.watched[conn].was_blocked) else {
            return;
        };
        let lanes = Duration::from_micros(self.scenario.mesh_delay_max) * 3;
        self.late("a gateway with a valid key gets its ack at once", conn, received + lanes, now);
    }

    /// An event is whole in the kernel of a connection that takes all: it was not held up on the way.
    pub(super) fn check_promptness(&mut self, now: Instant, conn: usize, event: usize) {
        let watched = &self.watched[conn];
        let call = &self.ledger.calls[self.ledger.events[event].call];
        let firm = watched.good && watched.leaving.is_none() && !watched.was_blocked;
        // A batch is as long as it is, and its own lines wait for each other.
        let single = matches!(call.kind, super::ledger::CallKind::Publish(_));
        if let Some(arrived) = call.arrived.filter(|_| firm && single && !call.early && self.drained.is_none()) {
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max);
            // Requests of one connection are served one after the other.
            let call = self.ledger.events[event].call;
            let asker = self.ledger.open.iter().find(|(_, calls)| calls.front() == Some(&call));
            let Some((asker, _)) = asker else { return };
            let before = self.watched[*asker].answered_at.unwrap_or_default();
            let accepted = self.watched[*asker].accepted.unwrap_or_default();
            let start = arrived.max(before).max(accepted);
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

    /// What falls due while the hub stands still is due when it goes on.
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

    /// The hub says its last on a line, for the first time.
    pub(super) fn check_end_of(&mut self, now: Instant, conn: usize) {
        if self.watched[conn].ended.replace(now).is_some_and(|before| {
            self.watched[conn].ended = Some(before);
            true
        }) {
            return;
        }
        if self.watched[conn].ack.is_some() {
            self.check_ping_gap(now, conn);
            self.check_drain(now, conn);
            self.check_silence(now, conn);
            self.check_good(conn);
            self.check_delivered(now, conn);
            self.check_revocation(now, conn);
        } else {
            self.check_patience(now, conn);
        }
    }

    /// A silent peer is closed at its time, not before and not after.
    fn check_silence(&mut self, now: Instant, conn: usize) {
        let heartbeat = self.scenario.session.heartbeat;
        let watched = &self.watched[conn];
        let Some(last) = watched.last_received.filter(|_| self.drained.is_none()) else { return };
        let life = last.max(watched.ack.map_or(last, |ack| ack.at));
        // Who closes, or is closed for another reason, has so long to take what is on its way.
        let closing = watched.was_blocked_since(Instant(now.0.saturating_sub(1_000)))
            || (watched.leaving.is_some() && !matches!(self.scenario.profiles[conn].ending, Ending::Vanish))
            || !watched.good && self.scenario.profiles[conn].misbehaviour != Misbehaviour::None;
        let more = if closing { limits::CLOSE_DEADLINE } else { Duration::ZERO };
        let due = life + heartbeat.timeout + heartbeat.busy_grace + more;
        self.late("a silent peer is closed at the heartbeat timeout", conn, due, now);
        let watched = &self.watched[conn];
        // A frame that tells the hub's own reason: who had been heard of lately was not silent.
        let silent = watched.close_sent.is_some_and(|(code, _)| code == 1001) && watched.leaving.is_none();
        let silence = now.since(last);
        if silent && !self.scenario.tls && silence < heartbeat.timeout {
            self.fail("a silent peer is closed at the heartbeat timeout", Some(conn), format!("after {silence:?}"));
        }
        let there = self.scenario.profiles[conn].conditions.is_perfect() || self.scenario.strict;
        if silent && there && !self.scenario.tls && silence < heartbeat.timeout + heartbeat.busy_grace {
            self.fail("a peer whose kernel acknowledges gets the busy grace", Some(conn), format!("after {silence:?}"));
        }
    }

    /// A peer was taken for dead: it must not have answered every ping that reached it.
    pub(super) fn check_answered_pings(&mut self, conn: usize) {
        let (watched, profile) = (&self.watched[conn], &self.scenario.profiles[conn]);
        let answers = profile.pongs && profile.reading == Reading::Eager && profile.misbehaviour == Misbehaviour::None;
        if self.scenario.strict && answers && watched.leaving.is_none() {
            self.fail("a peer that answers its pings is not closed", Some(conn), String::new());
        }
    }

    /// A peer that gives no reason is not closed.
    fn check_good(&mut self, conn: usize) {
        let watched = &self.watched[conn];
        let revoked = watched.key.is_some_and(|key| self.roster.removal_of(key).begun.is_some());
        if watched.good && watched.leaving.is_none() && !revoked && self.drained.is_none() {
            let close_sent = watched.close_sent;
            self.fail("a well-behaved peer is not closed", Some(conn), format!("{close_sent:?}"));
        }
    }

    /// What was answered a second ago is whole on a connection that takes all.
    pub(super) fn check_delivered(&mut self, now: Instant, conn: usize) {
        let watched = &self.watched[conn];
        let (Some(ack), Some(key)) = (watched.ack, watched.key) else { return };
        if !watched.good || watched.was_blocked || self.roster.removal_of(key).begun.is_some() {
            return;
        }
        let gateway = self.roster.keys[key].gateway;
        let until = watched.leaving.unwrap_or(now);
        let seen = watched.seen;
        let missing = self.ledger.events.iter().filter(|event| event.gateway == gateway).find_map(|event| {
            let Outcome::Answered(counts) = &event.outcome else { return None };
            let old = counts.at + Duration::from_secs(1) < until && counts.at > ack.at;
            event.offset.filter(|offset| old && *offset > seen && *offset > ack.offset)
        });
        if let Some(offset) = missing {
            self.fail(
                "no event is lost between ack and close",
                Some(conn),
                format!("{offset} is missing after {seen}"),
            );
        }
    }

    /// A revoked key's connections end within a second where their peers read.
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

    /// Who says nothing, or only a part of it, has so much time.
    fn check_patience(&mut self, now: Instant, conn: usize) {
        let watched = &self.watched[conn];
        let profile = &self.scenario.profiles[conn];
        let Some(accepted) = watched.accepted.filter(|_| self.drained.is_none() && !watched.made_room) else { return };
        let asked = watched.request_received.is_some() || watched.answered_at.is_some();
        if !asked && profile.misbehaviour == Misbehaviour::HalfHead && watched.leaving.is_none() {
            let due = accepted + self.scenario.session.handshake_deadline;
            // The last words of the hub may have to wait for the socket.
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
            // The time runs from when the answer was given, a visit or two before it was written.
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

    /// A socket that takes bytes again is written to, for something was left over.
    pub(super) fn check_offered(&mut self, now: Instant, conn: usize, socket: &Socket) {
        if let Some(offered) = socket.writable_since {
            // It may be on its way to another core.
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max);
            self.late("a socket that becomes writable is written to at once", conn, offered + lanes, now);
        }
    }

    /// A core has looked at its control lane at `before`, and does so again: nothing holds up a round for long.
    pub(super) fn check_round(&mut self, now: Instant, before: Instant) {
        let took = now.since(before);
        let most = self.lateness.entry(ROUND).or_default();
        *most = (*most).max(took);
        if took > ROUND_MAX && self.scenario.pause.is_none() {
            self.fail(ROUND, None, format!("{took:?}"));
        }
    }

    /// In a drain, whoever takes all is told so by the end of the window.
    fn check_drain(&mut self, now: Instant, conn: usize) {
        let Some(drained) = self.drained else { return };
        let watched = &self.watched[conn];
        if watched.good && !watched.was_blocked && watched.leaving.is_none() {
            if watched.close_sent.is_none() {
                return self.fail("a drain sends every connection a close frame", Some(conn), String::new());
            }
            // Some are told while others still join: the window begins with the order to drain.
            let lanes = Duration::from_micros(self.scenario.mesh_delay_max) * 3;
            let due = drained + self.scenario.drain_window + lanes;
            self.late("a drain closes every connection within its window", conn, due, now);
        }
    }

    /// A socket that takes nothing is closed at its time.
    fn check_stall(&mut self, now: Instant, conn: usize, socket: &Socket) {
        let Some(short) = socket.blocked_since.filter(|_| self.drained.is_none()) else { return };
        let deadline = self.scenario.session.write_deadline;
        // What the peer has acknowledged since gives the socket its whole deadline once more.
        let due = if socket.arrived_at > short { socket.arrived_at + deadline * 2 } else { short + deadline };
        self.late("a stalled socket is closed at the write deadline", conn, due, now);
        if now >= due {
            self.cover("write deadline");
        }
    }

    /// A peer that has gone is noticed.
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

    /// The hub has let the socket go.
    pub(super) fn closed(&mut self, now: Instant, conn: usize, socket: &Socket) {
        self.ended(now, conn, socket);
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
        // A FIN behind a close frame is noticed at once; without one the hub waits for a moment.
        let closed = self.watched[conn].close_sent.map(|(_, at)| at);
        let free = closed.is_some_and(|at| !self.watched[conn].was_blocked_since(at));
        if let Some(closed) = closed.filter(|_| free && self.drained.is_none()) {
            let most = closed + limits::CLOSE_DEADLINE + LINGER + SLACK;
            self.late("a connection is gone soon after its close frame", conn, most, now);
        }
    }
}

/// Each kind of work has its share of a round; what one visit takes beyond it is in this, for turns that cost fifty times as
/// much.
const ROUND: &str = "a core's round takes at most 20 ms";
const ROUND_MAX: Duration = Duration::from_millis(20);

/// Silence behind the close handshake: our FIN, and a second for the peer's.
const LINGER: Duration = Duration::from_secs(1);

fn watched_idle(watched: &super::oracle::Watched) -> bool {
    watched.platform && watched.good && watched.leaving.is_none() && !watched.last_answer
}

impl Oracle {
    /// What the hub keeps for a connection is bounded, also where its peer takes nothing.
    pub(super) fn check_memory(&mut self, now: Instant, conn: usize, held: &crate::engine::Held) {
        let answers = self.scenario.answer_bytes_max;
        if held.session_bytes > super::world::SESSION_BYTES_MAX + answers {
            let text = format!("{} bytes of its session", held.session_bytes);
            self.fail("the memory of a connection is bounded", Some(conn), text);
        }
        self.watched[conn].unfinished_bytes = held.unfinished_bytes;
        if self.scenario.strict {
            self.check_unfinished(conn);
        }
        let watched = &mut self.watched[conn];
        let grown = held.outbox_bytes > std::mem::replace(&mut watched.outbox_bytes, held.outbox_bytes);
        let blocked =
            watched.blocked_since.is_some() && now.since(watched.last_progress) > limits::OUTBOX_PATIENCE + SLACK;
        let most = self.scenario.outbox_bytes_max + 2 * self.scenario.event_bytes_max + limits::WRITE_BATCH_BYTES;
        if grown && blocked && held.outbox_bytes > most {
            let text = format!("{} bytes of events wait for a socket that takes none", held.outbox_bytes);
            self.fail("the memory of a connection is bounded", Some(conn), text);
        }
    }

    /// What one gateway's key has begun to send, over all of its connections.
    fn check_unfinished(&mut self, conn: usize) {
        let sum: usize =
            self.watched.iter().filter(|watched| watched.closed.is_none()).map(|it| it.unfinished_bytes).sum();
        if sum > 2 * limits::MANIFEST_BYTES_MAX {
            self.fail("unfinished bodies of one gateway are bounded", Some(conn), format!("{sum} bytes"));
        }
    }
}
