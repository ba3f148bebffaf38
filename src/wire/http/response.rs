//! An HTTP response and its encoding.

use crate::model::{Kept, Timestamp};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde::Serialize;
use std::{cell::RefCell, fmt};

/// The interim response to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A response. [`Response::encode`] adds `Content-Length`, `Date` and `Connection`.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// `Content-Type`; `None` if there is no body.
    pub content_type: Option<&'static str>,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection closes after it.
    pub close: bool,
    /// Its body came from the core's buffers, which get it and its encoded bytes back. Never if it has a token in it.
    pub reuses: bool,
}

/// The error body of every call: `{"code":429,"message":"Too Many Requests","description":"…"}` (contract section 1).
/// `kept` is present only if the request was for a change of the store.
#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

impl Response {
    /// A response with a JSON body.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let text = serde_json::to_vec(body).expect("our own answer types have string keys and serialize");
        Self { status, ..Self::json_text(text) }
    }

    /// A 200 with the text of a JSON body.
    pub fn json_text(body: Vec<u8>) -> Self {
        Self { content_type: Some("application/json"), body, ..Self::empty(200) }
    }

    /// An error response, in the form that all errors have.
    pub fn error(status: u16, description: &str) -> Self {
        Self::json(status, &ErrorBody { code: status, message: reason_phrase(status), description, kept: None })
    }

    /// An error response to a change that was not acknowledged; `kept` says whether it was made nevertheless.
    pub fn error_with_kept(status: u16, description: &str, kept: Kept) -> Self {
        Self::json(status, &ErrorBody { code: status, message: reason_phrase(status), description, kept: Some(kept) })
    }

    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: None, fields: Vec::new(), body: Vec::new(), close: false, reuses: false }
    }

    /// Adds a header field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Closes the connection after the response.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Appends the encoded response. With `head_only`, the response to a `HEAD`, it has the length but not the body.
    /// `keep_alive` says whether the request allows another one; the response may still close the connection.
    pub fn encode(&self, now: Timestamp, head_only: bool, keep_alive: bool, out: &mut Vec<u8>) {
        let number = |n: usize, out: &mut Vec<u8>| out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        out.reserve(HEAD_BYTES + self.body.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        number(usize::from(self.status), out);
        out.push(b' ');
        out.extend_from_slice(reason_phrase(self.status).as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        DATE.with_borrow_mut(|date| out.extend_from_slice(date.at(now).as_bytes()));
        out.extend_from_slice(if self.close || !keep_alive { CLOSE } else { KEEP_ALIVE });
        // Responses contain tokens and live state: no cache may keep them, and no browser may guess another type.
        out.extend_from_slice(b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        if let Some(content_type) = self.content_type {
            out.extend_from_slice(b"Content-Type: ");
            out.extend_from_slice(content_type.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in &self.fields {
            push_field(name, value, out);
        }
        if self.may_have_body() {
            out.extend_from_slice(b"Content-Length: ");
            number(self.body.len(), out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if self.may_have_body() && !head_only {
            out.extend_from_slice(&self.body);
        }
    }

    /// Whether a response of this status may have a body (RFC 9110 section 6.4.1).
    fn may_have_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// Room for a head without further fields.
const HEAD_BYTES: usize = 256;

const CLOSE: &[u8] = b"\r\nConnection: close\r\n";
const KEEP_ALIVE: &[u8] = b"\r\nConnection: keep-alive\r\n";

/// Appends a field. Control characters become blanks, so that a value made from a peer's bytes cannot add a field or a
/// second response.
fn push_field(name: &str, value: &str, out: &mut Vec<u8>) {
    let mut text = |text: &str| out.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    text(name);
    text(": ");
    text(value);
    out.extend_from_slice(b"\r\n");
}

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: i64::MIN, text: String::new() }) };
}

/// The text of `Date`, formatted once a second and shared by all responses of a core.
struct Date {
    second: i64,
    text: String,
}

impl Date {
    fn at(&mut self, now: Timestamp) -> &str {
        let second = now.0.div_euclid(1_000);
        if second != self.second {
            *self = Self { second, text: imf_fixdate(now) };
        }
        &self.text
    }
}

/// A date in the form of RFC 9110 section 5.6.7.
fn imf_fixdate(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // The form has no years before 0. Only a broken clock shows one, and a response needs a date all the same.
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned())
}

/// Without the body, which may be a new token.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} {}, {} bytes)", self.status, reason_phrase(self.status), self.body.len())
    }
}

/// The reason phrase of a status (RFC 9110 section 15).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &Response, head_only: bool, keep_alive: bool, expected: &[&str]) {
        let mut out = Vec::new();
        response.encode(Timestamp(784_111_777_000), head_only, keep_alive, &mut out);
        assert_eq!(String::from_utf8(out).expect("text").split("\r\n").collect::<Vec<_>>(), expected);
    }

    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
    const NO_STORE: &str = "Cache-Control: no-store";
    const NOSNIFF: &str = "X-Content-Type-Options: nosniff";
    const JSON: &str = "Content-Type: application/json";

    #[test]
    fn a_response_has_its_length_and_says_whether_the_connection_closes() {
        let keep = "Connection: keep-alive";
        let close = "Connection: close";
        let answer = Response::json(200, &[1, 2]);
        let expected = |connection| {
            ["HTTP/1.1 200 OK", DATE, connection, NO_STORE, NOSNIFF, JSON, "Content-Length: 5", "", "[1,2]"]
        };
        check(&answer, false, true, &expected(keep));
        check(&answer, false, false, &expected(close));
        check(&answer.clone().closing(), false, true, &expected(close));
        check(
            &Response::empty(200),
            false,
            true,
            &["HTTP/1.1 200 OK", DATE, keep, NO_STORE, NOSNIFF, "Content-Length: 0", "", ""],
        );
        check(&Response::empty(204), false, true, &["HTTP/1.1 204 No Content", DATE, keep, NO_STORE, NOSNIFF, "", ""]);
    }

    #[test]
    fn the_response_to_head_has_the_length_and_no_body() {
        let answer = Response::json(200, &[1, 2]);
        let expected =
            ["HTTP/1.1 200 OK", DATE, "Connection: keep-alive", NO_STORE, NOSNIFF, JSON, "Content-Length: 5", "", ""];
        check(&answer, true, true, &expected);
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let answer = Response::empty(204).with("X", "a\r\nY: b\0");
        let expected =
            ["HTTP/1.1 204 No Content", DATE, "Connection: keep-alive", NO_STORE, NOSNIFF, "X: a  Y: b ", "", ""];
        check(&answer, false, true, &expected);
    }

    #[test]
    fn dates_have_one_length_and_never_fail() {
        for (millis, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_709_210_096_999, "Thu, 29 Feb 2024 12:34:56 GMT"),
            (2_147_483_648_000, "Tue, 19 Jan 2038 03:14:08 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (i64::MAX, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-100_000_000_000_000, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(imf_fixdate(Timestamp(millis)), expected, "{millis}");
        }
    }
}
