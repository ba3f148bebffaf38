//! Every publish of a world: what it was, where it was accepted, who had to get it, how it was answered.

use super::oracle::{EVENT_BYTES_AROUND, Oracle, event_end};
use crate::{
    api::Answer,
    driver::wheel::TICK,
    model::{CloseReason, Event, GatewayId, Instant, Position, PublishOutcome, ShardId},
    shard::{Command, Directory, Reply, RequestKey, Shard},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use uuid::Uuid;

/// One event.
struct Fact {
    event: Event,
    /// 0 where its gateway was deleted before it was accepted.
    offset: u64,
    /// The connections that it had to go to.
    members: Vec<usize>,
}

/// One publish of one or more events.
#[derive(Default)]
struct Run {
    facts: Vec<usize>,
    accepted: Option<Instant>,
    /// Its shard's word.
    outcomes: Vec<Option<PublishOutcome>>,
    answers: u32,
    /// Who asked over HTTP does not hear the answer once he has gone.
    http: bool,
    overloaded: bool,
    /// Some of its members went over their bound while it was accepted.
    shrunk: bool,
}

/// The book.
#[derive(Default)]
pub(super) struct Ledger {
    facts: Vec<Fact>,
    runs: Vec<Run>,
    logs: BTreeMap<GatewayId, Vec<usize>>,
    by_correlation: BTreeMap<Uuid, usize>,
    open: BTreeMap<(ShardId, RequestKey), usize>,
    /// The publishes that a platform has sent and has no answer to.
    http: BTreeMap<usize, VecDeque<Option<usize>>>,
    /// Bytes of events that a gateway got since its connections could last write.
    burst: BTreeMap<GatewayId, usize>,
    /// Failed deliveries that the shards have reported.
    pub(super) failed: u64,
    pub(super) broken: Option<(&'static str, String)>,
}

impl Ledger {
    /// Writes a publish down before it is made.
    pub(super) fn begin(&mut self, events: &[Event]) -> usize {
        let run = self.runs.len();
        let mut facts = Vec::new();
        for event in events {
            self.by_correlation.insert(event.correlation.0, run);
            facts.push(self.facts.len());
            self.facts.push(Fact { event: event.clone(), offset: 0, members: Vec::new() });
        }
        self.runs.push(Run { facts, ..Run::default() });
        run
    }

    /// The platform on this line will ask: a publish, or something else.
    pub(super) fn expect_http(&mut self, line: usize, run: Option<usize>) {
        if let Some(run) = run {
            self.runs[run].http = true;
        }
        self.http.entry(line).or_default().push_back(run);
    }

    /// How many events the gateway has had.
    pub(super) fn length(&self, gateway: GatewayId) -> u64 {
        self.logs.get(&gateway).map_or(0, |log| log.len() as u64)
    }

    pub(super) fn lengths(&self) -> BTreeMap<GatewayId, u64> {
        self.logs.iter().map(|(gateway, log)| (*gateway, log.len() as u64)).collect()
    }

    /// What stands before and behind the timestamp of a gateway's event.
    pub(super) fn text(&self, gateway: GatewayId, offset: u64, epoch: u64) -> Option<(Vec<u8>, Vec<u8>)> {
        let index = usize::try_from(offset.checked_sub(1)?).ok()?;
        let event = &self.facts[*self.logs.get(&gateway)?.get(index)?].event;
        let mut begin = format!(r#"{{"type":"{}","payload":"#, event.kind).into_bytes();
        begin.extend_from_slice(&event.payload);
        begin.extend_from_slice(format!(r#","gatewayId":"{gateway}","timestamp":""#).as_bytes());
        Some((begin, event_end(event.correlation, Position { epoch, offset }).into_bytes()))
    }

    /// An HTTP answer came; it is to the oldest request of that connection.
    pub(super) fn http_answer(&mut self, now: Instant, line: usize, status: u16, body: &[u8]) -> Result<(), String> {
        let Some(waiting) = self.http.get_mut(&line) else { return Ok(()) };
        let Some(run) = waiting.pop_front().ok_or("an answer to nothing")? else { return Ok(()) };
        let run = &mut self.runs[run];
        run.answers += 1;
        if status == 404 && run.outcomes == [None] {
            return Ok(());
        }
        if status != 200 {
            let refused = matches!(status, 404 | 408 | 503) && run.accepted.is_none_or(|at| now > at);
            return if refused { Ok(()) } else { Err(format!("status {status}")) };
        }
        let outcome = run.outcomes.first().and_then(Option::as_ref).ok_or("answered before its shard has")?;
        let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let expected = serde_json::to_value(outcome).map_err(|error| error.to_string())?;
        if value == expected { Ok(()) } else { Err(format!("{value}, but the shard said {expected}")) }
    }

    /// Whatever was accepted has been offered to the sockets.
    pub(super) fn settled(&mut self) {
        self.burst.clear();
    }

    /// Bytes that the gateway's connections had no chance to write yet.
    pub(super) fn burst(&self, gateway: GatewayId) -> usize {
        self.burst.get(&gateway).copied().unwrap_or(0)
    }

    fn break_rule(&mut self, rule: &'static str, text: String) {
        self.broken.get_or_insert((rule, text));
    }

    /// Everybody has left: every publish has been answered, and the sums agree.
    pub(super) fn check_end(&mut self) {
        for (index, run) in self.runs.iter().enumerate() {
            let text = format!("publish {index}: {} answers", run.answers);
            let heard = run.answers == 1 || (run.http && run.answers == 0);
            let unanswered = run.accepted.is_some() && run.outcomes.is_empty();
            if !heard || unanswered || (run.overloaded && run.accepted.is_some()) {
                return self.break_rule("every publish is answered once", text);
            }
        }
        if !self.open.is_empty() {
            self.break_rule("every publish is answered once", format!("open: {:?}", self.open));
        }
    }

    /// How many deliveries all publishes asked for.
    pub(super) fn deliveries(&self) -> u64 {
        let outcomes = self.runs.iter().flat_map(|run| &run.outcomes).flatten();
        outcomes.map(|outcome| u64::from(outcome.connections.max(1))).sum()
    }
}

impl Oracle {
    /// A shard is about to take a command: what it accepts gets its place now. Its core knows the gateways of `directory`.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        request: (ShardId, RequestKey),
        command: &Command,
        directory: &Directory,
    ) -> Option<usize> {
        let (events, first) = match command {
            Command::Publish(event) => (std::slice::from_ref(event), event),
            Command::PublishMany(events) => (events.as_slice(), events.first()?),
            _ => return None,
        };
        let Some(run) = self.ledger.by_correlation.get(&first.correlation.0).copied() else {
            self.fail("only what was published is accepted", None, format!("{first:?}"));
            return None;
        };
        if self.ledger.runs[run].accepted.replace(now).is_some() {
            self.fail("a publish is accepted once", None, format!("{first:?}"));
        }
        self.ledger.open.insert(request, run);
        for (place, event) in events.iter().enumerate() {
            if !directory.knows(event.gateway) {
                self.sight("publish to a deleted gateway");
                continue;
            }
            let members = self.members_of(event.gateway);
            let fact = self.ledger.runs[run].facts[place];
            let log = self.ledger.logs.entry(event.gateway).or_default();
            log.push(fact);
            *self.ledger.burst.entry(event.gateway).or_default() += event.payload.len() + EVENT_BYTES_AROUND;
            let offset = log.len() as u64;
            let fact = &mut self.ledger.facts[fact];
            (fact.offset, fact.members) = (offset, members);
            if fact.event != *event {
                self.fail("what is accepted is what was published", None, format!("{event:?}"));
            }
        }
        Some(run)
    }

    /// The shard has taken it: whoever went over the bound is a member no more.
    pub(super) fn accepted(&mut self, now: Instant, run: usize, shard: &Shard) {
        let facts = self.ledger.runs[run].facts.clone();
        for fact in facts {
            for line in self.ledger.facts[fact].members.clone() {
                let Some(member) = self.watched[line].member else { continue };
                let closing = shard.connection(member.key).is_none_or(|connection| connection.closing);
                if closing && self.watched[line].closing.is_none() {
                    self.ledger.runs[run].shrunk = true;
                    self.closing(now, line, CloseReason::SlowConsumer);
                }
            }
        }
    }

    /// A shard answers.
    pub(super) fn replied(&mut self, now: Instant, request: (ShardId, RequestKey), reply: &Reply) {
        let Some(outcomes) = outcomes(reply) else { return };
        let Some(index) = self.ledger.open.remove(&request) else {
            return self.fail("every publish is answered once", None, format!("{request:?}"));
        };
        let run = &mut self.ledger.runs[index];
        run.outcomes.clone_from(&outcomes);
        let late = run.accepted.map_or(Duration::ZERO, |accepted| now.since(accepted));
        let (facts, shrunk) = (run.facts.clone(), run.shrunk);
        if late > self.publish_timeout() + Duration::from_micros(TICK) {
            self.fail("an answer comes within the publish timeout", None, format!("after {late:?}"));
        }
        if facts.len() != outcomes.len() {
            return self.fail(
                "a batch is answered line by line",
                None,
                format!("{} of {}", outcomes.len(), facts.len()),
            );
        }
        for (fact, outcome) in facts.into_iter().zip(&outcomes) {
            let Some(outcome) = outcome else {
                if self.ledger.facts[fact].offset > 0 {
                    self.fail("an answer says what happened", None, "accepted, and said not to be".to_owned());
                }
                continue;
            };
            if outcome.pending > 0 {
                self.sight("pending at the publish timeout");
            }
            if let Err((line, text)) = self.check_outcome(fact, outcome, shrunk) {
                self.fail("an answer says what happened", line, format!("{text}: {outcome:?}"));
            }
        }
    }

    fn check_outcome(
        &self,
        fact: usize,
        outcome: &PublishOutcome,
        shrunk: bool,
    ) -> Result<(), (Option<usize>, String)> {
        let fact = &self.ledger.facts[fact];
        let wrong = |text: &str| Err((None, text.to_owned()));
        if outcome.correlation_id != fact.event.correlation || outcome.position.offset != fact.offset {
            return Err((None, format!("another event or place than {}", fact.offset)));
        }
        let sum = outcome.delivered + outcome.failed + outcome.pending;
        let members = fact.members.len() as u32;
        if outcome.connections == 0 && (outcome.failed, sum) != (1, 1) {
            return wrong("nobody was there, which is one failure");
        }
        if outcome.connections > 0 && sum != outcome.connections {
            return wrong("the sum is not the number of connections");
        }
        if outcome.connections != members && !(shrunk && outcome.connections < members) {
            return Err((None, format!("{members} connections were there")));
        }
        let has = |line: &&usize| self.watched[**line].seen >= fact.offset;
        let written = fact.members.iter().filter(has).count() as u32;
        if outcome.delivered > written {
            return Err((None, format!("written whole to {written}")));
        }
        let failed = |line: &usize| {
            let id = self.watched[*line].member.map(|member| member.id);
            outcome.failures.iter().any(|failure| failure.connection_id == id)
        };
        let lost = fact.members.iter().find(|line| !has(line) && !failed(line));
        match lost {
            Some(line) if outcome.pending == 0 && outcome.connections == members => {
                Err((Some(*line), "said to be delivered, and was not written whole".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// A publisher hears his answer.
    pub(super) fn answered(&mut self, now: Instant, run: usize, answers: &[Answer]) {
        let run = &mut self.ledger.runs[run];
        run.answers += 1;
        let shard = match answers {
            [Answer::Shard(reply)] => outcomes(reply),
            [Answer::Overloaded] => {
                run.overloaded = true;
                return self.sight("publish refused");
            }
            other => return self.fail("every publish is answered once", None, format!("{other:?} at {now:?}")),
        };
        if shard.as_ref() != Some(&run.outcomes) {
            self.fail("a publisher hears his own answer", None, format!("{shard:?}"));
        }
    }
}

/// What a shard says about each event of a publish; `None` where that is not what it was asked.
fn outcomes(reply: &Reply) -> Option<Vec<Option<PublishOutcome>>> {
    match reply {
        Reply::Published(outcome) => Some(vec![Some(outcome.clone())]),
        Reply::NoSuchGateway => Some(vec![None]),
        Reply::PublishedMany(outcomes) => Some(outcomes.clone()),
        _ => None,
    }
}
