//! Publishes one event: `POST /api/v1/gateways/{gatewayId}/events`.

use super::{
    answer::{Unanswered, not_done, only},
    body,
    call::{Answers, Ask, Call, Continuation, Handled, Pending, Step, View},
    outcome,
    params::Params,
    query::Query,
    wait::Wait,
};
use crate::{
    limits,
    model::{CorrelationId, Event, EventType, GatewayId, Kept, PublishOutcome},
    shard::{Command, NotKept, Published, Reply},
    wire::http::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::smallvec;
use std::borrow::Cow;

/// An event as a publisher sends it. The payload is checked to be JSON but never decoded, so that it reaches the
/// gateway byte for byte.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Draft<'a> {
    /// Required in a batch. In other calls it is optional, and must equal the gateway in the path.
    #[serde(borrow)]
    gateway_id: Option<Text<'a>>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    correlation_id: Option<Text<'a>>,
    user_id: Option<String>,
}

/// A text in a body, copied only if it has escapes. (serde copies the one of an `Option<Cow<str>>` always.)
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Why a draft was rejected: a status and a text.
pub(super) struct Rejected(pub u16, pub String);

impl From<Rejected> for Response {
    fn from(Rejected(status, description): Rejected) -> Self {
        Response::error(status, &description)
    }
}

impl Draft<'_> {
    /// The gateway in the draft, if it has one.
    pub fn gateway(&self) -> Result<Option<GatewayId>, Rejected> {
        let Some(text) = &self.gateway_id else { return Ok(None) };
        GatewayId::parse(&text.0).map(Some).ok_or_else(|| Rejected(400, "`gatewayId` is not a UUID".to_owned()))
    }

    /// Checks all members except the gateway, and makes the event.
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
                CorrelationId::parse(&text.0).ok_or_else(|| reject("`correlationId` is not a UUID".to_owned()))?
            }
            None => CorrelationId::from_random((view.random)()),
        };
        if self.user_id.as_ref().is_some_and(|user| user.len() > limits::USER_ID_BYTES_MAX) {
            return Err(reject(format!("`userId` is longer than {} bytes", limits::USER_ID_BYTES_MAX)));
        }
        // Copied, because the event outlives the body, and a slice of a batch's body would keep all of it in memory.
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let correlation_given = self.correlation_id.is_some();
        let user_id = self.user_id.map(String::into_boxed_str);
        Ok(Event { gateway, kind, payload, correlation, correlation_given, user_id })
    }
}

/// Publishes one event to the gateway in the path.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    // Before the body is parsed, which may be a megabyte.
    if !view.directory.knows(gateway) {
        return Err(no_such_gateway());
    }
    let draft: Draft<'_> = body::object(call.body)?;
    if draft.gateway()?.is_some_and(|named| named != gateway) {
        return Err(Response::error(400, "`gatewayId` differs from the gateway in the path"));
    }
    let wait = Wait::of(Query(call.query))?;
    let event = draft.into_event(gateway, view)?;
    Ok(publish(gateway, event, wait, view))
}

/// Asks the owner of a gateway to publish an event.
pub(super) fn publish(gateway: GatewayId, event: Event, wait: Wait, view: &View<'_>) -> Step {
    let ask = Ask::Shard(view.placement.of_gateway(gateway), wait.command(Command::publish(event)));
    Step::Ask(
        smallvec![ask],
        if wait.is_asked() { Pending::new(Waiting::<true>) } else { Pending::new(Waiting::<false>) },
    )
}

/// The response for an unknown gateway.
pub(super) fn no_such_gateway() -> Response {
    Response::error(404, NO_SUCH_GATEWAY)
}

/// The text for an unknown gateway, whether the API or its shard finds that out.
pub(super) const NO_SUCH_GATEWAY: &str = "there is no such gateway";

/// The response for an event that is kept, and whose deliveries are decided or were waited for.
fn published(outcome: &PublishOutcome, view: &View<'_>) -> Response {
    let mut body = view.buffers.take();
    body.reserve(256);
    body.push(b'{');
    outcome::append_members(outcome, &mut body);
    body.push(b'}');
    Response { reuses: true, ..Response::json_text(body) }
}

/// The response for an event whose shard did not answer.
fn unanswered(why: Unanswered) -> Response {
    match why.kept() {
        Some(kept) => not_done(why.description(), kept),
        None => why.into(),
    }
}

/// The response for an event that the log did not keep, or of which it cannot tell.
fn not_kept(not: NotKept) -> Response {
    not_done(&not_kept_text(not), not.kept)
}

/// What is wrong, and what became of the event.
pub(super) fn not_kept_text(NotKept { kept, why }: NotKept) -> String {
    match kept {
        Kept::No => format!("{why}: the event was not kept; try again"),
        Kept::Unknown => format!("{why}: the event may have been kept, and is delivered then"),
    }
}

/// A call that waits for the shard that owns the gateway; with `WAITS`, for the gateway to process the event. It has no
/// fields, so that its box needs no memory.
#[derive(Debug)]
struct Waiting<const WAITS: bool>;

impl<const WAITS: bool> Continuation for Waiting<WAITS> {
    fn waits(&self) -> bool {
        WAITS
    }

    fn handle_answers(self: Box<Self>, answers: Answers, view: &View<'_>) -> Handled {
        match only(answers)?.shard().map_err(unanswered)? {
            Reply::Published(Published::Outcome(outcome)) => Ok(Step::Respond(published(&outcome, view))),
            Reply::Published(Published::NoSuchGateway) => Err(no_such_gateway()),
            Reply::Published(Published::NotKept(why)) => Err(not_kept(why)),
            _ => Err(Unanswered::Mismatched.into()),
        }
    }
}
