//! Publishing many events: `POST /api/v1/events`, one JSON object a line in, one result a line out, in the same order.

use super::{
    Answer, Call, Handled, Pending, Step, View, body,
    publish::{Draft, NO_SUCH_GATEWAY, Rejected},
    routes::Params,
    spread::{Asked, Spread},
};
use crate::{
    limits,
    model::{Event, PublishOutcome, ShardId},
    shard::{Command, Reply},
    wire::http::Response,
};
use serde::Serialize;

const CONTENT_TYPE: &str = "application/x-ndjson";

/// What became of one line of the request.
#[derive(Debug)]
enum Line {
    /// It went to this shard.
    Sent(ShardId),
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
    let text = call.body.strip_suffix(b"\n").unwrap_or(call.body);
    if text.is_empty() {
        return Err(Response::error(400, "the body has no lines"));
    }
    if text.iter().filter(|b| **b == b'\n').count() >= limits::BATCH_LINES_MAX {
        return Err(Response::error(413, &format!("a batch has at most {} lines", limits::BATCH_LINES_MAX)));
    }
    let mut spread = Spread::over(view.placement);
    let lines = text.split(|b| *b == b'\n').map(|line| match read(line, view) {
        Ok(event) => {
            let owner = view.placement.of_gateway(event.gateway);
            spread.push(owner, event);
            Line::Sent(owner)
        }
        Err(Rejected(status, error)) => Line::Rejected(status, error),
    });
    let lines = lines.collect();
    let (asks, asked) = spread.into_asks(Command::PublishMany);
    let waiting = Waiting { lines, asked };
    if asks.is_empty() { waiting.handle_answers(Vec::new()) } else { Ok(Step::Ask(asks, Pending::Batch(waiting))) }
}

fn read(line: &[u8], view: &View<'_>) -> Result<Event, Rejected> {
    let line = std::str::from_utf8(line)
        .map_err(|e| Rejected(400, format!("the line is not UTF-8 at byte {}", e.valid_up_to())))?;
    let draft: Draft<'_> = body::parse_object(line).map_err(|e| Rejected(400, e))?;
    let gateway = draft.gateway()?.ok_or_else(|| Rejected(400, "missing field `gatewayId`".to_owned()))?;
    if !view.directory.knows(gateway) {
        return Err(Rejected(404, NO_SUCH_GATEWAY.to_owned()));
    }
    draft.into_event(gateway)
}

/// The owners have the events.
#[derive(Debug)]
pub struct Waiting {
    lines: Vec<Line>,
    asked: Asked,
}

impl Waiting {
    pub(super) fn handle_answers(self, answers: Vec<Answer>) -> Handled {
        let mut outcomes = self.asked.gather(answers, |reply| match reply {
            Reply::PublishedMany(outcomes) => Some(outcomes),
            _ => None,
        });
        let mut body = Vec::new();
        let mut failures_left = limits::BATCH_FAILURES_LISTED_MAX;
        for line in self.lines {
            let sent = match line {
                Line::Sent(owner) => outcomes.next_of(owner),
                Line::Rejected(status, error) => {
                    write_row(&mut body, &Row::Failed { status, error: &error });
                    continue;
                }
            };
            match sent {
                Ok(None) => write_row(&mut body, &Row::Failed { status: 404, error: NO_SUCH_GATEWAY }),
                Ok(Some(mut outcome)) => {
                    outcome.failures.truncate(failures_left);
                    failures_left -= outcome.failures.len();
                    write_row(&mut body, &Row::Published { status: 200, outcome });
                }
                Err(why) => write_row(&mut body, &Row::Failed { status: why.status(), error: why.description() }),
            }
        }
        let response = Response { body, content_type: Some(CONTENT_TYPE), ..Response::empty(200) };
        Ok(Step::Respond(response))
    }
}

fn write_row(body: &mut Vec<u8>, row: &Row<'_>) {
    serde_json::to_writer(&mut *body, row).expect("our own answer types have string keys and serialize");
    body.push(b'\n');
}
