//! One response, and how it is written.

use serde::Serialize;

/// A response. `Content-Length`, `Date` and `Connection` are added when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// RFC 9110 section 15.
    pub status: u16,
    /// `Content-Type`; none where there is no body.
    pub content_type: Option<&'static str>,
    /// Further header fields, valid already.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection ends with it.
    pub close: bool,
}

/// The error body of every call: `{"code":429,"message":"Too Many Requests","description":"…"}` (contract section 1).
#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    description: &'a str,
}

impl Response {
    /// A JSON answer.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our own answer types have string keys and serialize");
        Self { status, content_type: Some("application/json"), fields: Vec::new(), body, close: false }
    }

    /// An error in the one form that they all have.
    pub fn error(status: u16, description: &str) -> Self {
        Self::json(status, &ErrorBody { code: status, message: reason_phrase(status), description })
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: None, fields: Vec::new(), body: Vec::new(), close: false }
    }

    /// The same with one more header field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The same, and the connection ends with it.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
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
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
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
