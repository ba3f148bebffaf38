//! Checks each WebSocket message to a gateway: the ack first, then events in order, then the close frame.

use super::{
    behaviour::{Ending, Misbehaviour},
    oracle::{Ack, NOWHERE, Oracle, SLACK, Watched, excerpt},
    store::life_of,
};
use crate::{
    limits,
    model::{ConnectionId, DeliveryMode, GatewayId, Instant, Position},
};
use std::{borrow::Cow, time::Duration};

impl Oracle {
    pub(super) fn check_ack(&mut self, now: Instant, conn: usize, text: &[u8]) {
        let Some(key) = self.watched[conn].key else {
            return self.fail("no gateway connects without a key", Some(conn), excerpt(text));
        };
        let gateway = self.roster.gateways[self.roster.keys[key].gateway].id;
        let text = String::from_utf8_lossy(text);
        let parts = text
            .strip_prefix(&format!(r#"{{"type":"connection.ack","gatewayId":"{gateway}","connectionId":""#))
            .and_then(|rest| rest.split_once(r#"","timestamp":""#))
            .and_then(|(id, rest)| Some((ConnectionId::parse(id)?, rest.split_once('"')?.1)))
            .and_then(|(id, rest)| Some((id, self.begin_in(gateway, rest)?)));
        let Some((connection, (offset, resumed))) = parts else {
            return self.fail("the first frame is the ack", Some(conn), text.into_owned());
        };
        self.check_resume(conn, offset, resumed);
        let asked = self.watched[conn].requested_at.unwrap_or(now);
        if self.roster.removal_of(key).answered.is_some_and(|at| at < asked) {
            self.fail("no gateway connects with a revoked key", Some(conn), text.into_owned());
        }
        let watched = &mut self.watched[conn];
        watched.ack = Some(Ack { connection, offset, at: now, resumed: resumed == Some(true) });
        watched.seen = offset;
        watched.last_ping = now;
        self.check_admission(now, conn);
        self.check_rate(now, conn);
        self.check_slots(conn);
        self.begin_proving(now, conn);
    }

    /// The offset and `resumed` in the end of an ack, behind its timestamp.
    fn begin_in(&self, gateway: GatewayId, rest: &str) -> Option<(u64, Option<bool>)> {
        let rest = rest.strip_suffix('}')?;
        let (rest, resumed) = match rest.split_once(r#","resumed":"#) {
            Some((rest, resumed)) => (rest, Some(resumed.parse().ok()?)),
            None => (rest, None),
        };
        if rest.is_empty() {
            return Some((NOWHERE, resumed));
        }
        let position = rest.strip_prefix(r#","position":""#)?.strip_suffix('"')?;
        Some((self.offset_of(gateway, position)?, resumed))
    }

    /// A position that the log has is resumed, and an ack has a position unless the log is late.
    fn check_resume(&mut self, conn: usize, offset: u64, resumed: Option<bool>) {
        let asked = self.scenario.profiles[conn].resumes;
        let text = format!("asked for {asked:?}, begins at {offset}, resumed {resumed:?}");
        let holds = match (asked, resumed) {
            (None, None) => {
                let reads = self.has_processed() && self.scenario.is_read_late();
                offset < NOWHERE || reads || self.scenario.log.lateness() > Duration::from_millis(900)
            }
            (Some(asked), Some(true)) => asked == offset,
            (Some(asked), Some(false)) => offset < asked || self.scenario.trims(),
            _ => false,
        };
        match resumed {
            Some(true) => self.cover("a connection has resumed"),
            Some(false) => self.cover("a connection could not resume"),
            None if offset == NOWHERE => self.cover("an ack has no position"),
            None => {}
        }
        if !holds {
            self.fail("a connection begins where its ack says", Some(conn), text);
        }
    }

    /// The rate limit: acks to one address within a window.
    fn check_rate(&mut self, now: Instant, conn: usize) {
        let most = self.scenario.rate_per_window as usize;
        let address = self.addresses[conn];
        let within = |watched: &Watched| watched.ack.is_some_and(|ack| now.since(ack.at) < limits::RATE_WINDOW - SLACK);
        let others = self.watched.iter().enumerate();
        let count = others.filter(|(other, it)| self.addresses[*other] == address && within(it)).count();
        if most > 0 && count > most {
            self.fail("the rate limit is exact", Some(conn), format!("{count} of {most} from {address}"));
        }
    }

    fn check_slots(&mut self, conn: usize) {
        let live = |watched: &&Watched| watched.ack.is_some() && watched.ended.is_none();
        let count = self.watched.iter().filter(live).count();
        if count > self.scenario.connections_max {
            self.fail(
                "the connection limit is exact",
                Some(conn),
                format!("{count} of {}", self.scenario.connections_max),
            );
        }
    }

    pub(super) fn check_event(&mut self, now: Instant, conn: usize, text: &[u8]) {
        let Some((event, offset)) = self.event_in(text) else {
            return self.fail("an event is delivered byte for byte as published", Some(conn), excerpt(text));
        };
        let Some(key) = self.watched[conn].key else { return };
        let entry = &self.ledger.events[event];
        if entry.gateway != self.roster.keys[key].gateway {
            return self.fail("no connection gets another gateway's events", Some(conn), excerpt(text));
        }
        let call = &self.ledger.calls[entry.call];
        if self.roster.removal_of(key).answered.is_some_and(|at| at < call.begun) {
            self.fail("a revoked key gets no events", Some(conn), excerpt(text));
        }
        if let Err(contradiction) = self.ledger.place(event, offset) {
            return self.fail("positions are unique and ascending", Some(conn), contradiction);
        }
        // Without a position in the ack, the first event shows where the connection has begun.
        if let Some(ack) = self.watched[conn].ack.as_mut().filter(|ack| ack.offset == NOWHERE) {
            ack.offset = offset - 1;
            self.watched[conn].seen = offset - 1;
        }
        let seen = self.watched[conn].seen;
        if offset != seen + 1 && (offset <= seen || !self.may_leave_out(conn, seen + 1, offset)) {
            let text = format!("offset {offset} after {seen}: {}", excerpt(text));
            return self.fail("events arrive in order, each once", Some(conn), text);
        }
        if self.watched[conn].close_sent.is_some() {
            return self.fail("nothing follows a close frame", Some(conn), excerpt(text));
        }
        self.watched[conn].seen = offset;
        self.seen_events += 1;
        self.check_promptness(now, conn, event);
        self.ledger.events[event].written.push((conn, now));
        self.check_window(now, conn, offset);
    }

    /// The event in a message, and its offset; `None` if the message is not exactly an event that was published.
    fn event_in(&self, text: &[u8]) -> Option<(usize, u64)> {
        const MARK: &[u8] = b",\"gatewayId\":\"";
        let place = (0..text.len().saturating_sub(MARK.len())).rev().find(|at| text[*at..].starts_with(MARK))?;
        let (front, back) = text.split_at(place);
        let start = front.windows(11).position(|part| part == b",\"payload\":")? + 11;
        let event = self.ledger.by_payload(&without_performed_at(&front[start..]))?;
        let entry = &self.ledger.events[event];
        let kind = format!(r#"{{"type":"{}","payload":"#, entry.kind);
        let back = std::str::from_utf8(back).ok()?;
        let rest = back.strip_prefix(&format!(r#","gatewayId":"{}","timestamp":""#, entry.id))?;
        let (_, rest) = rest.split_once(r#"","correlationId":""#)?;
        let (correlation, rest) = rest.split_once(r#"","position":""#)?;
        let (position, rest) = rest.split_once('"')?;
        let user = entry.user.as_ref().map(|user| format!(r#","userId":"{user}""#)).unwrap_or_default();
        let same = entry.correlation.is_none_or(|known| known.to_string() == correlation);
        let whole = front[..start] == *kind.as_bytes() && rest == format!("{user}}}") && same;
        Some((event, self.offset_of(entry.id, position)?)).filter(|_| whole)
    }

    /// The offset in a position; `None` if it is not a position of this gateway.
    pub(super) fn offset_of(&self, gateway: GatewayId, position: &str) -> Option<u64> {
        let position = Position::parse(position)?;
        (position.epoch == life_of(gateway).epoch_in(self.scenario.seed)).then_some(position.offset)
    }

    pub(super) fn check_close(&mut self, conn: usize, code: u16, reason: &str, now: Instant) {
        self.watched[conn].close_sent = Some((code, now));
        self.watched[conn].close_reason = Some(reason.to_owned());
        self.check_end_of(now, conn);
        let expected: &[u16] = match self.scenario.profiles[conn].misbehaviour {
            Misbehaviour::Unmasked => &[1002],
            Misbehaviour::NotUtf8 => &[1007],
            Misbehaviour::TooBig => &[1009],
            Misbehaviour::PingFlood => &[1008],
            _ => &[],
        };
        let overdue = code == 1011
            && reason == "processing timeout"
            && self.watched[conn].proving.mode != Some(DeliveryMode::Written);
        let usual = matches!(code, 1001 | 1008 | 1013) || overdue;
        // RFC 6455 section 5.5.1: the answer to a close frame echoes its code.
        let echo = self.watched[conn].leaving.is_some() && self.scenario.profiles[conn].ending == Ending::Close(code);
        let echo = echo || (self.watched[conn].leaving.is_some() && code == 1000);
        if !usual && !echo && !expected.contains(&code) {
            self.fail("the close code matches the close reason", Some(conn), format!("{code} {reason}"));
        }
    }
}

/// The payload of a deployment as it was asked for: the hub has added the time as its last member.
fn without_performed_at(payload: &[u8]) -> Cow<'_, [u8]> {
    const MARK: &[u8] = b",\"performedAt\":\"";
    let time = "2023-11-14T22:13:20.000Z\"}".len();
    match payload.len().checked_sub(MARK.len() + time) {
        Some(at) if payload[at..].starts_with(MARK) => Cow::Owned([&payload[..at], b"}"].concat()),
        _ => Cow::Borrowed(payload),
    }
}
