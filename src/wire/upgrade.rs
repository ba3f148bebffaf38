//! The WebSocket upgrade: checks a request and makes the 101 (RFC 6455 section 4.2).
//!
//! Subprotocols and extensions are ignored: none is supported, and a 101 that names none declines them.

use super::{
    http::{self, Framing, Head, Method, Response, Version},
    origin,
};
use crate::model::Position;
use base64::{Engine, prelude::BASE64_STANDARD};
use tungstenite::handshake::derive_accept_key;

/// A valid upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
}

/// Checks everything about an upgrade but the gateway's key. `tls` says whether the request came over TLS.
///
/// # Errors
/// The response, which closes the connection: a refused gateway has no other use for it.
pub fn check(head: &Head, origins: &[String], tls: bool) -> Result<Upgrade, Response> {
    if head.method != Method::Get {
        return Err(refuse(405, "An upgrade must be a GET request.").with("Allow", "GET"));
    }
    if head.version == Version::Http10 {
        return Err(refuse(400, "HTTP/1.0 cannot upgrade to WebSocket: use HTTP/1.1."));
    }
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(refuse(400, "An upgrade must not have a body."));
    }
    // Tokens in any case, among others and over several lines: proxies rewrite these fields.
    if !head.has_token("upgrade", "websocket") {
        return Err(upgrade_required("This path accepts only WebSocket upgrades."));
    }
    if !head.has_token("connection", "upgrade") {
        return Err(refuse(400, "The Connection field must contain Upgrade."));
    }
    if head.only_field("sec-websocket-version") != Some(b"13") {
        return Err(upgrade_required("Sec-WebSocket-Version must be 13."));
    }
    let Some(key) = head.only_field("sec-websocket-key").filter(|key| is_key(key)) else {
        return Err(refuse(400, "Sec-WebSocket-Key must be given once, as 16 bytes in base64."));
    };
    if asks_for_written(head).is_none() {
        return Err(refuse(400, "The query parameter `delivery` must be `written`, or be left out."));
    }
    // Last: a request that is no upgrade at all, from a browser or not, is told what this path accepts.
    if refused_origin(head, origins, tls).is_some() {
        return Err(refuse(403, "This origin is not allowed to connect."));
    }
    Ok(Upgrade { accept: derive_accept_key(key) })
}

impl Upgrade {
    /// Appends the 101.
    pub fn response_101(&self, out: &mut Vec<u8>) {
        // Not a `Response`, which would set `Connection` to close or keep-alive.
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

/// A 426, which names the required protocol and version (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
fn upgrade_required(description: &str) -> Response {
    refuse(426, description)
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Version", "13")
}

/// Whether this is 16 bytes in base64, which are always 24 characters. Text of another length is not decoded.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// The origin that an upgrade is refused for, if any. A request may have several; each of them must be allowed.
pub fn refused_origin<'a>(head: &'a Head, origins: &[String], tls: bool) -> Option<&'a [u8]> {
    let host = head.only_field("host").unwrap_or_default();
    let allowed = |origin: &[u8]| origin::is_listed(origin, origins) || origin::is_own(origin, host, tls);
    head.fields("origin").find(|origin| !allowed(origin))
}

/// The position behind which a gateway asks to go on: the field `last-position`, or the query parameter `lastPosition`
/// (contract section 1). [`Position::UNKNOWN`] if it sent something else, so that it learns that it has to resync.
pub fn last_position(head: &Head) -> Option<Position> {
    let text = |value| std::str::from_utf8(value).ok().map(str::to_owned);
    let asked = match (head.field("last-position"), http::parameter(head.query(), "lastPosition")) {
        (Some(_), _) => head.only_field("last-position").and_then(text),
        (None, Ok(None)) => return None,
        (None, value) => value.ok().flatten(),
    };
    match asked.as_deref() {
        // A gateway that has no position yet may send an empty one.
        Some("") => None,
        Some(text) => Some(Position::parse(text).unwrap_or(Position::UNKNOWN)),
        None => Some(Position::UNKNOWN),
    }
}

/// Whether the connection asks for `?delivery=written`: its pongs prove nothing about its gateway. `None` if it asks for something
/// else, which it cannot: what the gateway's own connections prove is decided by the platform.
fn asks_for_written(head: &Head) -> Option<bool> {
    match http::parameter(head.query(), "delivery").ok()? {
        None => Some(false),
        Some(value) => (value == "written").then_some(true),
    }
}

/// Whether the connection asks for `?delivery=written`: its pongs prove nothing about its gateway.
pub fn is_written_only(head: &Head) -> bool {
    asks_for_written(head) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::LINE_BYTES_MAX, model::Timestamp, wire::http::HeadParser};

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const VERSION: &str = "Sec-WebSocket-Version: 13";
    const UPGRADE: &str = "Upgrade: websocket";
    const CONNECTION: &str = "Connection: Upgrade";

    fn ask(line: &str, fields: &[&[u8]]) -> Result<Upgrade, Response> {
        let mut input = format!("{line}\r\nHost: hub\r\n").into_bytes();
        for field in fields {
            input.extend_from_slice(field);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"\r\n");
        let (head, _) = HeadParser::new().parse(&input).expect("not refused").expect("complete");
        super::check(&head, &["https://good.example".to_owned()], true)
    }

    fn status(result: &Result<Upgrade, Response>) -> u16 {
        result.as_ref().map_or_else(|response| response.status, |_| 101)
    }

    fn check_line(line: &str, fields: &[&str], expected: u16) {
        let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
        let result = ask(line, &fields);
        assert_eq!(status(&result), expected, "{line} {fields:?}");
        assert!(result.err().is_none_or(|response| response.close));
    }

    fn check(fields: &[&str], expected: u16) {
        check_line("GET /ws HTTP/1.1", fields, expected);
    }

    /// A good upgrade with one more field.
    fn check_with(field: &[u8], expected: u16) {
        let fields = [UPGRADE, CONNECTION, VERSION, KEY].map(str::as_bytes);
        assert_eq!(status(&ask("GET /ws HTTP/1.1", &[&fields[..], &[field]].concat())), expected);
    }

    #[test]
    fn the_101_is_that_of_the_example_in_rfc_6455() {
        let upgrade =
            ask("GET /ws HTTP/1.1", &[UPGRADE, CONNECTION, VERSION, KEY].map(str::as_bytes)).expect("granted");
        let mut out = Vec::new();
        upgrade.response_101(&mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn b1_exactly_one_key_of_16_bytes_in_base64_is_accepted() {
        check(&[UPGRADE, CONNECTION, VERSION], 400);
        check(&[UPGRADE, CONNECTION, VERSION, KEY, KEY], 400);
        let eight_kilobytes = "A".repeat(LINE_BYTES_MAX);
        let bad = [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25j",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
        ];
        for key in
            bad.into_iter().chain(["dGhlIHNhbXBsZSBub25jZ!==", "dGhlIHNhbXBsZS\u{e4}ub25jZQ==", &eight_kilobytes])
        {
            check(&[UPGRADE, CONNECTION, VERSION, &format!("Sec-WebSocket-Key: {key}")], 400);
        }
    }

    #[test]
    fn b2_only_version_13_is_accepted() {
        check(&[UPGRADE, CONNECTION, KEY], 426);
        check(&[UPGRADE, CONNECTION, KEY, VERSION, VERSION], 426);
        for version in ["8", "12", "13, 8", "013", "+13", ""] {
            check(&[UPGRADE, CONNECTION, KEY, &format!("Sec-WebSocket-Version: {version}")], 426);
        }
        let response = ask("GET /ws HTTP/1.1", &[UPGRADE, CONNECTION, KEY].map(str::as_bytes)).expect_err("refused");
        let mut out = Vec::new();
        response.encode(Timestamp(0), false, true, &mut out);
        let text = String::from_utf8(out).expect("text");
        for line in ["Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: Upgrade", "Connection: close"] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{text}");
        }
    }

    #[test]
    fn b3_only_a_get_of_http_1_1_without_a_body_is_accepted() {
        let good = [UPGRADE, CONNECTION, VERSION, KEY];
        check(&[], 426);
        check(&[CONNECTION, VERSION, KEY], 426);
        check(&["Upgrade: h2c", CONNECTION, VERSION, KEY], 426);
        check(&[UPGRADE, VERSION, KEY], 400);
        check(&[UPGRADE, "Connection: keep-alive", VERSION, KEY], 400);
        check_line("GET /ws HTTP/1.0", &good, 400);
        check(&[&good[..], &["Content-Length: 1"]].concat(), 400);
        check(&[&good[..], &["Transfer-Encoding: chunked"]].concat(), 400);
        check(&[&good[..], &["Content-Length: 0"]].concat(), 101);
        for method in ["POST", "HEAD", "OPTIONS", "TRACE"] {
            check_line(&format!("{method} /ws HTTP/1.1"), &good, 405);
        }
        let response = ask("POST /ws HTTP/1.1", &[]).expect_err("refused");
        assert!(response.fields.contains(&("Allow", "GET".to_owned())));
    }

    #[test]
    fn b4_fields_that_proxies_have_rewritten_are_accepted() {
        check(&[UPGRADE, "Connection: keep-alive, Upgrade", VERSION, KEY], 101);
        check(&[UPGRADE, "connection:KEEP-ALIVE,,\tUPGRADE ,", VERSION, KEY], 101);
        check(&[UPGRADE, "Connection: keep-alive", "Connection: upgrade", VERSION, KEY], 101);
        check(&["Upgrade: WebSocket", CONNECTION, VERSION, KEY], 101);
        check(&["UPGRADE: h2c, WEBSOCKET", CONNECTION, VERSION, KEY], 101);
    }

    #[test]
    fn b5_only_listed_and_own_origins_are_accepted() {
        check_with(b"X: y", 101);
        check_with(b"Origin: https://good.example", 101);
        check_with(b"Origin: HTTPS://Good.Example", 101);
        check_with(b"Origin: https://HUB", 101);
        let bad: [&[u8]; 9] = [
            b"Origin: https://hub:80",
            b"Origin: null",
            b"Origin:",
            b"Origin: https://good.example.evil",
            b"Origin: http://good.example",
            b"Origin: https://good.example:444",
            b"Origin: https://good.example/",
            b"Origin: \xff",
            b"Origin: https://good.example\r\nOrigin: https://evil.example",
        ];
        for origin in bad {
            check_with(origin, 403);
        }
    }

    #[test]
    fn b6_subprotocols_and_extensions_are_ignored() {
        check_with(b"Sec-WebSocket-Protocol: \xff\xfe", 101);
        check_with(format!("Sec-WebSocket-Protocol:{}", " ".repeat(LINE_BYTES_MAX)).as_bytes(), 101);
        check_with(format!("Sec-WebSocket-Protocol: {}", "t, ".repeat(1_000)).as_bytes(), 101);
        check_with(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", 101);
    }

    #[test]
    fn parameters_are_read_as_those_of_calls_are() {
        let head = |target: &str, fields: &str| {
            let input = format!("GET {target} HTTP/1.1\r\nHost: hub\r\n{fields}\r\n");
            HeadParser::new().parse(input.as_bytes()).expect("not refused").expect("complete").0
        };
        for (query, expected) in [
            ("", Some(false)),
            ("?deliveryx=1", Some(false)),
            ("?delivery=written", Some(true)),
            ("?x&%64elivery=writte%6e", Some(true)),
            ("?delivery", None),
            ("?delivery=", None),
            ("?%64elivery=processed", None),
            ("?delivery=written&delivery=written", None),
        ] {
            assert_eq!(asks_for_written(&head(&format!("/ws{query}"), "")), expected, "{query}");
        }
        let known = Position { epoch: 1, offset: 2 };
        let encoded = known.to_string().replace('-', "%2D");
        for (query, fields, expected) in [
            (String::new(), String::new(), None),
            ("?lastPosition=".to_owned(), String::new(), None),
            (format!("?lastPosition={known}"), String::new(), Some(known)),
            (format!("?lastPosition={encoded}"), String::new(), Some(known)),
            (format!("?lastPosition={known}&lastPosition={known}"), String::new(), Some(Position::UNKNOWN)),
            ("?lastPosition=x".to_owned(), format!("last-position: {known}\r\n"), Some(known)),
            (String::new(), format!("last-position: {known}\r\nlast-position: {known}\r\n"), Some(Position::UNKNOWN)),
        ] {
            assert_eq!(last_position(&head(&format!("/ws{query}"), &fields)), expected, "{query} {fields}");
        }
    }
}
