//! Whether the hub lives, and whether it takes connections.

use super::{
    call::{Call, Handled, Phase, Step, View},
    params::Params,
};
use crate::wire::http::Response;
use serde::Serialize;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// Alive: who can read this is.
pub(super) fn handle_health(_: &Call<'_>, _: &View<'_>, _: Params<'_>) -> Handled {
    Ok(Step::Respond(Response::json(200, &Health { status: "alive" })))
}

/// Ready to take connections, or 503. A hub whose store cannot write takes them too, and says that it is degraded.
pub(super) fn handle_ready(_: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    Ok(Step::Respond(match view.phase {
        Phase::Starting => starting(),
        Phase::Ready => Response::json(200, &Health { status: if view.degraded { "degraded" } else { "ready" } }),
        Phase::Draining => draining(),
    }))
}

/// The answer while not all workers are up.
pub(super) fn starting() -> Response {
    Response::error(503, "the hub is starting").with("Retry-After", "1")
}

/// The answer while the hub goes away.
pub(super) fn draining() -> Response {
    Response::error(503, "the hub is draining").with("Retry-After", "5")
}
