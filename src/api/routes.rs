//! The route table: what can be called, by whom, when, and with how large a body (contract section 2).

use super::{
    Call, Handled, Phase, View, auth, batch, deploy, gateways, health, manifest, metrics, publish, stats, tokens,
};
use crate::{
    limits,
    model::{GatewayId, TokenId},
    wire::http::Response,
};
use std::fmt;

/// One row of the table.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    /// What a path of this row begins with, and how many slashes it has: most rows are left out by these alone.
    prefix: &'static str,
    slashes: usize,
    auth: Auth,
    when: When,
    /// The largest body that is read for it.
    pub body_bytes_max: usize,
    /// What answers it.
    pub handler: fn(&Call<'_>, &View<'_>, Params<'_>) -> Handled,
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
    route("GET",    "/health",                               Auth::Anyone,  When::Always,  0, health::handle_health),
    route("GET",    "/ready",                                Auth::Anyone,  When::Always,  0, health::handle_ready),
    route("GET",    "/metrics",                              Auth::Admin,   When::Started, 0, metrics::handle),
    route("GET",    "/api/internal/v1/stats",                Auth::Admin,   When::Started, 0, stats::handle),
    route("POST",   "/api/internal/v1/gateways/{}/manifest", Auth::Gateway, When::Ready,   limits::MANIFEST_BYTES_MAX, manifest::handle),
    route("GET",    "/api/v1/gateways",                      Auth::Admin,   When::Started, 0, gateways::handle_list),
    route("POST",   "/api/v1/gateways",                      Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, gateways::handle_create),
    route("GET",    "/api/v1/gateways/{}",                   Auth::Admin,   When::Started, 0, gateways::handle_one),
    route("DELETE", "/api/v1/gateways/{}",                   Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, gateways::handle_delete),
    route("GET",    "/api/v1/gateways/{}/tokens",            Auth::Admin,   When::Started, 0, tokens::handle_list),
    route("POST",   "/api/v1/gateways/{}/tokens",            Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, tokens::handle_create),
    route("DELETE", "/api/v1/gateways/{}/tokens/{}",         Auth::Admin,   When::Ready,   limits::BODY_BYTES_MAX, tokens::handle_revoke),
    route("POST",   "/api/v1/gateways/{}/events",            Auth::Admin,   When::Ready,   limits::PUBLISH_BODY_BYTES_MAX, publish::handle),
    route("POST",   "/api/v1/events",                        Auth::Admin,   When::Ready,   limits::BATCH_BODY_BYTES_MAX, batch::handle),
    route("POST",   "/api/v1/apis/{}/deploy-revision",       Auth::Admin,   When::Ready,   limits::DEPLOY_BODY_BYTES_MAX, deploy::handle),
    // `GET /internal/gateway/.well-known` must stay unknown: a 200 makes a gateway believe in another product. The
    // gateways' own endpoint is not here either: the session answers it before a call is made of it.
];

const fn route(
    method: &'static str,
    path: &'static str,
    auth: Auth,
    when: When,
    body_bytes_max: usize,
    handler: fn(&Call<'_>, &View<'_>, Params<'_>) -> Handled,
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
    Route { method, path, prefix, slashes, auth, when, body_bytes_max, handler }
}

/// The segments of the path that stood for `{}`, as they came.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Params<'a> {
    /// The first.
    pub first: &'a str,
    /// The second.
    pub second: &'a str,
}

impl Params<'_> {
    /// The gateway that the path names. What is no UUID names none.
    pub fn gateway(&self) -> Result<GatewayId, Response> {
        GatewayId::parse(self.first).ok_or_else(|| Response::error(404, "there is no such gateway"))
    }

    /// The token that the path names.
    pub fn token(&self) -> Result<TokenId, Response> {
        TokenId::parse(self.second).ok_or_else(|| Response::error(404, "there is no such token"))
    }
}

/// Finds the row for a call and lets the caller pass, or says why not.
pub(super) fn admit<'a>(call: &Call<'a>, view: &View<'_>) -> Result<(&'static Route, Params<'a>), Response> {
    let (route, params) = find(call.method, call.path)?;
    match route.auth {
        Auth::Anyone => check_phase(route.when, view.phase)?,
        Auth::Admin => {
            auth::check_admin(call, view)?;
            check_phase(route.when, view.phase)?;
        }
        Auth::Gateway => {
            // The phase comes first: a hub that has not read its keys yet must not call a good one bad, for a gateway
            // takes 401 as final.
            check_phase(route.when, view.phase)?;
            auth::check_key(call, view, GatewayId::parse(params.first))?;
        }
    }
    Ok((route, params))
}

fn find<'a>(method: &str, path: &'a str) -> Result<(&'static Route, Params<'a>), Response> {
    let wanted = if method == "HEAD" { "GET" } else { method };
    let mut allowed = Vec::new();
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    for route in ROUTES.iter().filter(|route| route.slashes == slashes && path.starts_with(route.prefix)) {
        let Some(params) = params_of(route.path, path) else { continue };
        if route.method == wanted {
            return Ok((route, params));
        }
        allowed.push(if route.method == "GET" { "GET, HEAD" } else { route.method });
    }
    if allowed.is_empty() {
        return Err(Response::error(404, "there is nothing here"));
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

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
