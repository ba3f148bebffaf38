//! `/health` and `/ready`: whether the process is alive, and whether the hub accepts connections.

use super::{
    call::{Call, Handled, Phase, Step, View},
    params::Params,
};
use crate::{model::ShardId, wire::http::Response};
use serde::Serialize;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// What does not work.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Always 200: a process that can answer is alive.
pub(super) fn handle_health(_: &Call<'_>, _: &View<'_>, _: Params<'_>) -> Handled {
    Ok(Step::Respond(Response::json(200, &Health { status: "alive", reason: String::new() })))
}

/// 200 if the hub accepts connections, otherwise 503.
pub(super) fn handle_ready(_: &Call<'_>, view: &View<'_>, _: Params<'_>) -> Handled {
    Ok(Step::Respond(match view.phase {
        Phase::Starting => starting(),
        Phase::Ready => view.stuck.map_or_else(|| ready(view), stuck),
        Phase::Draining => draining(),
    }))
}

fn ready(view: &View<'_>) -> Response {
    // A degraded hub is still ready. It serves gateways from memory, and a 503 would take it out of a load balancer.
    let store = if view.store_degraded { "the store cannot write" } else { "" };
    let log = view.log.health();
    let separator = if store.is_empty() || log.is_empty() { "" } else { "; " };
    let reason = format!("{store}{separator}{log}");
    Response::json(200, &Health { status: if reason.is_empty() { "ready" } else { "degraded" }, reason })
}

/// The response while a core does not run. Connections that the kernel assigns to it are not served, so the hub is not
/// ready.
fn stuck(shard: ShardId) -> Response {
    Response::error(503, &format!("core {shard} is stuck")).with("Retry-After", "1")
}

/// The response while not all cores are running.
pub(super) fn starting() -> Response {
    Response::error(503, "the hub is starting").with("Retry-After", "1")
}

/// The response while the hub is shutting down.
pub(super) fn draining() -> Response {
    Response::error(503, "the hub is draining").with("Retry-After", "5")
}
