//! A gateway's manifest: `POST /api/internal/v1/gateways/{gatewayId}/manifest`, which gateways call after connecting.

use super::{
    answer::{Unanswered, only},
    auth, body,
    call::{Answer, Ask, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
};
use crate::{
    model::{StoreOp, StoreOutcome},
    wire::http::Response,
};
use serde::de::IgnoredAny;

/// Keeps the latest manifest. The route table has checked that the key is this gateway's.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    let manifest = body::text(call.body)?;
    body::parse_object::<IgnoredAny>(manifest).map_err(|what| Response::error(400, &what))?;
    let op = StoreOp::PutManifest { gateway, manifest: manifest.to_owned(), received_at: view.now.wall };
    Ok(Step::Ask(vec![Ask::Store(op)], Pending::new(Waiting)))
}

/// The store has the manifest.
#[derive(Debug)]
struct Waiting;

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Vec<Answer>, _: &View<'_>) -> Handled {
        match only(answers)?.change() {
            Ok(StoreOutcome::Done) => Ok(Step::Respond(Response::empty(204))),
            Ok(_) => Err(Unanswered::Mismatched.into()),
            // A gateway takes 404 as a sign of another product. One whose record is gone has lost its key as well.
            Err(refusal) if refusal.status == 404 => Err(auth::not_this_gateway()),
            Err(refusal) => Err(refusal),
        }
    }
}
