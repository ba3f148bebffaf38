//! Shows the log of a gateway: `GET /api/v1/gateways/{gatewayId}/events`.

use super::{
    answer::{Unanswered, only},
    call::{Answers, Ask, Call, Continuation, Handled, Pending, Step, View},
    json,
    params::Params,
    publish::no_such_gateway,
    query::{Query, refuse},
};
use crate::{
    limits,
    model::{
        Position,
        log::{Head, ReadFrom, Record},
    },
    shard::{Command, Events, Reply},
    wire::http::{Response, reason_phrase},
};
use serde::Serialize;
use smallvec::smallvec;
use std::io::Write;

/// Asks the owner of the gateway for a page of its log.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    if !view.directory.knows(gateway) {
        return Err(no_such_gateway());
    }
    let (from, limit) = range(Query(call.query))?;
    let ask = Ask::Shard(view.placement.of_gateway(gateway), Command::Events { gateway, from, limit });
    Ok(Step::Ask(smallvec![ask], Pending::new(Waiting)))
}

/// Where the page begins, and how many events it has at most.
fn range(query: Query<'_>) -> Result<(ReadFrom, usize), Response> {
    let limit = query.rows("limit")?;
    let after = query.value("after")?;
    let Some(tail) = query.rows("tail")? else {
        let from = match after {
            None => ReadFrom::Oldest,
            Some(text) => ReadFrom::After(Position::parse(&text).ok_or_else(|| {
                refuse("after", "must be a position, such as `last` in an answer of this call; omit it to begin with the oldest event")
            })?),
        };
        return Ok((from, limit.unwrap_or(limits::PAGE_ROWS_DEFAULT)));
    };
    if after.is_some() || limit.is_some() {
        return Err(refuse("tail", "cannot be combined with `after` or `limit`"));
    }
    Ok((ReadFrom::Last(tail as u64), tail))
}

/// A call that waits for the shard that owns the gateway.
#[derive(Debug)]
struct Waiting;

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Answers, _: &View<'_>) -> Handled {
        let Reply::Events(events) = only(answers)?.shard()? else { return Err(Unanswered::Mismatched.into()) };
        match events {
            Events::Page { records, more, head } => Ok(Step::Respond(page(&records, more, head))),
            other => Err(unreadable(other)),
        }
    }
}

/// The response where there is no page.
pub(super) fn unreadable(events: Events) -> Response {
    match events {
        Events::Trimmed(head) => no_page(head, "events after this position are no longer kept"),
        Events::UnknownPosition(head) => no_page(head, "this is not a position of this gateway's log"),
        Events::Unavailable(why) => {
            Response::error(503, &format!("{why}: the events cannot be read; try again")).with("Retry-After", "1")
        }
        Events::Overloaded => Unanswered::Overloaded.into(),
        Events::NoSuchGateway => no_such_gateway(),
        Events::Page { .. } => Unanswered::Mismatched.into(),
    }
}

/// The position of the oldest event that is kept, if there is one, and that of the last event.
fn ends(head: Head) -> (Option<Position>, Position) {
    let at = |offset| Position { epoch: head.epoch, offset };
    ((head.first <= head.last).then(|| at(head.first)), at(head.last))
}

/// The body of a 410: like that of every error, and where to go on.
#[derive(Serialize)]
struct Gone<'a> {
    code: u16,
    message: &'a str,
    description: &'a str,
    first: Option<Position>,
    last: Position,
}

/// The response for a position where nothing is, with the ends of the log.
pub(super) fn gone(head: Head, description: &str) -> Response {
    let (first, last) = ends(head);
    Response::json(410, &Gone { code: 410, message: reason_phrase(410), description, first, last })
}

fn no_page(head: Head, what: &str) -> Response {
    let description = format!(
        "{what}; call it without `after` to begin with the oldest event that is kept, or with `after` = `last` for new events only"
    );
    gone(head, &description)
}

fn page(records: &[Record], more: bool, head: Head) -> Response {
    let payloads: usize = records.iter().map(|record| record.event.payload.len()).sum();
    let mut body = Vec::with_capacity(payloads + 320 * records.len() + 256);
    put(&mut body, format_args!("{{\"count\":{},\"list\":[", records.len()));
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        put_event(record, &mut body);
    }
    body.extend_from_slice(b"],\"first\":");
    let (first, last) = ends(head);
    match first {
        Some(first) => put(&mut body, format_args!("\"{first}\"")),
        None => body.extend_from_slice(b"null"),
    }
    put(&mut body, format_args!(",\"last\":\"{last}\",\"more\":{more}}}"));
    Response::json_text(body)
}

/// Appends one event. By hand, because the payload is there byte for byte as it was published; a type has no character
/// that JSON escapes.
fn put_event(Record { position, accepted, event, .. }: &Record, out: &mut Vec<u8>) {
    let (kind, correlation) = (&event.kind, event.correlation);
    put(out, format_args!("{{\"position\":\"{position}\",\"type\":\"{kind}\",\"timestamp\":\"{accepted}\""));
    put(out, format_args!(",\"correlationId\":\"{correlation}\""));
    if let Some(user_id) = &event.user_id {
        out.extend_from_slice(b",\"userId\":");
        json::append(user_id, out);
    }
    // Whoever reads the log to find out what a gateway was sent need not see the keys of its users.
    if kind.carries_secret() {
        out.extend_from_slice(b",\"payloadOmitted\":true}");
        return;
    }
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(&event.payload);
    out.push(b'}');
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into memory cannot fail");
}
