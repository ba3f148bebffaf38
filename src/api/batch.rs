//! Publishes many events: `POST /api/v1/events`. The body has one JSON object on each line, the answer one result on
//! each line, in the same order.
//!
//! A batch is parsed, published and answered in slices, because 8 MiB of JSON would hold up the other connections of
//! the core for too long.

use super::{
    answer::Unanswered,
    body,
    call::{Answers, Ask, Asks, Call, Continuation, Handled, Pending, Step, View},
    json, outcome,
    params::Params,
    publish::{Draft, NO_SUCH_GATEWAY, Rejected, not_kept_text},
    query::Query,
    wait::Wait,
};
use crate::{
    limits,
    model::{Event, Kept, ShardId},
    shard::{Command, Published, Reply},
    wire::http::Response,
};
use serde::Serialize;
use std::vec;

const CONTENT_TYPE: &str = "application/x-ndjson";

/// The state of one line of the request.
#[derive(Debug)]
enum Line {
    /// Its event was sent with this ask, counted from 0 over all slices.
    Sent(usize),
    /// It was rejected, with a status and a text.
    Rejected(u16, String),
}

/// A line of the answer for an event that was not published.
#[derive(Serialize)]
struct Failed<'a> {
    status: u16,
    error: &'a str,
    /// Whether the event may have been kept all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

/// Publishes events to any gateways.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    let text = without_last_newline(call.body);
    if text.is_empty() {
        return Err(Response::error(400, "the body is empty: expected one JSON object on each line"));
    }
    // Counted before the first slice is published: a batch with too many lines publishes nothing.
    if memchr::memchr_iter(b'\n', text).count() >= limits::BATCH_LINES_MAX {
        return Err(Response::error(413, &format!("too many lines: a batch has at most {}", limits::BATCH_LINES_MAX)));
    }
    let wait = Wait::of(Query(call.query))?;
    Ok(Reading { wait, ..Reading::default() }.read_slice(text, view))
}

/// The body without the newline that may end its last line.
fn without_last_newline(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\n").unwrap_or(body)
}

fn parse_line(line: &[u8], view: &View<'_>) -> Result<Event, Rejected> {
    let line = std::str::from_utf8(line)
        .map_err(|e| Rejected(400, format!("the line is not UTF-8 at byte {}", e.valid_up_to())))?;
    let draft: Draft<'_> = body::parse_object(line).map_err(|e| Rejected(400, e))?;
    let gateway = draft.gateway()?.ok_or_else(|| Rejected(400, "missing field `gatewayId`".to_owned()))?;
    // The shard checks it as well, as the gateway may be deleted meanwhile. Here it saves the way to another core.
    if !view.directory.knows(gateway) {
        return Err(Rejected(404, NO_SUCH_GATEWAY.to_owned()));
    }
    draft.into_event(gateway, view)
}

/// A batch between two slices.
#[derive(Debug)]
struct Waiting(Stage);

#[derive(Debug)]
enum Stage {
    /// Parses lines, and sends their events to the owners of the gateways.
    Reading(Reading),
    /// Writes lines of the answer, after all owners have answered.
    Writing(Writing),
}

#[derive(Default, Debug)]
struct Reading {
    /// Offset of the next line in the body.
    at: usize,
    lines: Vec<Line>,
    /// Number of asks in all slices so far.
    asks: usize,
    wait: Wait,
}

#[derive(Debug)]
struct Writing {
    lines: vec::IntoIter<Line>,
    /// For each ask, the outcomes that were not written yet.
    outcomes: Vec<Result<vec::IntoIter<Published>, Unanswered>>,
    body: Vec<u8>,
    /// Number of failures and of missing connections that may still be listed in the answer.
    failures_left: usize,
}

impl Continuation for Waiting {
    fn waits(&self) -> bool {
        matches!(&self.0, Stage::Reading(reading) if reading.wait.is_asked())
    }

    fn handle_more(self: Box<Self>, call: &Call<'_>, view: &View<'_>) -> Handled {
        Ok(match self.0 {
            Stage::Reading(reading) => reading.read_slice(without_last_newline(call.body), view),
            Stage::Writing(writing) => writing.write_slice(),
        })
    }

    fn handle_answers(self: Box<Self>, answers: Answers, _: &View<'_>) -> Handled {
        let Stage::Reading(reading) = self.0 else {
            debug_assert!(false, "a batch has no asks while its answer is written");
            return Err(Unanswered::Mismatched.into());
        };
        Ok(reading.into_writing(answers).write_slice())
    }
}

impl Reading {
    /// Goes from reading to writing, with the answers of all owners.
    fn into_writing(self, answers: Answers) -> Writing {
        let outcomes = answers.into_iter().map(|answer| match answer.shard()? {
            Reply::PublishedMany(outcomes) => Ok(outcomes.into_iter()),
            _ => Err(Unanswered::Mismatched),
        });
        Writing {
            lines: self.lines.into_iter(),
            outcomes: outcomes.collect(),
            body: Vec::new(),
            failures_left: limits::BATCH_FAILURES_LISTED_MAX,
        }
    }

    /// Parses the next lines, and asks each owner to publish the events of its gateways.
    fn read_slice(mut self, text: &[u8], view: &View<'_>) -> Step {
        // One byte more than the text: its last line has no newline, and `at` is behind the text once that line is
        // read.
        let end = (self.at + limits::BATCH_SLICE_BYTES).min(text.len() + 1);
        // One ask for each owner and slice, not for each line: a core's queue of requests is bounded, and each costs a
        // wake-up.
        let mut groups: Vec<(ShardId, Vec<Event>)> = Vec::new();
        for _ in 0..limits::BATCH_SLICE_LINES {
            if self.at >= end {
                break;
            }
            let rest = &text[self.at..];
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            self.at += length + 1;
            let line = match parse_line(&rest[..length], view) {
                Ok(event) => Line::Sent(self.asks + group(&mut groups, event, view)),
                Err(Rejected(status, error)) => Line::Rejected(status, error),
            };
            self.lines.push(line);
        }
        self.asks += groups.len();
        let asks = groups
            .into_iter()
            .map(|(owner, events)| Ask::Shard(owner, self.wait.command(Command::PublishMany(events))))
            .collect();
        match self.at > text.len() {
            false => Step::Slice(asks, Pending::new(Waiting(Stage::Reading(self)))),
            true if self.asks == 0 => self.into_writing(Answers::new()).write_slice(),
            true => Step::Ask(asks, Pending::new(Waiting(Stage::Reading(self)))),
        }
    }
}

/// Adds an event to the group of its owner; returns the index of that group in this slice.
fn group(groups: &mut Vec<(ShardId, Vec<Event>)>, event: Event, view: &View<'_>) -> usize {
    let owner = view.placement.of_gateway(event.gateway);
    let index = groups.iter().position(|(shard, _)| *shard == owner).unwrap_or_else(|| {
        groups.push((owner, Vec::new()));
        groups.len() - 1
    });
    groups[index].1.push(event);
    index
}

impl Writing {
    /// Writes the next lines of the answer; returns the response once all are written.
    fn write_slice(mut self) -> Step {
        for _ in 0..limits::BATCH_SLICE_LINES {
            let Some(line) = self.lines.next() else { break };
            self.write(line);
        }
        if self.lines.len() > 0 {
            return Step::Slice(Asks::new(), Pending::new(Waiting(Stage::Writing(self))));
        }
        Step::Respond(Response { body: self.body, content_type: Some(CONTENT_TYPE), ..Response::empty(200) })
    }

    fn write(&mut self, line: Line) {
        let ask = match line {
            Line::Sent(ask) => ask,
            Line::Rejected(status, error) => {
                return write_row(&mut self.body, &Failed { status, error: &error, kept: None });
            }
        };
        let outcome = match self.outcomes.get_mut(ask) {
            // A shard answers in the order of its events, so the next outcome of this ask belongs to this line.
            Some(Ok(outcomes)) => outcomes.next().ok_or(Unanswered::Mismatched),
            Some(Err(unanswered)) => Err(*unanswered),
            None => Err(Unanswered::Mismatched),
        };
        match outcome {
            Ok(Published::NoSuchGateway) => {
                write_row(&mut self.body, &Failed { status: 404, error: NO_SUCH_GATEWAY, kept: None });
            }
            Ok(Published::NotKept(not)) => {
                let error = not_kept_text(not);
                write_row(&mut self.body, &Failed { status: 503, error: &error, kept: Some(not.kept) });
            }
            Ok(Published::Outcome(mut outcome)) => {
                // Each outcome lists up to 100 failures, and as many connections that were missing, but 10,000 lines of them would be an answer of 100 MB.
                outcome.failures.truncate(self.failures_left);
                self.failures_left -= outcome.failures.len();
                if let Some(awaiting) = &mut outcome.awaiting {
                    awaiting.missing.truncate(self.failures_left);
                    self.failures_left -= awaiting.missing.len();
                }
                self.body.extend_from_slice(b"{\"status\":200,");
                outcome::append_members(&outcome, &mut self.body);
                self.body.extend_from_slice(b"}\n");
            }
            Err(why) => {
                let row = Failed { status: why.status(), error: why.description(), kept: why.kept() };
                write_row(&mut self.body, &row);
            }
        }
    }
}

fn write_row(body: &mut Vec<u8>, row: &Failed<'_>) {
    json::append(row, body);
    body.push(b'\n');
}
