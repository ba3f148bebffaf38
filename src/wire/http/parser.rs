//! Finds the end of a request head as its bytes arrive, and checks the head.
//!
//! Each byte is scanned a fixed number of times, in however many pieces the bytes arrive: the search for line ends
//! continues where the last call ended, and `httparse` runs once, on the complete head.

use super::{
    Head, Method, Refusal, Version,
    fields::{self, Fields, Span, Spans},
    framing,
    request_line::{self, TARGET_TOO_LONG},
};
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, LINE_BYTES_MAX};
use std::mem::MaybeUninit;

/// Bytes of a line besides the target or value that [`LINE_BYTES_MAX`] bounds.
const LINE_FRAME_BYTES: usize = 64;

const HEAD_TOO_LONG: Refusal = Refusal::new(431, "head size", "The request head is too long.");
const FIELD_TOO_LONG: Refusal = Refusal::new(431, "field size", "A header field is too long.");
const TOO_MANY_FIELDS: Refusal = Refusal::new(431, "field count", "The request has too many header fields.");
const LINE_END: Refusal =
    Refusal::new(400, "line end", "Each line of the head must end with CR LF and contain no other CR.");
const FIELD_SYNTAX: Refusal = Refusal::new(400, "field syntax", "A header field is malformed.");

/// Parses the heads of one connection, one after the other.
#[derive(Debug, Default)]
pub struct HeadParser {
    /// Start of the incomplete line.
    line_start: usize,
    /// There is no line end between `line_start` and here.
    scanned: usize,
    /// The checked request line: method, start and end of the target, version.
    request_line: Option<(Method, (usize, usize), Version)>,
    fields: usize,
    empty_line_seen: bool,
    /// The memory of the head before.
    buffer: Vec<u8>,
}

impl HeadParser {
    /// A parser at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a head at the beginning of `input`; returns it with its length in bytes, or `None` if it is incomplete.
    ///
    /// Until a head is complete, each call must pass the same bytes again with more appended. The call after that
    /// passes the bytes behind the head.
    ///
    /// # Errors
    /// The refusal to answer before the connection closes.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
        debug_assert!(self.scanned <= input.len(), "bytes that were not consumed are passed again");
        // Bytes beyond the bound are not scanned, so a long input costs no more than a short one.
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

    /// Checks the last line of `seen`, which is complete; returns whether it ends the head.
    fn handle_line(&mut self, seen: &[u8]) -> Result<bool, Refusal> {
        // httparse accepts an LF alone as a line end, as RFC 9112 section 2.2 permits. A proxy may not, and would see
        // other lines than the hub, so the line ends are checked here.
        let Some(line) = seen[self.line_start..].strip_suffix(b"\r\n") else { return Err(LINE_END) };
        if memchr::memchr(b'\r', line).is_some() {
            return Err(LINE_END);
        }
        match (self.request_line, line) {
            (Some(_), []) => return Ok(true),
            // A server should ignore an empty line here, for clients that send one after a body (RFC 9112 section 2.2).
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

    /// Refuses an incomplete line as soon as it cannot become a valid one.
    fn check_partial_line(&self, line: &[u8]) -> Result<(), Refusal> {
        if self.request_line.is_some() {
            return check_line_length(line, FIELD_TOO_LONG);
        }
        match line {
            // It may become the empty line that is ignored before a request line.
            [b'\r'] => Ok(()),
            [b'\r', ..] => Err(LINE_END),
            _ => {
                request_line::check_method_begins(line)?;
                check_line_length(line, TARGET_TOO_LONG)
            }
        }
    }

    /// Takes the memory of a head that is not needed any more, for the next one.
    pub fn reuse(&mut self, head: Head) {
        self.buffer = head.fields.into_buffer();
    }

    /// Makes the head from all of its bytes.
    fn finish(&mut self, bytes: &[u8]) -> Result<Head, Refusal> {
        let buffer = std::mem::take(&mut self.buffer);
        let (method, (start, end), version) = self.request_line.expect("a head ends after its request line");
        let line_start = start - method.as_str().len() - 1;
        let fields = Fields::new(bytes, spans(bytes, line_start)?, buffer);
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
fn spans(bytes: &[u8], start: usize) -> Result<Spans, Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&bytes[start..], &mut slots) {
        Ok(httparse::Status::Complete(length)) if start + length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_FIELDS),
        Err(httparse::Error::NewLine) => return Err(LINE_END),
        // This includes an end other than ours: then the bytes can be read in two ways.
        Ok(_) | Err(_) => return Err(FIELD_SYNTAX),
    }
    let span = |field: &httparse::Header<'_>| (Span::of(field.name.as_bytes(), bytes), Span::of(field.value, bytes));
    Ok(request.headers.iter().map(span).collect())
}

fn check_line_length(line: &[u8], refusal: Refusal) -> Result<(), Refusal> {
    if line.len() > LINE_BYTES_MAX + LINE_FRAME_BYTES { Err(refusal) } else { Ok(()) }
}
