//! Checks each HTTP answer against its request and against what the wire has shown by then.

use super::{
    ledger::{BatchLine, CallKind, Counts, Outcome},
    oracle::{Oracle, SLACK},
    scenario::ANSWER_GRACE,
};
use crate::model::{ConnectionId, Instant};
use serde_json::Value;
use std::time::Duration;

/// `/ready` must stop saying 200 within this time after a core has died.
const DEATH_NOTICED: Duration = Duration::from_secs(2);

/// The parts of an answer's text that say that the call may have been carried out, although the answer is 503.
const PERHAPS_DONE: [&str; 2] = ["may have been carried out", "may have been kept"];

fn is_perhaps_done(text: &str) -> bool {
    PERHAPS_DONE.iter().any(|part| text.contains(part))
}

impl Oracle {
    /// The kernel has taken a whole HTTP answer, to a platform or to a gateway whose upgrade was refused.
    pub(super) fn answered(&mut self, now: Instant, conn: usize, status: u16, body: &[u8], last: bool) {
        let Some(index) = self.ledger.open.get_mut(&conn).and_then(std::collections::VecDeque::pop_front) else {
            return self.refused(conn, status, body);
        };
        let before = self.watched[conn].answered_at.replace(now);
        self.watched[conn].last_answer |= last;
        self.ledger.calls[index].answered = Some(now);
        let call = &self.ledger.calls[index];
        let received = call.received.or(call.early.then_some(now));
        let Some(received) = received else {
            // The hub may answer before it has the whole request: a timeout, a refused head, an overload.
            if !matches!(status, 400 | 401 | 404 | 408 | 413 | 503) {
                let text = format!("{status} to {:?}, which ends at {}", call.kind, call.end);
                self.fail("no request is answered before it has arrived", Some(conn), text);
            }
            return;
        };
        // Pipelined requests are served one by one, so the time runs from the answer before. Not where the socket was
        // blocked: then both answers may have been computed long before the kernel took the first.
        let waited = self.watched[conn].was_blocked;
        let start = received.max(before.filter(|_| !waited).unwrap_or(received));
        let took = now.since(start);
        self.check_answer_time(conn, index, took, status);
        let took = if self.ledger.calls[index].early { now.since(self.ledger.calls[index].begun) } else { took };
        let kind = self.ledger.calls[index].kind.clone();
        if let Err(text) = self.check_answer(now, index, &kind, status, body, took) {
            let body = super::oracle::excerpt(body);
            self.fail(
                "an answer agrees with what the wire showed",
                Some(conn),
                format!("{kind:?} got {status}: {text}\n  {body}"),
            );
        }
    }

    fn check_answer_time(&mut self, conn: usize, index: usize, took: Duration, status: u16) {
        let watched = &self.watched[conn];
        if !watched.good || watched.was_blocked {
            return;
        }
        let scenario = &self.scenario;
        let lanes = Duration::from_micros(scenario.mesh_delay_max);
        let waits = scenario.publish_timeout.max(self.ledger.calls[index].wait.unwrap_or_default());
        let most = match self.ledger.calls[index].kind {
            CallKind::Publish(_) => waits + lanes * 2,
            // The timeout runs from the batch's last slice, and slices of other requests run between its own.
            CallKind::Batch(_) => waits + lanes * 2 + SLACK * 4,
            CallKind::Deploy(_) => waits + lanes * 2,
            // A dead core is asked as well, and its answer is awaited until the timeout.
            CallKind::Stats if self.dead.is_some() => scenario.publish_timeout + ANSWER_GRACE,
            CallKind::Stats | CallKind::Ready | CallKind::Get => lanes * 4,
            // Two steps, each with its own timeout: the store, then the shards that own the gateways.
            CallKind::StoreRead => (scenario.publish_timeout + ANSWER_GRACE) * 2,
            _ => scenario.publish_timeout + ANSWER_GRACE,
        };
        if took > most + self.slack() {
            let text = format!("status {status} after {took:?}, {most:?} are allowed");
            self.fail("an answer comes before its deadline", Some(conn), text);
        }
    }

    fn check_answer(
        &mut self,
        now: Instant,
        index: usize,
        kind: &CallKind,
        status: u16,
        body: &[u8],
        took: Duration,
    ) -> Result<(), String> {
        let begun = self.ledger.calls[index].begun;
        let drains = self.drained.is_some();
        if status == 503 {
            self.check_unavailable(kind, body);
            return Ok(());
        }
        match (kind, status) {
            (CallKind::Publish(event), 200) => {
                self.cover("publish answered");
                self.check_outcome(now, *event, &parse(body)?, took)
            }
            (CallKind::Publish(event), 404) => self.check_unknown(*event, begun),
            (CallKind::Batch(lines), 200) => self.check_batch(now, lines, body, begun, took),
            (CallKind::Deploy(events), 200) => self.check_deploy(now, events, &parse(body)?, begun, took),
            (CallKind::Stats, 200) => self.check_stats(&parse(body)?),
            (CallKind::Ready, 200) => match self.dead {
                Some(dead) if now.since(dead) > DEATH_NOTICED => Err("a core is dead".to_owned()),
                _ => Ok(()),
            },
            (CallKind::Get, 200) => Ok(()),
            (CallKind::Get, 404) => Ok(()),
            (CallKind::StoreRead, 200 | 404) => Ok(()),
            (CallKind::CreateGateway(gateway), 201) => {
                self.roster.gateways[*gateway].creation.answered = Some(now);
                Ok(())
            }
            (CallKind::CreateToken(key), 201) => {
                self.roster.keys[*key].creation.answered = Some(now);
                self.cover("token created");
                Ok(())
            }
            // An earlier attempt that was answered 503 may have been carried out all the same.
            (CallKind::CreateGateway(_) | CallKind::CreateToken(_), 404 | 409) => Ok(()),
            (CallKind::Change(gateway, delivery), 200) => {
                let mode = delivery.unwrap_or(self.scenario.delivery.mode);
                self.roster.gateways[*gateway].end_change(now, mode, begun);
                Ok(())
            }
            (CallKind::Change(..), 404) => Ok(()),
            (CallKind::Revoke(key), 204) => {
                self.roster.keys[*key].revocation.answered = Some(now);
                self.check_committed(self.roster.keys[*key].revocation.committed)
            }
            (CallKind::Delete(gateway), 204) => {
                self.roster.gateways[*gateway].deletion.answered = Some(now);
                self.check_committed(self.roster.gateways[*gateway].deletion.committed)
            }
            (CallKind::Revoke(_) | CallKind::Delete(_), 404) => Ok(()),
            (CallKind::Manifest(_), 204) => {
                self.cover("manifest stored");
                Ok(())
            }
            (CallKind::Manifest(key), 401) if !self.roster.is_good(*key, begun) => Ok(()),
            (_, 401) if drains => Ok(()),
            // Sent before the handshake was over: the oracle cannot tell whether the hub had the whole request.
            (_, 408) if self.ledger.calls[index].early => Ok(()),
            _ => Err("this status is not allowed for this request".to_owned()),
        }
    }

    fn check_committed(&self, committed: Option<Instant>) -> Result<(), String> {
        if committed.is_some() { Ok(()) } else { Err("the store has not committed the change".to_owned()) }
    }

    /// A 503 says in its text whether the request may have been carried out; if not, its events must never be
    /// delivered.
    fn check_unavailable(&mut self, kind: &CallKind, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let events = match kind {
            CallKind::Publish(event) => vec![*event],
            CallKind::Batch(lines) => lines.iter().filter_map(|line| event_of(*line)).collect(),
            CallKind::Deploy(events) => events.clone(),
            _ => Vec::new(),
        };
        if is_perhaps_done(&text) {
            return self.cover("answer timed out");
        }
        self.cover("request refused with 503");
        for event in events {
            self.refuse(event);
        }
    }

    fn refuse(&mut self, event: usize) {
        let entry = &mut self.ledger.events[event];
        entry.outcome = Outcome::Refused;
        if entry.offset.is_some() {
            self.fail("a refused event is not delivered", None, format!("event {event}"));
        }
    }

    /// A 404 for an event: its gateway must not exist.
    fn check_unknown(&mut self, event: usize, begun: Instant) -> Result<(), String> {
        self.refuse(event);
        let gateway = self.ledger.events[event].gateway;
        if self.roster.is_known(gateway, begun) { Err("the gateway exists".to_owned()) } else { Ok(()) }
    }

    fn check_batch(
        &mut self,
        now: Instant,
        lines: &[BatchLine],
        body: &[u8],
        begun: Instant,
        took: Duration,
    ) -> Result<(), String> {
        self.cover("batch answered");
        let rows: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).collect();
        if rows.len() != lines.len() {
            return Err(format!("{} rows for {} lines", rows.len(), lines.len()));
        }
        if lines.len() > crate::limits::BATCH_SLICE_LINES {
            self.cover("batch in slices");
        }
        for (line, row) in lines.iter().zip(rows) {
            let row = parse(row)?;
            match (line, row["status"].as_u64()) {
                (BatchLine::Bad, Some(400)) => {}
                (BatchLine::Event(event), Some(200)) => self.check_outcome(now, *event, &row, took)?,
                (BatchLine::Event(event), Some(404)) => self.check_unknown(*event, begun)?,
                (BatchLine::Event(event), Some(503)) => {
                    if !is_perhaps_done(&row.to_string()) {
                        self.refuse(*event);
                    }
                    self.cover("line of a batch refused");
                }
                _ => return Err(format!("unexpected result of a line: {row}")),
            }
        }
        Ok(())
    }

    fn check_deploy(
        &mut self,
        now: Instant,
        events: &[usize],
        items: &Value,
        begun: Instant,
        took: Duration,
    ) -> Result<(), String> {
        self.cover("deployment announced");
        for (place, event) in events.iter().enumerate() {
            let item = &items[place];
            match item["error"].as_str() {
                None => {
                    let number = |name: &str| item[name].as_u64().unwrap_or(0);
                    let counts = Counts {
                        at: now,
                        connections: number("liveGatewayCount"),
                        delivered: number("deployedGatewayCount"),
                        failed: number("failedGatewayCount"),
                        pending: number("pendingGatewayCount"),
                        failures: Vec::new(),
                        waiting: item["status"] == "waiting",
                        processed: item["processed"] == true,
                    };
                    self.check_numbers(*event, &counts, took)?;
                    self.check_wait(now, *event, item, took)?;
                    self.ledger.record_answer(*event, counts);
                }
                Some(text) if text.contains("no such gateway") => self.check_unknown(*event, begun)?,
                Some(text) if is_perhaps_done(text) => {}
                Some(_) => self.refuse(*event),
            }
        }
        Ok(())
    }

    /// Checks the delivery counts that the hub gives for one event.
    fn check_outcome(&mut self, now: Instant, event: usize, value: &Value, took: Duration) -> Result<(), String> {
        let number = |name: &str| value[name].as_u64().unwrap_or(0);
        let correlation = value["correlationId"].as_str().unwrap_or_default();
        let entry = &self.ledger.events[event];
        if entry.correlation.is_some_and(|known| known.to_string() != correlation) {
            return Err(format!("expected the correlation id {:?}", entry.correlation));
        }
        let position = value["position"].as_str().unwrap_or_default();
        let offset = self.offset_of(entry.id, position).ok_or("the answer has no position of this gateway")?;
        self.ledger.place(event, offset)?;
        let failures = value["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids = failures.iter().filter_map(|failure| ConnectionId::parse(failure["connectionId"].as_str()?));
        let counts = Counts {
            at: now,
            connections: number("connections"),
            delivered: number("delivered"),
            failed: number("failed"),
            pending: number("pending"),
            failures: ids.collect(),
            waiting: value["waiting"] == true,
            processed: value["processed"] == true,
        };
        if failures.len() as u64 != counts.failed.min(crate::limits::FAILURES_LISTED_MAX as u64) {
            return Err("`failures` does not list every failed connection".to_owned());
        }
        self.check_numbers(event, &counts, took)?;
        self.check_members(event, offset, &counts)?;
        self.check_wait(now, event, value, took)?;
        self.ledger.record_answer(event, counts);
        Ok(())
    }

    /// Checks the sums: every connection is delivered, failed or pending, and no more delivered than the wire has
    /// shown.
    fn check_numbers(&mut self, event: usize, counts: &Counts, took: Duration) -> Result<(), String> {
        let Counts { connections, delivered, failed, pending, .. } = *counts;
        let sum = delivered + failed + pending;
        self.check_waiting(event, counts)?;
        if connections == 0 && !counts.waiting && !counts.processed && (failed, sum) != (1, 1) {
            return Err("without connections, expected failed = 1 and nothing else".to_owned());
        }
        if connections > 0 && sum != connections {
            return Err("delivered + failed + pending is not connections".to_owned());
        }
        let written = self.ledger.events[event].written.len() as u64;
        if delivered > written {
            return Err(format!("only {written} connections have the whole event {event}"));
        }
        if pending > 0 {
            self.cover("pending at the publish timeout");
            // The engine reads the clock once per visit, so its time may be a few milliseconds old.
            // A publisher does not wait for a connection that takes its events from the log.
            let behind = self.scenario.is_scarce() || self.may_be_processed(event) || self.has_resumers();
            if took + Duration::from_millis(5) < self.scenario.publish_timeout && !behind {
                return Err(format!("pending after {took:?}, before the publish timeout"));
            }
        }
        Ok(())
    }

    /// Checks the statistics: never more deliveries than the wire has shown, and at the audit exactly the sum of the
    /// answers.
    fn check_stats(&mut self, value: &Value) -> Result<(), String> {
        self.cover("statistics requested");
        let delivery = &value["eventDelivery"];
        let (sent, failed) = (delivery["totalEventsSent"].as_u64(), delivery["failedDeliveries"].as_u64());
        let (Some(sent), Some(failed)) = (sent, failed) else {
            return Err("no totalEventsSent or failedDeliveries".to_owned());
        };
        if sent > self.seen_events {
            return Err(format!("only {} events are whole on the wire", self.seen_events));
        }
        if self.audited {
            let (sum, open) = self.ledger.deliveries();
            // An event that is delivered to a connection that has resumed is in no answer that counts that connection.
            // And what is answered at the timeout, before the log has told it, may reach other connections than were there.
            if self.has_resumers() || self.scenario.log.is_faulty() || self.has_processed() {
                return Ok(());
            }
            // With little memory a delivery may be pending for ever: its connection has closed while it took its events from
            // the log.
            if (sent + failed < sum && !self.scenario.is_scarce()) || (!open && sent + failed > sum) {
                return Err(format!("the answers sum up to {sum} deliveries"));
            }
            if failed != self.failed_deliveries {
                return Err(format!("notices report {} failed deliveries", self.failed_deliveries));
            }
            self.cover("audited");
        }
        Ok(())
    }
}

fn event_of(line: BatchLine) -> Option<usize> {
    match line {
        BatchLine::Event(event) => Some(event),
        BatchLine::Bad => None,
    }
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
