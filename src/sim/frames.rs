//! What a gateway's connection gets, message by message: the ack, events in order, and why it ends.

use super::{
    behaviour::{Ending, Misbehaviour},
    oracle::{Ack, Oracle, SLACK, Watched, excerpt},
    store::life_of,
};
use crate::{
    limits,
    model::{ConnectionId, GatewayId, Instant, Position},
};
use std::borrow::Cow;

impl Oracle {
    pub(super) fn check_ack(&mut self, now: Instant, line: usize, text: &[u8]) {
        let Some(key) = self.watched[line].key else {
            return self.fail("nobody joins without a key", Some(line), excerpt(text));
        };
        let gateway = self.roster.gateways[self.roster.keys[key].gateway].id;
        let text = String::from_utf8_lossy(text);
        let parts = text
            .strip_prefix(&format!(r#"{{"type":"connection.ack","gatewayId":"{gateway}","connectionId":""#))
            .and_then(|rest| rest.split_once(r#"","timestamp":""#))
            .and_then(|(id, rest)| Some((ConnectionId::parse(id)?, rest.split_once(r#"","position":""#)?.1)))
            .and_then(|(id, rest)| Some((id, self.offset_of(gateway, rest.strip_suffix("\"}")?)?)));
        let Some((connection, offset)) = parts else {
            return self.fail("the first frame is the ack", Some(line), text.into_owned());
        };
        let asked = self.watched[line].asked.unwrap_or(now);
        if self.roster.end_of(key).answered.is_some_and(|at| at < asked) {
            self.fail("nobody joins with a revoked key", Some(line), text.into_owned());
        }
        let watched = &mut self.watched[line];
        watched.ack = Some(Ack { connection, offset, at: now });
        watched.seen = offset;
        watched.last_ping = now;
        self.check_admission(now, line);
        self.check_rate(now, line);
        self.check_slots(line);
    }

    /// An address is let in so often in a window and not more.
    fn check_rate(&mut self, now: Instant, line: usize) {
        let most = self.scenario.rate_per_window as usize;
        let address = self.addresses[line];
        let within = |watched: &Watched| watched.ack.is_some_and(|ack| now.since(ack.at) < limits::RATE_WINDOW - SLACK);
        let others = self.watched.iter().enumerate();
        let count = others.filter(|(other, it)| self.addresses[*other] == address && within(it)).count();
        if most > 0 && count > most {
            self.fail("the rate limit is exact", Some(line), format!("{count} of {most} from {address}"));
        }
    }

    fn check_slots(&mut self, line: usize) {
        let live = |watched: &&Watched| watched.ack.is_some() && watched.ended.is_none();
        let count = self.watched.iter().filter(live).count();
        if count > self.scenario.connections_max {
            self.fail("slots are exact", Some(line), format!("{count} of {}", self.scenario.connections_max));
        }
    }

    pub(super) fn check_event(&mut self, now: Instant, line: usize, text: &[u8]) {
        let Some((fact, offset)) = self.event_in(text) else {
            return self.fail("only what was published is delivered, byte for byte", Some(line), excerpt(text));
        };
        let Some(key) = self.watched[line].key else { return };
        let entry = &self.ledger.facts[fact];
        if entry.gateway != self.roster.keys[key].gateway {
            return self.fail("nobody gets another gateway's events", Some(line), excerpt(text));
        }
        let call = &self.ledger.calls[entry.call];
        if self.roster.end_of(key).answered.is_some_and(|at| at < call.begun) {
            self.fail("a revoked key gets no events", Some(line), excerpt(text));
        }
        if let Err(contradiction) = self.ledger.place(fact, offset) {
            return self.fail("a position is one event's, and positions rise", Some(line), contradiction);
        }
        let seen = self.watched[line].seen;
        if offset != seen + 1 {
            let text = format!("{offset} after {seen}: {}", excerpt(text));
            return self.fail("events in order, none twice, none missing", Some(line), text);
        }
        if self.watched[line].told.is_some() {
            return self.fail("nothing follows a close frame", Some(line), excerpt(text));
        }
        self.watched[line].seen = offset;
        self.seen_events += 1;
        self.check_promptness(now, line, fact);
        self.ledger.facts[fact].written.push((line, now));
    }

    /// Which event a message is, and where; `None` where it is not one as it was asked for.
    fn event_in(&self, text: &[u8]) -> Option<(usize, u64)> {
        const MARK: &[u8] = b",\"gatewayId\":\"";
        let place = (0..text.len().saturating_sub(MARK.len())).rev().find(|at| text[*at..].starts_with(MARK))?;
        let (front, back) = text.split_at(place);
        let start = front.windows(11).position(|part| part == b",\"payload\":")? + 11;
        let fact = self.ledger.by_payload(&without_performed_at(&front[start..]))?;
        let entry = &self.ledger.facts[fact];
        let kind = format!(r#"{{"type":"{}","payload":"#, entry.kind);
        let back = std::str::from_utf8(back).ok()?;
        let rest = back.strip_prefix(&format!(r#","gatewayId":"{}","timestamp":""#, entry.id))?;
        let (_, rest) = rest.split_once(r#"","correlationId":""#)?;
        let (correlation, rest) = rest.split_once(r#"","position":""#)?;
        let (position, rest) = rest.split_once('"')?;
        let user = entry.user.as_ref().map(|user| format!(r#","userId":"{user}""#)).unwrap_or_default();
        let same = entry.correlation.is_none_or(|known| known.to_string() == correlation);
        let whole = front[..start] == *kind.as_bytes() && rest == format!("{user}}}") && same;
        Some((fact, self.offset_of(entry.id, position)?)).filter(|_| whole)
    }

    /// The offset that a position of a gateway stands for; `None` where it is not one of this gateway's.
    pub(super) fn offset_of(&self, gateway: GatewayId, position: &str) -> Option<u64> {
        let position = Position::parse(position)?;
        (position.epoch == life_of(gateway).epoch_in(self.scenario.seed)).then_some(position.offset)
    }

    pub(super) fn check_close(&mut self, line: usize, code: u16, reason: &str, now: Instant) {
        self.watched[line].told = Some((code, now));
        self.check_end_of(now, line);
        let expected: &[u16] = match self.scenario.manners[line].misbehaviour {
            Misbehaviour::Unmasked => &[1002],
            Misbehaviour::NotUtf8 => &[1007],
            Misbehaviour::TooBig => &[1009],
            Misbehaviour::PingFlood => &[1008],
            _ => &[],
        };
        let usual = matches!(code, 1001 | 1008 | 1013);
        // Who closes first is answered with its own code.
        let echo = self.watched[line].leaving.is_some() && self.scenario.manners[line].ending == Ending::Close(code);
        let echo = echo || (self.watched[line].leaving.is_some() && code == 1000);
        if !usual && !echo && !expected.contains(&code) {
            self.fail("the close frame has the reason's code", Some(line), format!("{code} {reason}"));
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
