//! Whether HTTP answers say what happened: against what was asked, and what the wire has shown by then.

use super::{
    ledger::{Asked, BatchLine, Fate, Told},
    oracle::{Oracle, SLACK},
    scenario::ANSWER_GRACE,
};
use crate::model::{ConnectionId, Instant};
use serde_json::Value;
use std::time::Duration;

/// A core that does nothing any more is noticed within this.
const DEATH_NOTICED: Duration = Duration::from_secs(2);

impl Oracle {
    /// An answer is whole in the kernel of a platform's line, or of a gateway that was not let in.
    pub(super) fn answered(&mut self, now: Instant, conn: usize, status: u16, body: &[u8], last: bool) {
        let Some(index) = self.ledger.open.get_mut(&conn).and_then(std::collections::VecDeque::pop_front) else {
            return self.refused(now, conn, status);
        };
        let before = self.watched[conn].answered_at.replace(now);
        self.watched[conn].last_answer |= last;
        self.ledger.calls[index].answered = Some(now);
        let call = &self.ledger.calls[index];
        let received = call.received.or(call.early.then_some(now));
        let Some(received) = received else {
            // A request that is not whole is answered where it is late or wrong.
            if !matches!(status, 400 | 401 | 404 | 408 | 413 | 503) {
                let text = format!("{status} to {:?}, which ends at {}", call.asked, call.end);
                self.fail("nothing is answered before it is asked", Some(conn), text);
            }
            return;
        };
        // Answers that wait for their socket were given before.
        let waited = self.watched[conn].was_short;
        let start = received.max(before.filter(|_| !waited).unwrap_or(received));
        let took = now.since(start);
        self.check_answer_time(conn, index, took, status);
        let took = if self.ledger.calls[index].early { now.since(self.ledger.calls[index].begun) } else { took };
        let asked = self.ledger.calls[index].asked.clone();
        if let Err(text) = self.check_answer(now, index, &asked, status, body, took) {
            let body = super::oracle::excerpt(body);
            self.fail("an answer says what happened", Some(conn), format!("{asked:?} got {status}: {text}\n  {body}"));
        }
    }

    fn check_answer_time(&mut self, conn: usize, index: usize, took: Duration, status: u16) {
        let watched = &self.watched[conn];
        if !watched.good || watched.was_short {
            return;
        }
        let scenario = &self.scenario;
        let lanes = Duration::from_micros(scenario.mesh_delay_max);
        let most = match self.ledger.calls[index].asked {
            Asked::Publish(_) => scenario.publish_timeout + lanes * 2,
            // Slices of others stand between its own, and the time runs from the last one.
            Asked::Batch(_) => scenario.publish_timeout + lanes * 2 + SLACK * 4,
            Asked::Deploy(_) => scenario.publish_timeout + lanes * 2,
            // A core that is dead is asked, too, and waited for.
            Asked::Stats if self.dead.is_some() => scenario.publish_timeout + ANSWER_GRACE,
            Asked::Stats | Asked::Ready | Asked::Look => lanes * 4,
            // The store is asked first, then the owners.
            Asked::Show => (scenario.publish_timeout + ANSWER_GRACE) * 2,
            _ => scenario.publish_timeout + ANSWER_GRACE,
        };
        if took > most + self.slack() {
            let text = format!("status {status} after {took:?}, {most:?} are allowed");
            self.fail("an answer comes in time", Some(conn), text);
        }
    }

    fn check_answer(
        &mut self,
        now: Instant,
        index: usize,
        asked: &Asked,
        status: u16,
        body: &[u8],
        took: Duration,
    ) -> Result<(), String> {
        let begun = self.ledger.calls[index].begun;
        let drains = self.drained.is_some();
        if status == 503 {
            self.check_unavailable(asked, body);
            return Ok(());
        }
        match (asked, status) {
            (Asked::Publish(fact), 200) => {
                self.sight("publish answered");
                self.check_outcome(now, *fact, &parse(body)?, took)
            }
            (Asked::Publish(fact), 404) => self.check_unknown(*fact, begun),
            (Asked::Batch(lines), 200) => self.check_batch(now, lines, body, begun, took),
            (Asked::Deploy(facts), 200) => self.check_deploy(now, facts, &parse(body)?, begun, took),
            (Asked::Stats, 200) => self.check_stats(&parse(body)?),
            (Asked::Ready, 200) => match self.dead {
                Some(dead) if now.since(dead) > DEATH_NOTICED => Err("a core is dead".to_owned()),
                _ => Ok(()),
            },
            (Asked::Look, 200) => Ok(()),
            (Asked::Look, 404) => Ok(()),
            (Asked::Show, 200 | 404) => Ok(()),
            (Asked::CreateGateway(gateway), 201) => {
                self.roster.gateways[*gateway].creation.answered = Some(now);
                Ok(())
            }
            (Asked::CreateToken(key), 201) => {
                self.roster.keys[*key].creation.answered = Some(now);
                self.sight("token made");
                Ok(())
            }
            // What was in doubt may have been done already.
            (Asked::CreateGateway(_) | Asked::CreateToken(_), 404 | 409) => Ok(()),
            (Asked::Revoke(key), 204) => {
                self.roster.keys[*key].revocation.answered = Some(now);
                self.check_committed(self.roster.keys[*key].revocation.committed)
            }
            (Asked::Delete(gateway), 204) => {
                self.roster.gateways[*gateway].deletion.answered = Some(now);
                self.check_committed(self.roster.gateways[*gateway].deletion.committed)
            }
            (Asked::Revoke(_) | Asked::Delete(_), 404) => Ok(()),
            (Asked::Manifest(_), 204) => {
                self.sight("manifest kept");
                Ok(())
            }
            (Asked::Manifest(key), 401) if !self.roster.is_good(*key, begun) => Ok(()),
            (_, 401) if drains => Ok(()),
            // Said in the handshake of TLS, it may not have been whole.
            (_, 408) if self.ledger.calls[index].early => Ok(()),
            _ => Err("not a status for this".to_owned()),
        }
    }

    fn check_committed(&self, committed: Option<Instant>) -> Result<(), String> {
        if committed.is_some() { Ok(()) } else { Err("nothing was committed".to_owned()) }
    }

    /// 503: it says itself whether something may have been done.
    fn check_unavailable(&mut self, asked: &Asked, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let facts = match asked {
            Asked::Publish(fact) => vec![*fact],
            Asked::Batch(lines) => lines.iter().filter_map(|line| event_of(*line)).collect(),
            Asked::Deploy(facts) => facts.clone(),
            _ => Vec::new(),
        };
        if text.contains("may have been done") {
            return self.sight("answer timed out");
        }
        self.sight("request refused with 503");
        for fact in facts {
            self.refuse(fact);
        }
    }

    fn refuse(&mut self, fact: usize) {
        let entry = &mut self.ledger.facts[fact];
        entry.fate = Fate::Refused;
        if entry.offset.is_some() {
            self.fail("what was refused is not delivered", None, format!("event {fact}"));
        }
    }

    /// 404 for an event: its gateway is not there.
    fn check_unknown(&mut self, fact: usize, begun: Instant) -> Result<(), String> {
        self.refuse(fact);
        let gateway = self.ledger.facts[fact].gateway;
        if self.roster.is_known(gateway, begun) { Err("the gateway is known".to_owned()) } else { Ok(()) }
    }

    fn check_batch(
        &mut self,
        now: Instant,
        lines: &[BatchLine],
        body: &[u8],
        begun: Instant,
        took: Duration,
    ) -> Result<(), String> {
        self.sight("batch answered");
        let rows: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).collect();
        if rows.len() != lines.len() {
            return Err(format!("{} rows for {} lines", rows.len(), lines.len()));
        }
        if lines.len() > crate::limits::BATCH_SLICE_LINES {
            self.sight("batch in slices");
        }
        for (line, row) in lines.iter().zip(rows) {
            let row = parse(row)?;
            match (line, row["status"].as_u64()) {
                (BatchLine::Bad, Some(400)) => {}
                (BatchLine::Event(fact), Some(200)) => self.check_outcome(now, *fact, &row, took)?,
                (BatchLine::Event(fact), Some(404)) => self.check_unknown(*fact, begun)?,
                (BatchLine::Event(fact), Some(503)) => {
                    if !row.to_string().contains("may have been done") {
                        self.refuse(*fact);
                    }
                    self.sight("line of a batch refused");
                }
                _ => return Err(format!("a line got {row}")),
            }
        }
        Ok(())
    }

    fn check_deploy(
        &mut self,
        now: Instant,
        facts: &[usize],
        items: &Value,
        begun: Instant,
        took: Duration,
    ) -> Result<(), String> {
        self.sight("deployment announced");
        for (place, fact) in facts.iter().enumerate() {
            let item = &items[place];
            match item["error"].as_str() {
                None => {
                    let number = |name: &str| item[name].as_u64().unwrap_or(0);
                    let told = Told {
                        at: now,
                        connections: number("liveGatewayCount"),
                        delivered: number("deployedGatewayCount"),
                        failed: number("failedGatewayCount"),
                        pending: number("pendingGatewayCount"),
                        failures: Vec::new(),
                    };
                    self.check_numbers(*fact, &told, took)?;
                    self.ledger.tell(*fact, told);
                }
                Some(text) if text.contains("no such gateway") => self.check_unknown(*fact, begun)?,
                Some(text) if text.contains("may have been done") => {}
                Some(_) => self.refuse(*fact),
            }
        }
        Ok(())
    }

    /// The outcome of one event.
    fn check_outcome(&mut self, now: Instant, fact: usize, value: &Value, took: Duration) -> Result<(), String> {
        let number = |name: &str| value[name].as_u64().unwrap_or(0);
        let correlation = value["correlationId"].as_str().unwrap_or_default();
        let entry = &self.ledger.facts[fact];
        if entry.correlation.is_some_and(|known| known.to_string() != correlation) {
            return Err(format!("the event's correlation is {:?}", entry.correlation));
        }
        let position = value["position"].as_str().unwrap_or_default();
        let offset = self.offset_of(entry.id, position).ok_or("no position")?;
        self.ledger.place(fact, offset)?;
        let failures = value["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids = failures.iter().filter_map(|failure| ConnectionId::parse(failure["connectionId"].as_str()?));
        let told = Told {
            at: now,
            connections: number("connections"),
            delivered: number("delivered"),
            failed: number("failed"),
            pending: number("pending"),
            failures: ids.collect(),
        };
        if failures.len() as u64 != told.failed.min(crate::limits::FAILURES_LISTED_MAX as u64) {
            return Err("not every failure is listed".to_owned());
        }
        self.check_numbers(fact, &told, took)?;
        self.check_members(fact, offset, &told)?;
        self.ledger.tell(fact, told);
        Ok(())
    }

    /// What the numbers of an answer must come to.
    fn check_numbers(&mut self, fact: usize, told: &Told, took: Duration) -> Result<(), String> {
        let Told { connections, delivered, failed, pending, .. } = *told;
        let sum = delivered + failed + pending;
        if connections == 0 && (failed, sum) != (1, 1) {
            return Err("nobody was there, which is one failure".to_owned());
        }
        if connections > 0 && sum != connections {
            return Err("the sum is not the number of connections".to_owned());
        }
        let written = self.ledger.facts[fact].written.len() as u64;
        if delivered > written {
            return Err(format!("event {fact} is whole on {written} connections"));
        }
        if pending > 0 {
            self.sight("pending at the publish timeout");
            // A visit's own time may be a few milliseconds old.
            if took + Duration::from_millis(5) < self.scenario.publish_timeout {
                return Err(format!("pending after {took:?}"));
            }
        }
        Ok(())
    }

    /// Which connections must have it, and which may not.
    fn check_members(&mut self, fact: usize, offset: u64, told: &Told) -> Result<(), String> {
        let entry = &self.ledger.facts[fact];
        let (gateway, id) = (entry.gateway, entry.id);
        let call = &self.ledger.calls[entry.call];
        let begun = call.begun;
        // Decided a little before its answer was written, unless that had to wait for its socket.
        let waited = self.watched[call.conn].was_short.then_some(begun);
        let lately = waited.unwrap_or(Instant(
            told.at.0.saturating_sub(2 * SLACK.as_micros() as u64 + 2 * self.scenario.mesh_delay_max),
        ));
        let (mut sure, mut perhaps, mut undecided) = (0, 0, 0);
        for conn in 0..self.watched.len() {
            let watched = &self.watched[conn];
            if watched.key.is_none_or(|key| self.roster.keys[key].gateway != gateway) {
                continue;
            }
            let Some(ack) = watched.ack else {
                let may_be = u64::from(watched.asked.is_some() && watched.refused.is_none());
                perhaps += may_be;
                undecided += may_be;
                continue;
            };
            if ack.offset >= offset {
                continue;
            }
            perhaps += 1;
            let written = entry.written.iter().any(|(at, _)| *at == conn);
            let free = watched.short.is_none() && !watched.was_short_since(lately);
            undecided += u64::from(!free);
            let firm = watched.ended.is_none() && watched.leaving.is_none() && free && self.drained.is_none();
            let firm = firm && watched.good && watched.key.is_some_and(|key| self.roster.end_of(key).begun.is_none());
            if !firm {
                continue;
            }
            sure += u64::from(ack.at < begun);
            if told.failures.contains(&ack.connection) {
                return Err(format!("#{conn} takes all, and is said to have failed"));
            }
            if !written && told.pending == 0 {
                return Err(format!("#{conn} of {id} takes all, and has not got event {fact}"));
            }
        }
        if told.connections < sure || told.connections > perhaps {
            return Err(format!("from {sure} to {perhaps} connections were there"));
        }
        if told.pending > undecided {
            return Err(format!("at most {undecided} connections had not taken it"));
        }
        Ok(())
    }

    /// The statistics while the world runs: never more than what the wire has shown.
    fn check_stats(&mut self, value: &Value) -> Result<(), String> {
        self.sight("statistics asked");
        let delivery = &value["eventDelivery"];
        let (sent, failed) = (delivery["totalEventsSent"].as_u64(), delivery["failedDeliveries"].as_u64());
        let (Some(sent), Some(failed)) = (sent, failed) else { return Err("no sums".to_owned()) };
        if sent > self.seen_events {
            return Err(format!("{} events are whole on the wire", self.seen_events));
        }
        if self.audited {
            let (sum, open) = self.ledger.deliveries();
            if sent + failed < sum || (!open && sent + failed != sum) {
                return Err(format!("the answers speak of {sum} deliveries"));
            }
            if failed != self.failed_deliveries {
                return Err(format!("{} failed deliveries were told", self.failed_deliveries));
            }
            self.sight("audited");
        }
        Ok(())
    }
}

fn event_of(line: BatchLine) -> Option<usize> {
    match line {
        BatchLine::Event(fact) => Some(fact),
        BatchLine::Bad => None,
    }
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
