//! The route table: what can be called, by whom, when, and with how large a body (contract section 2).

use super::{
    auth, batch, body,
    call::{Call, Handled, Phase, Step, View},
    deploy, gateways, health, manifest, metrics,
    params::Params,
    publish, stats, tokens,
};
use crate::{
    limits,
    model::{GatewayId, Side},
    wire::http::Response,
};
use std::fmt;

/// Where gateways connect (contract section 1).
pub const CONNECT_PATH: &str = "/api/internal/v1/ws/gateways/connect";

/// One row of the table.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    /// What a path of this row begins with, and how many slashes it has: most rows are left out by these alone.
    prefix: &'static str,
    slashes: usize,
    side: Side,
    auth: Auth,
    when: When,
    /// The largest body that is read for it.
    pub body_bytes_max: usize,
    target: Target,
}

/// Answers a call.
pub(super) type Handler = fn(&Call<'_>, &View<'_>, Params<'_>) -> Handled;

/// What a request of a row becomes.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A call, answered over HTTP.
    Call(Handler),
    /// A gateway's connection over WebSocket, which checks method and key itself.
    WebSocket,
}

/// Who may call.
#[derive(Clone, Copy)]
enum Auth {
    Anyone,
    Admin,
    /// The gateway that the path names, by its key.
    Gateway,
}

/// In which phases a call is served.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// What only reads: not before all shards are there.
    Started,
    /// What changes or publishes: not while the hub goes away, either.
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
    route("DELETE", "/api/v1/gateways/{}",                   Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(gateways::handle_delete)),
    route("GET",    "/api/v1/gateways/{}/tokens",            Side::Platform, Auth::Admin,   When::Started, 0, Target::Call(tokens::handle_list)),
    route("POST",   "/api/v1/gateways/{}/tokens",            Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(tokens::handle_create)),
    route("DELETE", "/api/v1/gateways/{}/tokens/{}",         Side::Platform, Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, Target::Call(tokens::handle_revoke)),
    route("POST",   "/api/v1/gateways/{}/events",            Side::Platform, Auth::Admin,   When::Ready,   limits::PUBLISH_BODY_BYTES_MAX, Target::Call(publish::handle)),
    route("POST",   "/api/v1/events",                        Side::Platform, Auth::Admin,   When::Ready,   limits::BATCH_BODY_BYTES_MAX, Target::Call(batch::handle)),
    route("POST",   "/api/v1/apis/{}/deploy-revision",       Side::Platform, Auth::Admin,   When::Ready,   limits::DEPLOY_BODY_BYTES_MAX, Target::Call(deploy::handle)),
    // `GET /internal/gateway/.well-known` must stay unknown: a 200 makes a gateway believe in another product.
];

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

/// A call that was let in: its row, and what it was let in by, so that the body's end need not ask again.
#[derive(Clone, Copy, Debug)]
pub struct Matched {
    route: &'static Route,
    handler: Handler,
    /// The directory's version and the phase under which the caller was let in.
    version: u64,
    phase: Phase,
    /// Whose key let the caller in; `None` for the platform, and where no key was asked for.
    gateway: Option<GatewayId>,
}

impl Matched {
    /// The gateway that calls.
    pub fn gateway(&self) -> Option<GatewayId> {
        self.gateway
    }

    /// Whether the caller has shown a key or the admin token.
    pub fn is_authenticated(&self) -> bool {
        !matches!(self.route.auth, Auth::Anyone)
    }

    /// The largest body that is read for the call.
    pub fn body_bytes_max(&self) -> usize {
        self.route.body_bytes_max
    }
}

/// What a request becomes.
#[derive(Debug)]
pub enum Routed {
    /// A call of the platform or of a gateway.
    Call(Matched),
    /// A gateway's connection.
    WebSocket,
}

/// Decides from the head alone what a request becomes, whether the caller may make it, and how many bytes of body are to
/// be read for it. `call.body` is not looked at. Nobody who is not let in can make the hub read a large body.
///
/// # Errors
/// The answer to give at once: 404, 405 with `Allow`, 401, or 503 while the hub starts or drains.
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

/// Answers a call that [`route_request`] has let in, or says what must be asked first.
pub fn handle(matched: &Matched, call: &Call<'_>, view: &View<'_>) -> Step {
    let (handler, params) = match resume(matched, call, view) {
        Ok(resumed) => resumed,
        Err(refusal) => return Step::Respond(refusal),
    };
    if call.body.len() > matched.body_bytes_max() {
        return Step::Respond(body::too_large(matched.body_bytes_max()));
    }
    handler(call, view, params).unwrap_or_else(Step::Respond)
}

/// The handler and the parameters of a call that was let in, once its body is there. Keys and phase are looked at again
/// only where they may have changed meanwhile.
fn resume<'a>(matched: &Matched, call: &Call<'a>, view: &View<'_>) -> Result<(Handler, Params<'a>), Response> {
    let params = params_of(matched.route.path, call.path).unwrap_or_default();
    if (matched.version, matched.phase) != (view.directory.version(), view.phase) {
        admit(matched.route, params, call, view)?;
    }
    Ok((matched.handler, params))
}

/// Lets the caller pass, or says why not.
fn admit(route: &Route, params: Params<'_>, call: &Call<'_>, view: &View<'_>) -> Result<(), Response> {
    match route.auth {
        Auth::Anyone => check_phase(route.when, view.phase),
        Auth::Admin => {
            auth::check_admin(call, view)?;
            check_phase(route.when, view.phase)?;
            check_idempotency_key(route, call)
        }
        Auth::Gateway => {
            // The phase comes first: a hub that has not read its keys yet must not call a good one bad, for a gateway
            // takes 401 as final.
            check_phase(route.when, view.phase)?;
            auth::check_key(call, view, GatewayId::parse(params.first))
        }
    }
}

fn find<'a>(method: &str, path: &'a str, side: Side) -> Result<(&'static Route, Params<'a>), Response> {
    let wanted = if method == "HEAD" { "GET" } else { method };
    let mut allowed = Vec::new();
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    let candidates = ROUTES.iter().filter(|route| route.slashes == slashes && path.starts_with(route.prefix));
    for route in candidates.filter(|route| side.serves(route.side)) {
        let Some(params) = params_of(route.path, path) else { continue };
        if route.method == wanted || route.method == "*" {
            return Ok((route, params));
        }
        allowed.push(if route.method == "GET" { "GET, HEAD" } else { route.method });
    }
    if allowed.is_empty() {
        return Err(Response::error(404, "no such endpoint"));
    }
    Err(Response::error(405, "this method is not allowed here").with("Allow", allowed.join(", ")))
}

/// Compares segment by segment, with no decoding and no folding: `//`, `..` and `%2f` are no route's.
fn params_of<'a>(pattern: &str, path: &'a str) -> Option<Params<'a>> {
    let mut params = Params::default();
    let mut free = [&mut params.first, &mut params.second].into_iter();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{}" && !segment.is_empty() {
            *free.next()? = segment;
        } else if expected != segment {
            return None;
        }
    }
    drop(free);
    segments.next().is_none().then_some(params)
}

fn check_phase(when: When, phase: Phase) -> Result<(), Response> {
    match (when, phase) {
        (When::Always, _) | (_, Phase::Ready) | (When::Started, Phase::Draining) => Ok(()),
        (_, Phase::Starting) => Err(health::starting()),
        (When::Ready, Phase::Draining) => Err(health::draining()),
    }
}

/// Refuses a call that changes something and carries an `Idempotency-Key`: whoever sends one repeats the call after a timeout and
/// relies on it being carried out once, which the hub cannot promise yet.
fn check_idempotency_key(route: &Route, call: &Call<'_>) -> Result<(), Response> {
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
