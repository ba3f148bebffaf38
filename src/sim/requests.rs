//! Writes the HTTP requests of platforms as bytes, and records each in the ledger.

use super::{
    ledger::{BatchLine, CallKind, Event, Ledger},
    rng::Rng,
    roster::Roster,
};
use crate::model::{DeliveryMode, Instant, KeyHash};
use std::time::Duration;
use uuid::Uuid;

/// The admin token of every simulated hub.
pub(super) const ADMIN: &str = "the-admin-token-of-this-world";

/// A planned HTTP request: with the admin token, or a manifest with a gateway's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// Publishes one event of at most `size` bytes.
    Publish {
        gateway: usize,
        size: usize,
    },
    /// Publishes `count` events of at most `size` bytes each, to one gateway or to gateways drawn at random.
    Batch {
        count: usize,
        size: usize,
        gateway: Option<usize>,
    },
    /// Deploys a revision to every gateway.
    Deploy,
    /// GET of a path.
    Get(&'static str),
    /// GET of one gateway.
    GetGateway(usize),
    /// One of the publishes above, which waits this number of milliseconds for the processing of its events.
    PublishAndWait {
        gateway: usize,
        size: usize,
        millis: u64,
    },
    BatchAndWait {
        count: usize,
        size: usize,
        millis: u64,
    },
    DeployAndWait {
        millis: u64,
    },
    /// Changes the delivery of a gateway.
    Change(usize, Option<DeliveryMode>),
    CreateGateway(usize),
    CreateToken(usize),
    Revoke(usize),
    Delete(usize),
    /// Posts a gateway's manifest of `size` bytes with its key.
    Manifest {
        key: usize,
        size: usize,
    },
}

/// The bytes of a request, which is recorded in the ledger as sent by `conn`.
pub(super) fn write(
    request: Request,
    conn: usize,
    now: Instant,
    roster: &mut Roster,
    ledger: &mut Ledger,
    rng: &mut Rng,
) -> Vec<u8> {
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    let (request, wait) = without_wait(request);
    let query = wait.map_or(String::new(), |millis| format!("wait={millis}ms&until=processed"));
    let bytes = match request {
        Request::Publish { gateway, size } => {
            let event = draft(gateway, size, roster, ledger, rng);
            let body = body_of(&ledger.events[event], false);
            ledger.begin(conn, now, CallKind::Publish(event));
            post(&format!("/api/v1/gateways/{}/events?{query}", roster.gateways[gateway].id), &admin, &body)
        }
        Request::Batch { count, size, gateway } => {
            let mut lines = Vec::new();
            let mut body = Vec::new();
            for _ in 0..count {
                if rng.chance(30) {
                    lines.push(BatchLine::Bad);
                    body.extend_from_slice(b"{\"gatewayId\":17}\n");
                    continue;
                }
                let to = gateway.unwrap_or_else(|| rng.below(roster.gateways.len() as u64) as usize);
                let event = draft(to, size, roster, ledger, rng);
                body.extend(body_of(&ledger.events[event], true));
                body.push(b'\n');
                lines.push(BatchLine::Event(event));
            }
            ledger.begin(conn, now, CallKind::Batch(lines));
            post(&format!("/api/v1/events?{query}"), &admin, &body)
        }
        Request::Deploy => deploy(&query, conn, now, roster, ledger, rng),
        Request::Get(path) => {
            let kind = match path {
                "/api/internal/v1/stats" => CallKind::Stats,
                "/ready" => CallKind::Ready,
                // The list of gateways comes from the store.
                "/api/v1/gateways" => CallKind::StoreRead,
                _ => CallKind::Get,
            };
            ledger.begin(conn, now, kind);
            format!("GET {path} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n").into_bytes()
        }
        Request::GetGateway(gateway) => {
            ledger.begin(conn, now, CallKind::StoreRead);
            let id = roster.gateways[gateway].id;
            format!("GET /api/v1/gateways/{id} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n").into_bytes()
        }
        Request::Manifest { key, size } => {
            ledger.begin(conn, now, CallKind::Manifest(key));
            let entry = &roster.keys[key];
            let body = format!("{{\"apis\":\"{}\"}}", "m".repeat(size));
            let path = format!("/api/internal/v1/gateways/{}/manifest", roster.gateways[entry.gateway].id);
            post(&path, &format!("api-key: {}\r\n", entry.secret), body.as_bytes())
        }
        change => write_change(change, conn, now, roster, ledger),
    };
    if let Some(millis) = wait {
        ledger.waits(Duration::from_millis(millis));
    }
    bytes
}

/// A request as it is without the wait, and the milliseconds of the wait.
fn without_wait(request: Request) -> (Request, Option<u64>) {
    match request {
        Request::PublishAndWait { gateway, size, millis } => (Request::Publish { gateway, size }, Some(millis)),
        Request::BatchAndWait { count, size, millis } => (Request::Batch { count, size, gateway: None }, Some(millis)),
        Request::DeployAndWait { millis } => (Request::Deploy, Some(millis)),
        other => (other, None),
    }
}

fn write_change(request: Request, conn: usize, now: Instant, roster: &mut Roster, ledger: &mut Ledger) -> Vec<u8> {
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    match request {
        Request::CreateGateway(gateway) => {
            ledger.begin(conn, now, CallKind::CreateGateway(gateway));
            let entry = &roster.gateways[gateway];
            let delivery = entry.delivery.map(|mode| format!(r#","delivery":"{}""#, mode.as_str())).unwrap_or_default();
            let body = format!(r#"{{"name":"later {gateway}","id":"{}"{delivery}}}"#, entry.id);
            post("/api/v1/gateways", &admin, body.as_bytes())
        }
        Request::CreateToken(key) => {
            ledger.begin(conn, now, CallKind::CreateToken(key));
            let entry = &roster.keys[key];
            let hash: String = hex(entry.hash);
            let path = format!("/api/v1/gateways/{}/tokens", roster.gateways[entry.gateway].id);
            post(&path, &admin, format!(r#"{{"sha256":"{hash}"}}"#).as_bytes())
        }
        Request::Revoke(key) => {
            ledger.begin(conn, now, CallKind::Revoke(key));
            let entry = &mut roster.keys[key];
            entry.revocation.begun.get_or_insert(now);
            let path = format!("/api/v1/gateways/{}/tokens/{}", roster.gateways[entry.gateway].id, entry.token);
            format!("DELETE {path} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n").into_bytes()
        }
        Request::Delete(gateway) => {
            ledger.begin(conn, now, CallKind::Delete(gateway));
            let entry = &mut roster.gateways[gateway];
            entry.deletion.begun.get_or_insert(now);
            format!("DELETE /api/v1/gateways/{} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n", entry.id).into_bytes()
        }
        Request::Change(gateway, delivery) => {
            ledger.begin(conn, now, CallKind::Change(gateway, delivery));
            let entry = &mut roster.gateways[gateway];
            entry.begin_change();
            let word = delivery.map_or("null".to_owned(), |mode| format!("\"{}\"", mode.as_str()));
            let body = format!(r#"{{"delivery":{word}}}"#);
            let head = format!("PATCH /api/v1/gateways/{} HTTP/1.1\r\nHost: hub\r\n{admin}", entry.id);
            format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
        other => panic!("{other:?} is not a change"),
    }
}

fn post(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nHost: hub\r\n{fields}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn deploy(query: &str, conn: usize, now: Instant, roster: &Roster, ledger: &mut Ledger, rng: &mut Rng) -> Vec<u8> {
    let api = rng.uuid();
    let mut events = Vec::new();
    let mut targets = Vec::new();
    for (gateway, entry) in roster.gateways.iter().enumerate() {
        let host = format!("v{}.example", ledger.events.len());
        let payload = format!(
            r#"{{"apiUuid":"{api}","revisionId":"r1","vhost":"{host}","environment":"production","apiId":"{api}","deploymentId":"r1"}}"#
        );
        let event = Event::new(gateway, entry.id, "api.deployed", payload.into_bytes(), None, None);
        events.push(ledger.add(event));
        targets.push(format!(r#"{{"gatewayId":"{}","vhost":"{host}"}}"#, entry.id));
    }
    ledger.begin(conn, now, CallKind::Deploy(events));
    let body = format!("[{}]", targets.join(","));
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    post(&format!("/api/v1/apis/{api}/deploy-revision?revisionId=r1&{query}"), &admin, body.as_bytes())
}

/// Adds an event with a unique payload, by which the oracle recognizes it on the wire.
fn draft(gateway: usize, size: usize, roster: &Roster, ledger: &mut Ledger, rng: &mut Rng) -> usize {
    debug_assert!(gateway < roster.gateways.len());
    let most = if rng.chance(300) { size } else { size.min(200) };
    let length = rng.below(most as u64 + 1) as usize;
    // The offset is written into the payload again and again, so that a repeated or misplaced piece is noticed.
    let from = rng.below(36) as usize;
    let mut payload = format!("\"{}.", ledger.events.len()).into_bytes();
    payload.reserve(length + 80);
    while payload.len() <= length {
        payload.extend_from_slice(&LETTERS[from..]);
        payload.extend_from_slice(format!("{:x}", payload.len()).as_bytes());
    }
    payload.push(b'"');
    let user = rng.chance(200).then(|| "\u{fc}ser".to_owned());
    let kind = rng.pick(&["api.deployed", "api.undeployed", "x", "apikey.created", "subscription.updated"]);
    ledger.add(Event::new(gateway, roster.gateways[gateway].id, kind, payload, Some(rng.uuid()), user))
}

fn body_of(event: &Event, names_gateway: bool) -> Vec<u8> {
    let mut body = format!(r#"{{"type":"{}","payload":"#, event.kind).into_bytes();
    body.extend_from_slice(&event.payload);
    let correlation = event.correlation.unwrap_or(Uuid::nil());
    body.extend(format!(r#","correlationId":"{correlation}""#).bytes());
    if names_gateway {
        body.extend(format!(r#","gatewayId":"{}""#, event.id).bytes());
    }
    if let Some(user) = &event.user {
        body.extend(format!(r#","userId":"{user}""#).bytes());
    }
    body.push(b'}');
    body
}

fn hex(hash: KeyHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ";
