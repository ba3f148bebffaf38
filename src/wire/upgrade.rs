//! The WebSocket upgrade: checks a request, answers 101 (RFC 6455 section 4.2).
//!
//! Subprotocols and extensions are not looked at: none is spoken, and a 101 that names none declines them.

use super::http::{Framing, Head, Method, Response, Version};
use base64::{Engine, prelude::BASE64_STANDARD};
use tungstenite::handshake::derive_accept_key;

/// An upgrade that may be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
}

/// Checks all that the head says about the upgrade. Who asks is not looked at.
///
/// # Errors
/// The answer; it closes, because a peer that was told no has no other use for this connection.
pub fn check(head: &Head, origins: &[String]) -> Result<Upgrade, Response> {
    if head.method != Method::Get {
        return Err(refuse(405, "The upgrade is a GET.").with("Allow", "GET"));
    }
    if head.version == Version::Http10 {
        return Err(refuse(400, "HTTP/1.0 has no upgrade."));
    }
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(refuse(400, "The upgrade has no body."));
    }
    if !head.has_token("upgrade", "websocket") {
        return Err(upgrade_required("This path speaks WebSocket."));
    }
    if !head.has_token("connection", "upgrade") {
        return Err(refuse(400, "Connection does not name Upgrade."));
    }
    if head.only_field("sec-websocket-version") != Some(b"13") {
        return Err(upgrade_required("The only WebSocket version here is 13."));
    }
    let Some(key) = head.only_field("sec-websocket-key").filter(|key| is_key(key)) else {
        return Err(refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64."));
    };
    if !head.fields("origin").all(|origin| is_allowed(origin, origins)) {
        return Err(refuse(403, "This origin may not connect."));
    }
    Ok(Upgrade { accept: derive_accept_key(key) })
}

impl Upgrade {
    /// Appends the 101. Frames follow.
    pub fn response_101(&self, out: &mut Vec<u8>) {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ";
        for part in [head, &self.accept, "\r\n\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

fn refuse(status: u16, description: &str) -> Response {
    Response::error(status, description).closing()
}

/// What is spoken here, for a peer that could speak it as well (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
fn upgrade_required(description: &str) -> Response {
    refuse(426, description)
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Version", "13")
}

/// 16 bytes are 24 characters; longer text is not worth decoding.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// An origin is a scheme, a host and a port, and case counts in none of them (RFC 6454 section 4).
fn is_allowed(origin: &[u8], origins: &[String]) -> bool {
    origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
}
