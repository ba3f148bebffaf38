//! Publishing one event: `POST /api/v1/gateways/{gatewayId}/events`.

use super::{
    answer::{Unanswered, only},
    body,
    call::{Answer, Ask, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
};
use crate::{
    limits,
    model::{CorrelationId, Event, EventType, GatewayId},
    shard::{Command, Reply},
    wire::http::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An event as a publisher writes it. The payload stays the text that it was: it is checked to be JSON and never
/// decoded, so that it reaches the gateway byte for byte.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Draft<'a> {
    /// Needed in a batch; elsewhere the path names the gateway, and this, where it is there, must agree.
    gateway_id: Option<String>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    correlation_id: Option<String>,
    user_id: Option<String>,
}

/// Why a draft is no event: a status and a sentence.
pub(super) struct Rejected(pub u16, pub String);

impl From<Rejected> for Response {
    fn from(Rejected(status, description): Rejected) -> Self {
        Response::error(status, &description)
    }
}

impl Draft<'_> {
    /// The gateway that the draft itself names.
    pub fn gateway(&self) -> Result<Option<GatewayId>, Rejected> {
        let Some(text) = &self.gateway_id else { return Ok(None) };
        GatewayId::parse(text).map(Some).ok_or_else(|| Rejected(400, "`gatewayId` is not a UUID".to_owned()))
    }

    /// Checks everything but the gateway.
    pub fn into_event(self, gateway: GatewayId, view: &View<'_>) -> Result<Event, Rejected> {
        let payload = self.payload.get();
        if payload.len() > limits::PAYLOAD_BYTES_MAX {
            return Err(Rejected(413, format!("`payload` is larger than {} bytes", limits::PAYLOAD_BYTES_MAX)));
        }
        let reject = |what: String| Rejected(400, what);
        let kind = EventType::parse(&self.kind).ok_or_else(|| {
            reject(format!("`type` is not 1 to {} characters of A-Z a-z 0-9 . _ -", limits::EVENT_TYPE_BYTES_MAX))
        })?;
        let correlation = match &self.correlation_id {
            Some(text) => {
                CorrelationId::parse(text).ok_or_else(|| reject("`correlationId` is not a UUID".to_owned()))?
            }
            None => CorrelationId::from_random((view.random)()),
        };
        if self.user_id.as_ref().is_some_and(|user| user.len() > limits::USER_ID_BYTES_MAX) {
            return Err(reject(format!("`userId` is longer than {} bytes", limits::USER_ID_BYTES_MAX)));
        }
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let correlation_given = self.correlation_id.is_some();
        let user_id = self.user_id.map(String::into_boxed_str);
        Ok(Event { gateway, kind, payload, correlation, correlation_given, user_id })
    }
}

/// One event to one gateway.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    if !view.directory.knows(gateway) {
        return Err(no_such_gateway());
    }
    let draft: Draft<'_> = body::object(call.body)?;
    if draft.gateway()?.is_some_and(|named| named != gateway) {
        return Err(Response::error(400, "`gatewayId` names another gateway than the path"));
    }
    let event = draft.into_event(gateway, view)?;
    let ask = Ask::Shard(view.placement.of_gateway(gateway), Command::Publish(event));
    Ok(Step::Ask(vec![ask], Pending::new(Waiting)))
}

fn no_such_gateway() -> Response {
    Response::error(404, NO_SUCH_GATEWAY)
}

/// What a publisher is told who names a gateway that is not there, whoever finds out.
pub(super) const NO_SUCH_GATEWAY: &str = "there is no such gateway";

/// The owner of the gateway has the event.
#[derive(Debug)]
struct Waiting;

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Vec<Answer>, _: &View<'_>) -> Handled {
        match only(answers)?.shard()? {
            Reply::Published(outcome) => Ok(Step::Respond(Response::json(200, &outcome))),
            Reply::NoSuchGateway => Err(no_such_gateway()),
            _ => Err(Unanswered::Mismatched.into()),
        }
    }
}
