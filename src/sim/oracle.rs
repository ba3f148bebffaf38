//! Who watches a world: what must have happened on every connection, kept apart from what the hub believes.
//!
//! The oracle sees what goes into a shard and every byte that a socket took; from the first it knows what the second has
//! to be. Publishes and their answers are in [`super::ledger`], what holds at all times in [`super::invariants`].

use super::{
    client::Seen,
    faults::{Ending, Prank},
    ledger::Ledger,
    scenario::Scenario,
    story::Story,
};
use crate::{
    driver::wheel::TICK,
    model::{Change, CloseReason, ConnectionId, CorrelationId, GatewayId, Instant, Now, Position, ShardId, TokenId},
    session::End,
    shard::{ConnectionKey, Join},
};
use std::{collections::BTreeMap, time::Duration};

/// A rule that does not hold.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) rule: &'static str,
    pub(super) line: Option<usize>,
    pub(super) text: String,
}

/// A connection as a member of its gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) gateway: GatewayId,
    pub(super) token: TokenId,
    pub(super) id: ConnectionId,
    pub(super) key: ConnectionKey,
    pub(super) shard: ShardId,
    /// Events of its gateway before it came.
    pub(super) since: u64,
}

/// One peer's connection.
#[derive(Default, Debug)]
pub(super) struct Watched {
    /// Nothing about the peer gives the hub a reason to end it.
    pub(super) good: bool,
    pub(super) member: Option<Member>,
    /// Its gateway's events up to this offset went out whole.
    pub(super) seen: u64,
    /// It gets no more events.
    pub(super) closing: Option<CloseReason>,
    /// A drain lets its events out; nothing else is asked of it meanwhile.
    pub(super) draining: bool,
    pub(super) acked: bool,
    pub(super) over: bool,
    pub(super) left: bool,
    pub(super) joined: Instant,
    pub(super) last_life: Instant,
    pub(super) last_received: Instant,
    pub(super) last_ping: Instant,
    pub(super) closed_at: Instant,
    /// When its socket last had taken all.
    pub(super) last_idle: Instant,
    pub(super) told: Option<u16>,
}

/// The oracle.
pub(super) struct Oracle {
    pub(super) violation: Option<Violation>,
    pub(super) watched: Vec<Watched>,
    pub(super) ledger: Ledger,
    pub(super) seen_events: u64,
    /// How often things happened that a set of worlds must not lack.
    pub(super) sights: BTreeMap<&'static str, u64>,
    pub(super) scenario: Scenario,
    /// Changes that a shard has applied.
    pub(super) revoked: Vec<(ShardId, Change)>,
}

impl Oracle {
    pub(super) fn new(scenario: Scenario) -> Self {
        let good = |manner: &super::faults::Manner| Watched { good: manner.is_good(), ..Watched::default() };
        Self {
            violation: None,
            watched: scenario.manners.iter().map(good).collect(),
            ledger: Ledger::default(),
            seen_events: 0,
            sights: BTreeMap::new(),
            scenario,
            revoked: Vec::new(),
        }
    }

    /// Counts something that happened.
    pub(super) fn sight(&mut self, what: &'static str) {
        *self.sights.entry(what).or_default() += 1;
    }

    /// Notes the first rule that is broken.
    pub(super) fn fail(&mut self, rule: &'static str, line: Option<usize>, text: String) {
        self.violation.get_or_insert(Violation { rule, line, text });
    }

    pub(super) fn joined(&mut self, now: Instant, line: usize, join: Join, key: ConnectionKey, shard: ShardId) {
        let revoked = self.revoked.iter().any(|(at, change)| {
            *at == shard
                && match change {
                    Change::TokenRevoked { token, .. } => *token == join.token,
                    Change::GatewayDeleted(gateway) => *gateway == join.gateway,
                    Change::GatewayCreated(_) | Change::TokenCreated { .. } => false,
                }
        });
        if revoked {
            self.fail("nobody joins with a revoked key", Some(line), format!("{join:?}"));
        }
        let since = self.ledger.length(join.gateway);
        let watched = &mut self.watched[line];
        if watched.member.is_some() {
            return self.fail("a connection joins once", Some(line), format!("{join:?}"));
        }
        watched.member = Some(Member { gateway: join.gateway, token: join.token, id: join.id, key, shard, since });
        watched.seen = since;
        (watched.joined, watched.last_life, watched.last_received, watched.last_ping) = (now, now, now, now);
        let live = self.watched.iter().filter(|w| w.member.is_some() && !w.left).count();
        if live > self.scenario.connections_max {
            self.fail("slots are exact", Some(line), format!("{live} of {}", self.scenario.connections_max));
        }
    }

    /// Something whole went out to a peer.
    pub(super) fn seen(&mut self, now: Now, line: usize, item: &Seen, story: &mut Story) {
        story.tell(now.instant, Some(line), || match item {
            Seen::Text(text) => format!("gets {}", text_excerpt(text)),
            Seen::Response(status, _) => format!("gets {status}"),
            other => format!("gets {other:?}"),
        });
        let watched = &mut self.watched[line];
        match item {
            // What is no TLS is answered with an alert.
            Seen::Broken(_) if self.scenario.manners[line].prank == Prank::Garbage => {}
            Seen::Broken(what) => self.fail("only whole frames in order", Some(line), what.clone()),
            Seen::Text(text) if !watched.acked => self.check_ack(line, text),
            Seen::Text(text) => self.check_event(line, text),
            Seen::Ping => {
                let gap = now.instant.since(watched.last_ping);
                watched.last_ping = now.instant;
                let most = self.scenario.session.heartbeat.interval + Duration::from_micros(TICK);
                if watched.good && gap > most {
                    self.fail("pings are an interval apart at most", Some(line), format!("{gap:?}"));
                }
            }
            Seen::Close(code, reason) => {
                watched.told = Some(*code);
                // Who closes first is answered with his own code, whatever the hub was about to say.
                let echo = self.scenario.manners[line].ending == Ending::Close(*code) && !watched.good;
                let expected = watched.closing.and_then(CloseReason::code).filter(|_| !echo);
                if !watched.acked {
                    self.fail("the first frame is the ack", Some(line), format!("close {code}"));
                } else if expected.is_some_and(|expected| expected != *code) {
                    self.fail("the close frame bears the reason's code", Some(line), format!("{code} {reason}"));
                }
            }
            Seen::Pong if !watched.acked => self.fail("the first frame is the ack", Some(line), "pong".to_owned()),
            Seen::Response(status, body) => self.check_response(now.instant, line, *status, body),
            Seen::Upgraded | Seen::Pong => {}
        }
    }

    fn check_ack(&mut self, line: usize, text: &[u8]) {
        let Some(member) = self.watched[line].member else {
            return self.fail("only members get events", Some(line), text_excerpt(text));
        };
        let position = Position { epoch: self.scenario.epoch_of(member.gateway), offset: member.since };
        let begin = format!(
            r#"{{"type":"connection.ack","gatewayId":"{}","connectionId":"{}","timestamp":""#,
            member.gateway, member.id
        );
        if !text.starts_with(begin.as_bytes()) {
            return self.fail("the first frame is the ack", Some(line), text_excerpt(text));
        }
        if !text.ends_with(format!(r#"","position":"{position}"}}"#).as_bytes()) {
            let text = format!("joined at {position}, was told {}", text_excerpt(text));
            return self.fail("the ack's position is where the events begin", Some(line), text);
        }
        self.watched[line].acked = true;
    }

    fn check_event(&mut self, line: usize, text: &[u8]) {
        let Some(member) = self.watched[line].member else { return };
        let next = self.watched[line].seen + 1;
        let Some(expected) = self.ledger.text(member.gateway, next, self.scenario.epoch_of(member.gateway)) else {
            let text = format!("nothing is at {next}: {}", text_excerpt(text));
            return self.fail("events in order, none twice, none missing", Some(line), text);
        };
        let (begin, end) = expected;
        if !text.starts_with(&begin) || !text.ends_with(&end) {
            let text =
                format!("expected {} … {}, got {}", text_excerpt(&begin), text_excerpt(&end), text_excerpt(text));
            return self.fail("events in order, none twice, none missing", Some(line), text);
        }
        self.watched[line].seen = next;
        self.seen_events += 1;
    }

    fn check_response(&mut self, now: Instant, line: usize, status: u16, body: &[u8]) {
        if let Err(text) = self.ledger.http_answer(now, line, status, body) {
            self.fail("an HTTP publish is answered with its outcome", Some(line), text);
        }
        let gateway = !self.scenario.manners[line].platform;
        if !gateway && status == 200 {
            self.sight("HTTP call answered");
        }
        if gateway && !matches!(status, 400 | 401 | 408 | 429 | 503) {
            self.fail("a refusal has its status", Some(line), status.to_string());
        }
    }

    /// A drain has begun to close it.
    pub(super) fn shutdown(&mut self, line: usize) {
        self.watched[line].draining = true;
    }

    /// Bytes of the peer were read.
    pub(super) fn received(&mut self, now: Instant, line: usize, streaming: bool) {
        if streaming {
            self.watched[line].last_received = now;
        }
    }

    /// The session took them for a sign of life.
    pub(super) fn life(&mut self, now: Instant, line: usize) {
        self.watched[line].last_life = now;
    }

    /// The peer is about to leave.
    pub(super) fn leaves(&mut self, line: usize) {
        self.watched[line].good = false;
    }

    pub(super) fn closing(&mut self, now: Instant, line: usize, reason: CloseReason) {
        if reason == CloseReason::HeartbeatTimeout {
            self.check_silence(now, line);
        }
        self.watched[line].closed_at = now;
        match self.watched[line].closing.replace(reason) {
            // The shard judges a slow consumer before its session hears of it.
            Some(before) if before != reason => {
                self.fail("one reason a connection", Some(line), format!("{before}, then {reason}"));
            }
            _ => {}
        }
        let burst = self.watched[line].member.map_or(0, |member| self.ledger.burst(member.gateway));
        let known = match reason {
            CloseReason::Shutdown | CloseReason::KeyRevoked | CloseReason::GatewayDeleted => true,
            // More at once than may wait, before anything could be written.
            CloseReason::SlowConsumer => burst > self.scenario.outbox_bytes_max,
            _ => false,
        };
        if self.watched[line].good && !known {
            self.fail("a good peer is not closed", Some(line), reason.to_string());
        }
    }

    pub(super) fn over(&mut self, now: Instant, line: usize, end: &End) {
        let watched = &mut self.watched[line];
        if std::mem::replace(&mut watched.over, true) {
            return self.fail("a connection ends once", Some(line), format!("{end:?}"));
        }
        let End::Closed(reason) = *end else {
            if watched.member.is_some() {
                self.fail("a gateway's connection ends with a reason", Some(line), format!("{end:?}"));
            }
            return;
        };
        let closing = watched.closing;
        self.sight(reason.label());
        let watched = &self.watched[line];
        if closing.is_some_and(|closing| closing != reason) {
            self.fail("one reason a connection", Some(line), format!("{closing:?}, then {reason}"));
        } else if reason == CloseReason::HeartbeatTimeout && watched.last_received < watched.closed_at {
            let after = now.since(watched.closed_at);
            if after > Duration::from_micros(2 * TICK) {
                self.fail("who is dead is not waited for", Some(line), format!("{after:?}"));
            }
        }
    }

    /// A silent peer is closed at its time, not before, and at the next tick at the latest.
    fn check_silence(&mut self, now: Instant, line: usize) {
        let heartbeat = self.scenario.session.heartbeat;
        let last = if self.scenario.tls { self.watched[line].last_life } else { self.watched[line].last_received };
        let silence = now.since(last);
        let ticks = if heartbeat.busy_grace.is_zero() { 1 } else { 2 };
        let most = heartbeat.timeout + heartbeat.busy_grace + Duration::from_micros(TICK) * (ticks + 1);
        if silence < heartbeat.timeout || silence > most {
            self.fail("a silent peer is closed at its time", Some(line), format!("after {silence:?}"));
        }
    }

    pub(super) fn left(&mut self, line: usize, reason: CloseReason, was_there: bool) {
        let watched = &mut self.watched[line];
        if std::mem::replace(&mut watched.left, true) || !was_there {
            self.fail("a connection leaves once", Some(line), reason.to_string());
        }
    }

    /// The hub has let the socket go.
    pub(super) fn gone(&mut self, line: usize) {
        let watched = &self.watched[line];
        if watched.member.is_some() && !watched.left {
            self.fail("who goes has left", Some(line), String::new());
        }
    }

    pub(super) fn failed(&mut self) {
        self.ledger.failed += 1;
    }

    pub(super) fn changed(&mut self, shard: ShardId, change: Change) {
        self.revoked.push((shard, change));
    }

    pub(super) fn publish_timeout(&self) -> Duration {
        self.scenario.publish_timeout
    }

    /// The connections that a gateway's next event goes to.
    pub(super) fn members_of(&self, gateway: GatewayId) -> Vec<usize> {
        let is_member = |watched: &Watched| {
            watched.closing.is_none() && !watched.left && watched.member.is_some_and(|m| m.gateway == gateway)
        };
        (0..self.watched.len()).filter(|line| is_member(&self.watched[*line])).collect()
    }
}

/// An event's envelope, at most.
pub(super) const EVENT_BYTES_AROUND: usize = 600;
pub(super) fn text_excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let count = text.chars().count();
    if count <= 420 {
        return text.into_owned();
    }
    let begin: String = text.chars().take(160).collect();
    let end: String = text.chars().skip(count - 240).collect();
    format!("{begin}…{end}")
}

/// What an event's end looks like behind its timestamp.
pub(super) fn event_end(correlation: CorrelationId, position: Position) -> String {
    format!(r#"","correlationId":"{correlation}","position":"{position}"}}"#)
}
