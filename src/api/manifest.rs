//! A gateway's manifest: `POST /api/internal/v1/gateways/{gatewayId}/manifest`, which gateways call after connecting.

use super::{
    answer::{Unanswered, only},
    auth, body,
    call::{Answers, Ask, Call, Continuation, Handled, Pending, Step, View},
    params::Params,
};
use crate::{
    model::{StoreOp, StoreOutcome},
    wire::http::Response,
};
use serde::de::IgnoredAny;
use smallvec::smallvec;

/// Stores the latest manifest. The route table has checked that the key is this gateway's.
pub(super) fn handle(call: &Call<'_>, view: &View<'_>, params: Params<'_>) -> Handled {
    let gateway = params.gateway()?;
    let manifest = body::text(call.body)?;
    body::parse_object::<IgnoredAny>(manifest).map_err(|what| Response::error(400, &what))?;
    // Stored as text, and never decoded: the platform gets it back byte for byte.
    let op = StoreOp::PutManifest { gateway, manifest: manifest.to_owned(), received_at: view.now.wall };
    Ok(Step::Ask(smallvec![Ask::Store(op)], Pending::new(Waiting)))
}

/// A call that waits for the store.
#[derive(Debug)]
struct Waiting;

impl Continuation for Waiting {
    fn handle_answers(self: Box<Self>, answers: Answers, _: &View<'_>) -> Handled {
        match only(answers)?.change() {
            Ok(StoreOutcome::Done) => Ok(Step::Respond(Response::empty(204))),
            Ok(_) => Err(Unanswered::Mismatched.into()),
            // A gateway takes 404 for another product's answer. If its record was deleted meanwhile, so was its key.
            Err(refusal) if refusal.status == 404 => Err(auth::gateway_key_required()),
            Err(refusal) => Err(refusal),
        }
    }
}
