//! Sends an event of a gateway once more: `POST /api/v1/gateways/{gatewayId}/events/{position}/resend`.
//!
//! The event is published again, behind all others, with the same payload and a correlation id of its own: gateways drop an event whose
//! correlation id they have seen.

use super::{
    answer::{Unanswered, only},
    call::{Answers, Ask, Call, Continuation, Handled, Pending, Step, View},
    events::{gone, unreadable},
    params::Params,
    publish::{self, no_such_gateway},
    query::Query,
    wait::Wait,
};
use crate::{
    model::{CorrelationId, Event, GatewayId, Position, log::ReadFrom},
    shard::{Command, Events, Reply},
    wire::http::Response,
};
use smallvec::smallvec;

/// Reads the event from the log of its gateway.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    if !view.directory.knows(gateway) {
        return Err(no_such_gateway());
    }
    let position = Position::parse(params.second).filter(|position| position.offset > 0).ok_or_else(|| {
        Response::error(400, "the position in the path is not one: take it from an answer of the hub")
    })?;
    let wait = Wait::of(Query(call.query))?;
    let from = ReadFrom::After(Position { offset: position.offset - 1, ..position });
    let ask = Ask::Shard(view.placement.of_gateway(gateway), Command::Events { gateway, from, limit: 1 });
    Ok(Step::Ask(smallvec![ask], Pending::new(Reading { gateway, position, wait })))
}

/// Waits for the event.
#[derive(Debug)]
struct Reading {
    gateway: GatewayId,
    position: Position,
    wait: Wait,
}

impl Continuation for Reading {
    fn handle_answers(self: Box<Self>, answers: Answers, view: &View<'_>) -> Handled {
        let Reply::Events(events) = only(answers)?.shard()? else { return Err(Unanswered::Mismatched.into()) };
        let records = match events {
            Events::Page { records, .. } => records,
            // The page would have begun at the end of the log, or behind it.
            Events::UnknownPosition(head) if head.epoch == self.position.epoch => return Err(no_such_event()),
            Events::UnknownPosition(head) => return Err(gone(head, "this position is not one of the gateway's log")),
            Events::Trimmed(head) => return Err(gone(head, "the event at this position is no longer kept")),
            other => return Err(unreadable(other)),
        };
        let Some(record) = records.into_iter().find(|record| record.position == self.position) else {
            return Err(no_such_event());
        };
        if record.event.is_erased() {
            let what = "the event carried a secret, and its payload was erased; publish it again";
            return Err(Response::error(410, what));
        }
        let correlation = CorrelationId::from_random((view.random)());
        let event = Event { correlation, correlation_given: false, ..(*record.event).clone() };
        Ok(publish::publish(self.gateway, event, self.wait, view))
    }
}

fn no_such_event() -> Response {
    Response::error(404, "the gateway has no event at this position")
}
