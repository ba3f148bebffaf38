//! The route table: each call with its caller, its phases, and the maximum size of its body (contract section 2).

use super::{
    auth, batch, body,
    call::{Call, Handled, Phase, Step, View},
    deploy, events, gateways, health, manifest, metrics,
    params::Params,
    publish, resend, stats, tokens,
};
use crate::{
    limits,
    model::{GatewayId, Side},
    wire::http::Response,
};
use std::fmt;

/// The path at which gateways connect (contract section 1).
pub const CONNECT_PATH: &str = "/api/internal/v1/ws/gateways/connect";

/// One row of the route table.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    /// The path up to its first parameter, and its number of slashes. Most rows are excluded by these alone.
    prefix: &'static str,
    slashes: usize,
    side: Side,
    auth: Auth,
    when: When,
    /// Maximum bytes of the body.
    pub body_bytes_max: usize,
    target: Target,
}

/// The function that handles a call.
pub(super) type Handler = fn(&Call<'_>, &View<'_>, Params<'_>) -> Handled;

/// The kind of a route.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// An HTTP call.
    Call(Handler),
    /// A gateway's WebSocket connection. The session checks method and key.
    WebSocket,
}

/// The caller that a route requires.
#[derive(Clone, Copy)]
enum Auth {
    Anyone,
    Admin,
    /// The gateway in the path, by its key.
    Gateway,
}

/// The phases in which a call is served.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// Ready and draining: for calls that only read.
    Started,
    /// Ready only: for calls that change or publish something.
    Ready,
}

#[rustfmt::skip]
const ROUTES: &[Route] = &[
    route("*",      CONNECT_PATH,                            Side::Gateways, Auth::Anyone,  When::Always,  0, Target::WebSocket),
    route("GET",    "/health",                               Side::Both,     Auth::Anyone,  When::Always,  0, Target::Call(health::handle_health)),
    route("GET",    "/ready",                                Side::Both,     Auth::Anyone,  When::Always,  0, Target::Call(health::handle_ready)),
    route("GET",    "/metrics",                              Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(metrics::handle)),
    route("GET",    "/api/internal/v1/stats",                Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(stats::handle)),
    route("POST",   "/api/internal/v1/gateways/{}/manifest", Side::Both,     Auth::Gateway, When::Ready,   limits::MANIFEST_BYTES_MAX, Target::Call(manifest::handle)),
    route("GET",    "/api/v1/gateways",                      Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(gateways::handle_list)),
    route("POST",   "/api/v1/gateways",                      Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(gateways::handle_create)),
    route("GET",    "/api/v1/gateways/{}",                   Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(gateways::handle_one)),
    route("PATCH",  "/api/v1/gateways/{}",                   Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(gateways::handle_change)),
    route("DELETE", "/api/v1/gateways/{}",                   Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(gateways::handle_delete)),
    route("GET",    "/api/v1/gateways/{}/tokens",            Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(tokens::handle_list)),
    route("POST",   "/api/v1/gateways/{}/tokens",            Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(tokens::handle_create)),
    route("DELETE", "/api/v1/gateways/{}/tokens/{}",         Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(tokens::handle_revoke)),
    route("GET",    "/api/v1/gateways/{}/events",            Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(events::handle)),
    route("POST",   "/api/v1/gateways/{}/events",            Side::Platform, Auth::Admin,   When::Ready,   limits::PUBLISH_BODY_BYTES_MAX, Target::Call(publish::handle)),
    route("POST",   "/api/v1/gateways/{}/events/{}/resend",  Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(resend::handle)),
    route("POST",   "/api/v1/events",                        Side::Platform, Auth::Admin,   When::Ready,   limits::BATCH_BODY_BYTES_MAX, Target::Call(batch::handle)),
    route("POST",   "/api/v1/apis/{}/deploy-revision",       Side::Platform, Auth::Admin,   When::Ready,   limits::DEPLOY_BODY_BYTES_MAX, Target::Call(deploy::handle)),
    // `GET /internal/gateway/.well-known` must stay 404: by a 200 a gateway takes the hub for another product.
];

/// Makes a row. `prefix` and `slashes` are computed by the compiler.
const fn route(
    method: &'static str,
    path: &'static str,
    side: Side,
    auth: Auth,
    when: When,
    body_bytes_max: usize,
    target: Target,
) -> Route {
    let bytes = path.as_bytes();
    let (mut slashes, mut literal, mut at) = (0, bytes.len(), 0);
    while at < bytes.len() {
        if bytes[at] == b'/' {
            slashes += 1;
        } else if bytes[at] == b'{' && literal > at {
            literal = at;
        }
        at += 1;
    }
    let prefix = path.split_at(literal).0;
    Route { method, path, prefix, slashes, side, auth, when, body_bytes_max, target }
}

/// A call whose head was routed and authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Matched {
    route: &'static Route,
    handler: Handler,
    /// The version of the directory and the phase when the caller was authenticated.
    version: u64,
    phase: Phase,
    /// The gateway that authenticated; `None` for the platform, and for calls without authentication.
    gateway: Option<GatewayId>,
}

impl Matched {
    /// The gateway that makes the call, if one does.
    pub fn gateway(&self) -> Option<GatewayId> {
        self.gateway
    }

    /// Whether the caller has authenticated, by a key or the admin token.
    pub fn is_authenticated(&self) -> bool {
        !matches!(self.route.auth, Auth::Anyone)
    }

    /// Maximum bytes of the body.
    pub fn body_bytes_max(&self) -> usize {
        self.route.body_bytes_max
    }
}

/// The result of routing a request.
#[derive(Debug)]
pub enum Routed {
    /// An HTTP call.
    Call(Matched),
    /// A gateway's WebSocket connection.
    WebSocket,
}

/// Routes and authenticates a request by its head alone; `call.body` is not read. So the hub receives a body only from
/// a caller that has authenticated.
///
/// # Errors
/// The response to send at once: 404, 405 with `Allow`, 401, or 503 while the hub is starting or draining.
pub fn route_request(call: &Call<'_>, side: Side, view: &View<'_>) -> Result<Routed, Response> {
    let (route, params) = find(call.method, call.path, side)?;
    match route.target {
        Target::WebSocket => Ok(Routed::WebSocket),
        Target::Call(handler) => {
            admit(route, params, call, view)?;
            let gateway = if let Auth::Gateway = route.auth { GatewayId::parse(params.first) } else { None };
            let (version, phase) = (view.directory.version(), view.phase);
            Ok(Routed::Call(Matched { route, handler, version, phase, gateway }))
        }
    }
}

/// Handles a call that [`route_request`] has admitted, once its body is complete.
pub fn handle(matched: &Matched, call: &Call<'_>, view: &View<'_>) -> Step {
    let (handler, params) = match resume(matched, call, view) {
        Ok(resumed) => resumed,
        Err(refusal) => return Step::Respond(refusal),
    };
    // The session has enforced this bound already. It is repeated for callers that have no session, such as tests.
    if call.body.len() > matched.body_bytes_max() {
        return Step::Respond(body::too_large(matched.body_bytes_max()));
    }
    handler(call, view, params).unwrap_or_else(Step::Respond)
}

/// The handler and the parameters of an admitted call.
fn resume<'a>(matched: &Matched, call: &Call<'a>, view: &View<'_>) -> Result<(Handler, Params<'a>), Response> {
    let params = params_of(matched.route, call.path).unwrap_or_default();
    // A body may take seconds to arrive, and the key may have been revoked meanwhile. The check costs a hash, so it is
    // repeated only if the directory or the phase has changed.
    if (matched.version, matched.phase) != (view.directory.version(), view.phase) {
        admit(matched.route, params, call, view)?;
    }
    Ok((matched.handler, params))
}

/// Checks the caller and the phase.
fn admit(route: &Route, params: Params<'_>, call: &Call<'_>, view: &View<'_>) -> Result<(), Response> {
    match route.auth {
        Auth::Anyone => check_phase(route.when, view.phase),
        Auth::Admin => {
            // The token first: what the hub is doing is not told to callers that have not authenticated.
            auth::check_admin(call, view)?;
            check_phase(route.when, view.phase)?;
            check_idempotency_key(route, call)
        }
        Auth::Gateway => {
            // The phase first: while the hub starts its directory is empty, and a gateway takes a 401 as final.
            check_phase(route.when, view.phase)?;
            auth::check_key(call, view, GatewayId::parse(params.first))?;
            check_idempotency_key(route, call)
        }
    }
}

fn find<'a>(method: &str, path: &'a str, side: Side) -> Result<(&'static Route, Params<'a>), Response> {
    // HEAD is allowed wherever GET is (RFC 9110 section 9.3.2); the session leaves the body out.
    let wanted = if method == "HEAD" { "GET" } else { method };
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    // A route of the other side is 404 like an unknown path: the gateways' address does not show that it exists.
    let candidates = || ROUTES.iter().filter(|route| route.slashes == slashes && side.serves(route.side));
    let mut routes = candidates().filter(|route| route.method == wanted || route.method == "*");
    if let Some(found) = routes.find_map(|route| Some((route, params_of(route, path)?))) {
        return Ok(found);
    }
    let others = candidates().filter(|route| params_of(route, path).is_some());
    let allowed: Vec<_> = others.map(|route| if route.method == "GET" { "GET, HEAD" } else { route.method }).collect();
    if allowed.is_empty() {
        return Err(Response::error(404, "no such endpoint"));
    }
    Err(Response::error(405, "this endpoint does not allow this method").with("Allow", allowed.join(", ")))
}

/// The parameters of `path` if it matches the route's.
fn params_of<'a>(route: &Route, path: &'a str) -> Option<Params<'a>> {
    // Without decoding or normalizing: a proxy in front that decides by the path must not see another path than the hub. So `//`,
    // `..` and `%2f` match no route.
    let (mut rest, mut expected) = (path.strip_prefix(route.prefix)?, route.path.strip_prefix(route.prefix)?);
    let mut params = Params::default();
    let mut free = [&mut params.first, &mut params.second].into_iter();
    while let Some(behind) = expected.strip_prefix("{}") {
        let (segment, others) = split_before(rest, b'/');
        if segment.is_empty() {
            return None;
        }
        *free.next()? = segment;
        let (literal, next) = split_before(behind, b'{');
        (rest, expected) = (others.strip_prefix(literal)?, next);
    }
    drop(free);
    (rest == expected).then_some(params)
}

/// The text in front of the first of these ASCII characters, and the rest with it.
fn split_before(text: &str, byte: u8) -> (&str, &str) {
    text.split_at(text.bytes().position(|it| it == byte).unwrap_or(text.len()))
}

fn check_phase(when: When, phase: Phase) -> Result<(), Response> {
    match (when, phase) {
        (When::Always, _) | (_, Phase::Ready) | (When::Started, Phase::Draining) => Ok(()),
        (_, Phase::Starting) => Err(health::starting()),
        (When::Ready, Phase::Draining) => Err(health::draining()),
    }
}

/// Refuses a call that changes something and has an `Idempotency-Key`.
fn check_idempotency_key(route: &Route, call: &Call<'_>) -> Result<(), Response> {
    // A client that sends the key repeats the call after a timeout, and relies on it being carried out once. The hub
    // does not support that yet, and ignoring the key would carry it out twice.
    if matches!(route.when, When::Ready) && call.idempotency_key {
        let why = "`Idempotency-Key` is not supported yet and nothing was done; send the call without it";
        return Err(Response::error(400, why));
    }
    Ok(())
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
