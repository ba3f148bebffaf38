//! What platforms ask over HTTP, as bytes, written down in the ledger as it is said.

use super::{
    ledger::{Asked, BatchLine, Fact, Ledger},
    rng::Rng,
    roster::Roster,
};
use crate::model::{Instant, KeyHash};
use uuid::Uuid;

/// The admin token of every simulated hub.
pub(super) const ADMIN: &str = "the-admin-token-of-this-world";

/// Something that a platform, or a gateway by its key, will ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// One event of at most so many bytes.
    Publish {
        gateway: usize,
        size: usize,
    },
    /// Many events, of at most so many bytes each; to one gateway, or to all in turn.
    Batch {
        count: usize,
        size: usize,
        gateway: Option<usize>,
    },
    /// A revision, to every gateway.
    Deploy,
    /// Something that only reads.
    Look(&'static str),
    /// One gateway's page.
    Show(usize),
    CreateGateway(usize),
    CreateToken(usize),
    Revoke(usize),
    Delete(usize),
    /// A gateway's manifest of so many bytes, with its key.
    Manifest {
        key: usize,
        size: usize,
    },
}

/// Writes the request; the ledger knows it from now on.
pub(super) fn write(
    ask: Ask,
    line: usize,
    now: Instant,
    roster: &mut Roster,
    ledger: &mut Ledger,
    rng: &mut Rng,
) -> Vec<u8> {
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    match ask {
        Ask::Publish { gateway, size } => {
            let fact = draft(gateway, size, roster, ledger, rng);
            let body = body_of(&ledger.facts[fact], false);
            ledger.begin(line, now, Asked::Publish(fact));
            post(&format!("/api/v1/gateways/{}/events", roster.gateways[gateway].id), &admin, &body)
        }
        Ask::Batch { count, size, gateway } => {
            let mut lines = Vec::new();
            let mut body = Vec::new();
            for _ in 0..count {
                if rng.chance(30) {
                    lines.push(BatchLine::Bad);
                    body.extend_from_slice(b"{\"gatewayId\":17}\n");
                    continue;
                }
                let to = gateway.unwrap_or_else(|| rng.below(roster.gateways.len() as u64) as usize);
                let fact = draft(to, size, roster, ledger, rng);
                body.extend(body_of(&ledger.facts[fact], true));
                body.push(b'\n');
                lines.push(BatchLine::Event(fact));
            }
            ledger.begin(line, now, Asked::Batch(lines));
            post("/api/v1/events", &admin, &body)
        }
        Ask::Deploy => deploy(line, now, roster, ledger, rng),
        Ask::Look(path) => {
            let asked = match path {
                "/api/internal/v1/stats" => Asked::Stats,
                "/ready" => Asked::Ready,
                // This one asks the store.
                "/api/v1/gateways" => Asked::Show,
                _ => Asked::Look,
            };
            ledger.begin(line, now, asked);
            format!("GET {path} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n").into_bytes()
        }
        Ask::Show(gateway) => {
            ledger.begin(line, now, Asked::Show);
            let id = roster.gateways[gateway].id;
            format!("GET /api/v1/gateways/{id} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n").into_bytes()
        }
        Ask::Manifest { key, size } => {
            ledger.begin(line, now, Asked::Manifest(key));
            let entry = &roster.keys[key];
            let body = format!("{{\"apis\":\"{}\"}}", "m".repeat(size));
            let path = format!("/api/internal/v1/gateways/{}/manifest", roster.gateways[entry.gateway].id);
            post(&path, &format!("api-key: {}\r\n", entry.secret), body.as_bytes())
        }
        change => write_change(change, line, now, roster, ledger),
    }
}

fn write_change(ask: Ask, line: usize, now: Instant, roster: &mut Roster, ledger: &mut Ledger) -> Vec<u8> {
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    match ask {
        Ask::CreateGateway(gateway) => {
            ledger.begin(line, now, Asked::CreateGateway(gateway));
            let body = format!(r#"{{"name":"later {gateway}","id":"{}"}}"#, roster.gateways[gateway].id);
            post("/api/v1/gateways", &admin, body.as_bytes())
        }
        Ask::CreateToken(key) => {
            ledger.begin(line, now, Asked::CreateToken(key));
            let entry = &roster.keys[key];
            let hash: String = hex(entry.hash);
            let path = format!("/api/v1/gateways/{}/tokens", roster.gateways[entry.gateway].id);
            post(&path, &admin, format!(r#"{{"sha256":"{hash}"}}"#).as_bytes())
        }
        Ask::Revoke(key) => {
            ledger.begin(line, now, Asked::Revoke(key));
            let entry = &mut roster.keys[key];
            entry.revocation.begun.get_or_insert(now);
            let path = format!("/api/v1/gateways/{}/tokens/{}", roster.gateways[entry.gateway].id, entry.token);
            format!("DELETE {path} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n").into_bytes()
        }
        Ask::Delete(gateway) => {
            ledger.begin(line, now, Asked::Delete(gateway));
            let entry = &mut roster.gateways[gateway];
            entry.deletion.begun.get_or_insert(now);
            format!("DELETE /api/v1/gateways/{} HTTP/1.1\r\nHost: hub\r\n{admin}\r\n", entry.id).into_bytes()
        }
        other => panic!("{other:?} changes nothing"),
    }
}

fn post(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nHost: hub\r\n{fields}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn deploy(line: usize, now: Instant, roster: &Roster, ledger: &mut Ledger, rng: &mut Rng) -> Vec<u8> {
    let api = rng.uuid();
    let mut facts = Vec::new();
    let mut targets = Vec::new();
    for (gateway, entry) in roster.gateways.iter().enumerate() {
        let host = format!("v{}.example", ledger.facts.len());
        let payload = format!(
            r#"{{"apiUuid":"{api}","revisionId":"r1","vhost":"{host}","environment":"production","apiId":"{api}","deploymentId":"r1"}}"#
        );
        let fact = Fact::new(gateway, entry.id, "api.deployed", payload.into_bytes(), None, None);
        facts.push(ledger.add(fact));
        targets.push(format!(r#"{{"gatewayId":"{}","vhost":"{host}"}}"#, entry.id));
    }
    ledger.begin(line, now, Asked::Deploy(facts));
    let body = format!("[{}]", targets.join(","));
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    post(&format!("/api/v1/apis/{api}/deploy-revision?revisionId=r1"), &admin, body.as_bytes())
}

/// A new event, whose payload is like no other's.
fn draft(gateway: usize, size: usize, roster: &Roster, ledger: &mut Ledger, rng: &mut Rng) -> usize {
    debug_assert!(gateway < roster.gateways.len());
    let most = if rng.chance(300) { size } else { size.min(200) };
    let length = rng.below(most as u64 + 1) as usize;
    // Each byte depends on its place, so that no two pieces of a payload are the same.
    let from = rng.below(36) as usize;
    let mut payload = format!("\"{}.", ledger.facts.len()).into_bytes();
    payload.reserve(length + 80);
    while payload.len() <= length {
        payload.extend_from_slice(&LETTERS[from..]);
        payload.extend_from_slice(format!("{:x}", payload.len()).as_bytes());
    }
    payload.push(b'"');
    let user = rng.chance(200).then(|| "\u{fc}ser".to_owned());
    let kind = rng.pick(&["api.deployed", "api.undeployed", "x"]);
    ledger.add(Fact::new(gateway, roster.gateways[gateway].id, kind, payload, Some(rng.uuid()), user))
}

fn body_of(fact: &Fact, names_gateway: bool) -> Vec<u8> {
    let mut body = format!(r#"{{"type":"{}","payload":"#, fact.kind).into_bytes();
    body.extend_from_slice(&fact.payload);
    let correlation = fact.correlation.unwrap_or(Uuid::nil());
    body.extend(format!(r#","correlationId":"{correlation}""#).bytes());
    if names_gateway {
        body.extend(format!(r#","gatewayId":"{}""#, fact.id).bytes());
    }
    if let Some(user) = &fact.user {
        body.extend(format!(r#","userId":"{user}""#).bytes());
    }
    body.push(b'}');
    body
}

fn hex(hash: KeyHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ";
