//! HTTP by hand: requests that may be invalid, and a strict parser of answers.

use crate::socket::{PATIENCE, Wire};
use serde_json::Value;
use std::time::Instant;

/// The path to which gateways connect.
pub const CONNECT_PATH: &str = "/api/internal/v1/ws/gateways/connect";

/// The example key of RFC 6455 section 1.3, and its `Sec-WebSocket-Accept`.
pub const WEBSOCKET_KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// A request that is being built.
#[derive(Clone, Debug)]
pub struct Request {
    line: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with a `Host` and nothing else.
    pub fn new(method: &str, target: &str) -> Self {
        let line = format!("{method} {target} HTTP/1.1").into_bytes();
        Self { line, fields: vec![("Host".to_owned(), b"localhost".to_vec())], body: Vec::new() }
    }

    /// The upgrade that a gateway with this key sends.
    pub fn upgrade(key: &str) -> Self {
        Self::new("GET", CONNECT_PATH)
            .with("Upgrade", "websocket")
            .with("Connection", "Upgrade")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", WEBSOCKET_KEY.0)
            .with("api-key", key)
    }

    /// The same with another request line.
    pub fn line(mut self, line: &str) -> Self {
        self.line = line.as_bytes().to_vec();
        self
    }

    /// The same with one more field.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The same without any field of this name.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// The same with this value in place of any other.
    pub fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).with(name, value)
    }

    /// The same with the platform's token.
    pub fn bearer(self, token: &str) -> Self {
        self.set("Authorization", format!("Bearer {token}"))
    }

    /// The same with a JSON body and its length.
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let sized = self.set("Content-Type", "application/json").set("Content-Length", body.len().to_string());
        Self { body: body.to_vec(), ..sized }
    }

    /// The encoded request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.line.clone();
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One answer, parsed strictly.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// The header fields, in order.
    pub fields: Vec<(String, String)>,
    /// The body, of the length in `Content-Length`.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the next answer; `None` if the connection ends without one.
    pub fn read(wire: &mut Wire) -> Option<Self> {
        Self::read_to("GET", wire)
    }

    /// Reads the answer to a request with this method. An answer to `HEAD` has a length and no body.
    pub fn read_to(method: &str, wire: &mut Wire) -> Option<Self> {
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = wire.received().windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if !wire.fill(deadline) {
                assert!(wire.end().is_some(), "no answer, and the connection is still open");
                assert!(wire.received().is_empty(), "an incomplete answer: {:?}", wire.received());
                return None;
            }
        };
        let head = wire.received().split_to(end + 4);
        let mut answer = Self::parse_head(std::str::from_utf8(&head[..end]).expect("our heads are ASCII"));
        let length = answer.check_framing();
        if method != "HEAD" {
            while wire.received().len() < length {
                assert!(wire.fill(deadline), "the body of {answer:?} is cut at {}", wire.received().len());
            }
            answer.body = wire.received().split_to(length).to_vec();
            answer.check_error_body();
        }
        Some(answer)
    }

    /// Reads one answer, which the end of the connection must follow directly.
    pub fn read_last(wire: &mut Wire) -> Self {
        let answer = Self::read(wire).expect("an answer before the end");
        assert_eq!(answer.field("connection"), Some("close"), "{answer:?}");
        let end = wire.read_to_end(Instant::now() + PATIENCE);
        assert!(wire.received().is_empty(), "bytes after the last answer: {:?}", wire.received());
        assert!(end.is_some(), "still open after `Connection: close`: {answer:?}");
        answer
    }

    /// The value of the only field with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "two fields {name}: {self:?}");
        first
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("our bodies are UTF-8")
    }

    /// The seconds of `Retry-After`, if there is one.
    pub fn retry_after(&self) -> Option<u64> {
        self.field("retry-after").map(|v| v.parse().unwrap_or_else(|_| panic!("Retry-After is {v:?}")))
    }

    fn parse_head(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|l| l.get(..3)).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("status line {line:?}"));
        assert_eq!(line.as_bytes().get(12), Some(&b' '), "a space follows the status (RFC 9112 section 4): {line:?}");
        let fields = lines.map(|line| {
            assert!(!line.contains(['\r', '\n']), "{line:?}");
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("field line {line:?}"));
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "field name {name:?}");
            (name.to_owned(), value.to_owned())
        });
        Self { status, fields: fields.collect(), body: Vec::new() }
    }

    /// The length of the body: the hub's answers have a `Content-Length` or a status without a body (RFC 9112 section
    /// 6).
    fn check_framing(&self) -> usize {
        assert_eq!(self.field("transfer-encoding"), None, "{self:?}");
        let length = self.field("content-length");
        if self.status < 200 || self.status == 204 {
            assert_eq!(length, None, "{self:?}");
            return 0;
        }
        assert!(self.field("date").is_some(), "{self:?}");
        length.and_then(|l| l.parse().ok()).unwrap_or_else(|| panic!("no length in {self:?}"))
    }

    /// Checks that an error has the one form of all errors (contract section 1) and names no version and no file.
    fn check_error_body(&self) {
        if self.status < 400 || self.body.is_empty() || !self.body.starts_with(br#"{"code""#) {
            assert!(self.status < 400, "not an error body: {self:?}");
            return;
        }
        let body = self.json();
        assert_eq!(body["code"], u64::from(self.status), "{self:?}");
        assert!(body["message"].is_string() && body["description"].is_string(), "{self:?}");
        let text = self.text();
        assert!(!text.contains("src/") && !text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
}
