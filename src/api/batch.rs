//! Publishing many events: `POST /api/v1/events`, one JSON object a line in, one result a line out, in the same order.
//!
//! A batch is read, published and answered in slices, so that nobody else on its core waits for the whole of it.

use super::{
    answer::Unanswered,
    body,
    call::{Answer, Ask, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
    publish::{Draft, NO_SUCH_GATEWAY, Rejected},
};
use crate::{
    limits,
    model::{Event, PublishOutcome, ShardId},
    shard::{Command, Reply},
    wire::http::Response,
};
use serde::Serialize;
use std::vec;

const CONTENT_TYPE: &str = "application/x-ndjson";

/// What became of one line of the request.
#[derive(Debug)]
enum Line {
    /// It went out with this question, counted over all slices.
    Sent(usize),
    /// It failed alone.
    Rejected(u16, String),
}

/// One line of the answer.
#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Published {
        status: u16,
        #[serde(flatten)]
        outcome: PublishOutcome,
    },
    Failed {
        status: u16,
        error: &'a str,
    },
}

/// Many events to many gateways.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    let text = lines_of(call.body);
    if text.is_empty() {
        return Err(Response::error(400, "the body has no lines"));
    }
    if memchr::memchr_iter(b'\n', text).count() >= limits::BATCH_LINES_MAX {
        return Err(Response::error(413, &format!("a batch has at most {} lines", limits::BATCH_LINES_MAX)));
    }
    Ok(Reading::default().read_slice(text, view))
}

fn lines_of(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\n").unwrap_or(body)
}

fn read(line: &[u8], view: &View<'_>) -> Result<Event, Rejected> {
    let line = std::str::from_utf8(line)
        .map_err(|e| Rejected(400, format!("the line is not UTF-8 at byte {}", e.valid_up_to())))?;
    let draft: Draft<'_> = body::parse_object(line).map_err(|e| Rejected(400, e))?;
    let gateway = draft.gateway()?.ok_or_else(|| Rejected(400, "missing field `gatewayId`".to_owned()))?;
    if !view.directory.knows(gateway) {
        return Err(Rejected(404, NO_SUCH_GATEWAY.to_owned()));
    }
    draft.into_event(gateway, view)
}

/// A batch on its way.
#[derive(Debug)]
struct Waiting(Stage);

#[derive(Debug)]
enum Stage {
    /// Lines are read and handed to the owners of their gateways.
    Reading(Reading),
    /// The owners have answered: lines of the answer are written.
    Writing(Writing),
}

#[derive(Default, Debug)]
struct Reading {
    /// Where the next line begins.
    at: usize,
    lines: Vec<Line>,
    /// Questions that were asked by all slices so far.
    asked: usize,
}

#[derive(Debug)]
struct Writing {
    lines: vec::IntoIter<Line>,
    /// By question: its outcomes that no line has taken yet.
    outcomes: Vec<Result<vec::IntoIter<Option<PublishOutcome>>, Unanswered>>,
    body: Vec<u8>,
    failures_left: usize,
}

impl Continuation for Waiting {
    fn handle_more(self: Box<Self>, call: &Call<'_>, view: &View<'_>) -> Handled {
        Ok(match self.0 {
            Stage::Reading(reading) => reading.read_slice(lines_of(call.body), view),
            Stage::Writing(writing) => writing.write_slice(),
        })
    }

    fn handle_answers(self: Box<Self>, answers: Vec<Answer>, _: &View<'_>) -> Handled {
        let Stage::Reading(reading) = self.0 else {
            debug_assert!(false, "nothing is asked while the answer is written");
            return Err(Unanswered::Mismatched.into());
        };
        Ok(reading.into_writing(answers).write_slice())
    }
}

impl Reading {
    /// All owners have answered.
    fn into_writing(self, answers: Vec<Answer>) -> Writing {
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

    /// Reads the next lines, and asks each owner to publish those of its gateways.
    fn read_slice(mut self, text: &[u8], view: &View<'_>) -> Step {
        let end = (self.at + limits::BATCH_SLICE_BYTES).min(text.len() + 1);
        let mut groups: Vec<(ShardId, Vec<Event>)> = Vec::new();
        for _ in 0..limits::BATCH_SLICE_LINES {
            if self.at >= end {
                break;
            }
            let rest = &text[self.at..];
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            self.at += length + 1;
            let line = match read(&rest[..length], view) {
                Ok(event) => Line::Sent(self.asked + group(&mut groups, event, view)),
                Err(Rejected(status, error)) => Line::Rejected(status, error),
            };
            self.lines.push(line);
        }
        self.asked += groups.len();
        let asks = groups.into_iter().map(|(owner, events)| Ask::Shard(owner, Command::PublishMany(events))).collect();
        match self.at > text.len() {
            false => Step::Slice(asks, Pending::new(Waiting(Stage::Reading(self)))),
            true if self.asked == 0 => self.into_writing(Vec::new()).write_slice(),
            true => Step::Ask(asks, Pending::new(Waiting(Stage::Reading(self)))),
        }
    }
}

/// Puts an event to the others of its owner; returns the place of that group in this slice.
fn group(groups: &mut Vec<(ShardId, Vec<Event>)>, event: Event, view: &View<'_>) -> usize {
    let owner = view.placement.of_gateway(event.gateway);
    let place = groups.iter().position(|(shard, _)| *shard == owner).unwrap_or_else(|| {
        groups.push((owner, Vec::new()));
        groups.len() - 1
    });
    groups[place].1.push(event);
    place
}

impl Writing {
    /// Writes the next lines of the answer; gives it once all are written.
    fn write_slice(mut self) -> Step {
        for _ in 0..limits::BATCH_SLICE_LINES {
            let Some(line) = self.lines.next() else { break };
            self.write(line);
        }
        if self.lines.len() > 0 {
            return Step::Slice(Vec::new(), Pending::new(Waiting(Stage::Writing(self))));
        }
        Step::Respond(Response { body: self.body, content_type: Some(CONTENT_TYPE), ..Response::empty(200) })
    }

    fn write(&mut self, line: Line) {
        let question = match line {
            Line::Sent(question) => question,
            Line::Rejected(status, error) => {
                return write_row(&mut self.body, &Row::Failed { status, error: &error });
            }
        };
        let outcome = match self.outcomes.get_mut(question) {
            Some(Ok(outcomes)) => outcomes.next().ok_or(Unanswered::Mismatched),
            Some(Err(unanswered)) => Err(*unanswered),
            None => Err(Unanswered::Mismatched),
        };
        match outcome {
            Ok(None) => write_row(&mut self.body, &Row::Failed { status: 404, error: NO_SUCH_GATEWAY }),
            Ok(Some(mut outcome)) => {
                outcome.failures.truncate(self.failures_left);
                self.failures_left -= outcome.failures.len();
                write_row(&mut self.body, &Row::Published { status: 200, outcome });
            }
            Err(why) => {
                write_row(&mut self.body, &Row::Failed { status: why.status(), error: why.description() });
            }
        }
    }
}

fn write_row(body: &mut Vec<u8>, row: &Row<'_>) {
    serde_json::to_writer(&mut *body, row).expect("our own answer types have string keys and serialize");
    body.push(b'\n');
}
