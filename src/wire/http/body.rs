//! Request bodies, of a given length or in chunks (RFC 9112 sections 6.2 and 7.1).

use super::{
    Framing, Refusal,
    fields::is_token_byte,
    framing::{TOO_LARGE, check_length},
};
use crate::limits::{CHUNK_EXTENSIONS_BYTES_MAX, CHUNK_LINE_BYTES_MAX};
use std::fmt;

const fn refuse(detail: &'static str) -> Refusal {
    Refusal::new(400, "chunk", detail)
}

const LINE_END: Refusal = refuse("A chunk-size or trailer line must end with CR LF and contain no control character.");
const LINE_TOO_LONG: Refusal = refuse("A chunk-size line or the trailer section is too long.");
const SIZE: Refusal = refuse("A chunk size must be 1 to 16 hexadecimal digits.");
const DATA_END: Refusal = refuse("The data of a chunk must be followed by CR LF.");
const TRAILER: Refusal = refuse("A trailer field is malformed.");

/// Decodes a body as its bytes arrive. It holds no data of the body, only the current line between two chunks.
pub struct BodyDecoder {
    stage: Stage,
    /// Bytes of data that are still allowed.
    bytes_left: u64,
    /// The incomplete line between two chunks.
    line: Vec<u8>,
    /// Bytes by which that line may still grow; for trailers, all of their lines together.
    line_bytes_left: usize,
    /// Bytes of chunk extensions that are still allowed in this body.
    extension_bytes_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In a body of given length, with this many bytes left.
    Length(u64),
    /// In the line with a chunk's size.
    Size,
    /// In the data of a chunk, with this many bytes left.
    Data(u64),
    /// Before the CR after a chunk's data.
    DataCr,
    /// Before the LF after that.
    DataLf,
    /// After the last chunk.
    Trailers,
    Done,
    Refused(Refusal),
}

impl BodyDecoder {
    /// A decoder for one body of at most `bytes_max` bytes. A larger [`Framing::Length`] is refused by the first call
    /// of [`BodyDecoder::decode`]; [`check_length`] tells it before the peer is asked for the body.
    pub fn new(framing: Framing, bytes_max: usize) -> Self {
        let stage = match (check_length(framing, bytes_max), framing) {
            (Err(refusal), _) => Stage::Refused(refusal),
            (Ok(()), Framing::None | Framing::Length(0)) => Stage::Done,
            (Ok(()), Framing::Length(bytes)) => Stage::Length(bytes),
            (Ok(()), Framing::Chunked) => Stage::Size,
        };
        Self {
            stage,
            bytes_left: bytes_max as u64,
            line: Vec::new(),
            line_bytes_left: CHUNK_LINE_BYTES_MAX,
            extension_bytes_left: CHUNK_EXTENSIONS_BYTES_MAX,
        }
    }

    /// Copies data from `input` to `out`. Returns the number of bytes consumed, and whether the body is complete;
    /// further bytes belong to the next request. `out` grows by the bytes that arrived, never by an announced length.
    ///
    /// # Errors
    /// The refusal to answer before the connection closes. Every later call returns it again.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), Refusal> {
        let mut consumed = 0;
        while consumed < input.len() && !matches!(self.stage, Stage::Done | Stage::Refused(_)) {
            match self.step(&input[consumed..], out) {
                Ok(bytes) => consumed += bytes,
                // Kept, because after it the end of the body is unknown: no later call may find one.
                Err(refusal) => self.stage = Stage::Refused(refusal),
            }
        }
        match self.stage {
            Stage::Refused(refusal) => Err(refusal),
            stage => Ok((consumed, stage == Stage::Done)),
        }
    }

    /// Consumes at least one byte.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refusal> {
        match (self.stage, input[0]) {
            (Stage::Length(left), _) => {
                let (taken, left) = take(input, left, out);
                self.stage = if left == 0 { Stage::Done } else { Stage::Length(left) };
                Ok(taken)
            }
            (Stage::Data(left), _) => {
                let (taken, left) = take(input, left, out);
                self.stage = if left == 0 { Stage::DataCr } else { Stage::Data(left) };
                Ok(taken)
            }
            (Stage::DataCr, b'\r') => {
                self.stage = Stage::DataLf;
                Ok(1)
            }
            (Stage::DataLf, b'\n') => {
                self.stage = Stage::Size;
                self.line_bytes_left = CHUNK_LINE_BYTES_MAX;
                Ok(1)
            }
            (Stage::DataCr | Stage::DataLf, _) => Err(DATA_END),
            (Stage::Size, _) => self.step_line(input, Self::handle_size),
            (Stage::Trailers, _) => self.step_line(input, Self::handle_trailer),
            (Stage::Done, _) => Ok(0),
            (Stage::Refused(refusal), _) => Err(refusal),
        }
    }

    /// Appends to the line, up to its end, and passes it to `handle` once it is complete.
    fn step_line(&mut self, input: &[u8], handle: fn(&mut Self) -> Result<(), Refusal>) -> Result<usize, Refusal> {
        for (at, &byte) in input.iter().enumerate() {
            // A CR without its LF, or an LF without its CR, is refused: another parser on the way may take it for a
            // line end.
            let after_cr = self.line.last() == Some(&b'\r');
            let is_allowed = match byte {
                b'\n' => after_cr,
                b'\r' | b'\t' => !after_cr,
                _ => !after_cr && !byte.is_ascii_control(),
            };
            if !is_allowed {
                return Err(LINE_END);
            }
            self.line_bytes_left = self.line_bytes_left.checked_sub(1).ok_or(LINE_TOO_LONG)?;
            self.line.push(byte);
            if byte == b'\n' {
                handle(self)?;
                self.line.clear();
                return Ok(at + 1);
            }
        }
        Ok(input.len())
    }

    /// Handles a complete line such as `1a;name=value`.
    fn handle_size(&mut self) -> Result<(), Refusal> {
        let digits = self.line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        // httparse would also accept a size without digits, and blanks after the digits.
        if !(1..=16).contains(&digits) || !matches!(self.line[digits], b';' | b'\r') {
            return Err(SIZE);
        }
        let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&self.line) else {
            return Err(SIZE);
        };
        // Extensions have a bound over the whole body: otherwise each one-byte chunk could bring another kilobyte of
        // them.
        let extension_bytes = self.line.len() - digits - b"\r\n".len();
        self.extension_bytes_left = self.extension_bytes_left.checked_sub(extension_bytes).ok_or(LINE_TOO_LONG)?;
        // The announced size counts, before the chunk's data arrives.
        self.bytes_left = self.bytes_left.checked_sub(size).ok_or(TOO_LARGE)?;
        self.line_bytes_left = CHUNK_LINE_BYTES_MAX;
        self.stage = if size == 0 { Stage::Trailers } else { Stage::Data(size) };
        Ok(())
    }

    /// Handles a complete line of the trailer section. Trailers are checked and discarded: nothing uses them, and
    /// merged into the head they could contradict it (RFC 9110 section 6.5.1).
    fn handle_trailer(&mut self) -> Result<(), Refusal> {
        if self.line == b"\r\n" {
            self.stage = Stage::Done;
            return Ok(());
        }
        let name = self.line.iter().take_while(|byte| is_token_byte(**byte)).count();
        if name > 0 && self.line[name] == b':' { Ok(()) } else { Err(TRAILER) }
    }
}

/// Without the line, because a trailer may contain a secret.
impl fmt::Debug for BodyDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyDecoder").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Appends at most `left` bytes; returns their number, and the number left after them.
fn take(input: &[u8], left: u64, out: &mut Vec<u8>) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    out.extend_from_slice(&input[..taken]);
    (taken, left - taken as u64)
}
