//! Finds the end of a request head as its bytes come in, and checks it.
//!
//! Every byte is looked at a fixed number of times, however the bytes are cut: lines are found one after the other from
//! where the last call ended, and `httparse` runs once, when the head is complete.

use super::{
    Head, Method, Refusal, Version,
    fields::{self, Fields, Span},
    framing,
    request_line::{self, TARGET_TOO_LONG},
};
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, LINE_BYTES_MAX};

/// What a line may have around the target or the value that [`LINE_BYTES_MAX`] bounds.
const LINE_FRAME_BYTES: usize = 64;

const HEAD_TOO_LONG: Refusal = Refusal::new(431, "head size", "The request head is too long.");
const FIELD_TOO_LONG: Refusal = Refusal::new(431, "field size", "A header field is too long.");
const TOO_MANY_FIELDS: Refusal = Refusal::new(431, "field count", "The request has too many header fields.");
const LINE_END: Refusal =
    Refusal::new(400, "line end", "Each line of the head must end with CR LF and contain no other CR.");
const FIELD_SYNTAX: Refusal = Refusal::new(400, "field syntax", "A header field is malformed.");

/// Reads the heads of one connection, one after the other.
#[derive(Debug, Default)]
pub struct HeadParser {
    /// Where the line begins that is not complete yet.
    line_start: usize,
    /// Up to where there is no line end from `line_start` on.
    scanned: usize,
    /// The request line, once it has been checked: method, where the target is, version.
    request_line: Option<(Method, (usize, usize), Version)>,
    fields: usize,
    empty_line_seen: bool,
}

impl HeadParser {
    /// A parser at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for a whole head at the beginning of `input`, and gives it with the number of bytes it takes; `None` asks
    /// for more bytes.
    ///
    /// Until there is a head, `input` must be the same bytes again with more behind them. After one, it is what follows
    /// the consumed bytes.
    ///
    /// # Errors
    /// The one answer that the connection still gets.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
        debug_assert!(self.scanned <= input.len(), "bytes that were not consumed are shown again");
        // Nothing behind the bound is looked at, so that a long input is as cheap as a short one.
        let window = &input[..input.len().min(HEAD_BYTES_MAX)];
        while let Some(found) = memchr::memchr(b'\n', window.get(self.scanned..).unwrap_or_default()) {
            let end = self.scanned + found + 1;
            let is_head_end = self.handle_line(&window[..end])?;
            self.line_start = end;
            self.scanned = end;
            if is_head_end {
                let head = self.finish(&window[..end])?;
                *self = Self::default();
                return Ok(Some((head, end)));
            }
        }
        self.scanned = window.len();
        self.check_partial_line(&window[self.line_start..])?;
        if window.len() == HEAD_BYTES_MAX { Err(HEAD_TOO_LONG) } else { Ok(None) }
    }

    /// Checks the last line of `seen`, which is complete. True for the one that ends the head.
    fn handle_line(&mut self, seen: &[u8]) -> Result<bool, Refusal> {
        let Some(line) = seen[self.line_start..].strip_suffix(b"\r\n") else { return Err(LINE_END) };
        if memchr::memchr(b'\r', line).is_some() {
            return Err(LINE_END);
        }
        match (self.request_line, line) {
            (Some(_), []) => return Ok(true),
            // RFC 9112 section 2.2 lets a server ignore one, for clients that send too much after a body.
            (None, []) if !self.empty_line_seen => self.empty_line_seen = true,
            (None, []) => return Err(LINE_END),
            (None, line) => {
                check_line_length(line, TARGET_TOO_LONG)?;
                let (method, target, version) = request_line::parse(line)?;
                let start = self.line_start + method.as_str().len() + 1;
                self.request_line = Some((method, (start, start + target.len()), version));
            }
            (Some(_), line) => {
                check_line_length(line, FIELD_TOO_LONG)?;
                self.fields += 1;
                if self.fields > HEAD_FIELDS_MAX {
                    return Err(TOO_MANY_FIELDS);
                }
            }
        }
        Ok(false)
    }

    /// Refuses as early as possible what cannot become a line.
    fn check_partial_line(&self, line: &[u8]) -> Result<(), Refusal> {
        if self.request_line.is_some() {
            return check_line_length(line, FIELD_TOO_LONG);
        }
        match line {
            [b'\r'] => Ok(()),
            [b'\r', ..] => Err(LINE_END),
            _ => {
                request_line::check_method_begins(line)?;
                check_line_length(line, TARGET_TOO_LONG)
            }
        }
    }

    /// Makes the head out of all its bytes.
    fn finish(&self, bytes: &[u8]) -> Result<Head, Refusal> {
        let (method, (start, end), version) = self.request_line.expect("a head ends after its request line");
        let line_start = start - method.as_str().len() - 1;
        let fields = Fields::new(bytes, spans(bytes, line_start)?);
        fields::check_host(&fields, version)?;
        head(method, version, fields, &bytes[start..end], start)
    }
}

fn head(method: Method, version: Version, fields: Fields, target: &[u8], start: usize) -> Result<Head, Refusal> {
    let end = start + target.len();
    let mark = memchr::memchr(b'?', target).map(|at| start + at);
    Ok(Head {
        method,
        version,
        framing: framing::of(&fields, version)?,
        keep_alive: fields::keep_alive(&fields, version),
        expects_continue: fields::expects_continue(&fields, version)?,
        path: Span::new(start, mark.unwrap_or(end)),
        query: mark.map(|mark| Span::new(mark + 1, end)),
        fields,
    })
}

/// The fields of a complete head whose request line is at `start`. `httparse` checks names and values.
fn spans(bytes: &[u8], start: usize) -> Result<Vec<(Span, Span)>, Refusal> {
    let mut slots = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(&bytes[start..]) {
        Ok(httparse::Status::Complete(length)) if start + length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_FIELDS),
        Err(httparse::Error::NewLine) => return Err(LINE_END),
        // Where httparse sees another end than we do, the bytes can be read in two ways.
        Ok(_) | Err(_) => return Err(FIELD_SYNTAX),
    }
    let span = |field: &httparse::Header<'_>| (Span::of(field.name.as_bytes(), bytes), Span::of(field.value, bytes));
    Ok(request.headers.iter().map(span).collect())
}

fn check_line_length(line: &[u8], refusal: Refusal) -> Result<(), Refusal> {
    if line.len() > LINE_BYTES_MAX + LINE_FRAME_BYTES { Err(refusal) } else { Ok(()) }
}
