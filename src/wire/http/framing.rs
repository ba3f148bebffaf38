//! Where a request's body ends, from `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6).

use super::{
    Refusal, Version,
    fields::{Fields, is_token_byte, members},
};

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// Refuses an announced length over `bytes_max`. To be called before a 100 is sent: a peer that waits for the 100 then
/// never sends the body.
///
/// # Errors
/// The 413.
pub fn check_length(framing: Framing, bytes_max: usize) -> Result<(), Refusal> {
    match framing {
        Framing::Length(bytes) if bytes > bytes_max as u64 => Err(TOO_LARGE),
        Framing::None | Framing::Length(_) | Framing::Chunked => Ok(()),
    }
}

pub(super) const TOO_LARGE: Refusal = Refusal::new(413, "body size", "The body is longer than this call allows.");

/// The framing that the head announces. A head that two parsers could read in two ways is refused, even if RFC 9112
/// allows a server to repair it: a proxy before the hub may have repaired it in another way (request smuggling).
pub(super) fn of(fields: &Fields, version: Version) -> Result<Framing, Refusal> {
    let length = fields.only("content-length").map_err(|()| refuse("The request has more than one Content-Length."))?;
    let coding =
        fields.only("transfer-encoding").map_err(|()| refuse("The request has more than one Transfer-Encoding."))?;
    match (length, coding) {
        // A request without either has no body; only a response can last until the end (RFC 9112 section 6.3).
        (None, None) => Ok(Framing::None),
        (Some(length), None) => parse_length(length).map(Framing::Length),
        (None, Some(coding)) => check_coding(coding, version).map(|()| Framing::Chunked),
        (Some(_), Some(_)) => Err(refuse("The request has both Content-Length and Transfer-Encoding.")),
    }
}

const fn refuse(detail: &'static str) -> Refusal {
    Refusal::new(400, "framing", detail)
}

/// Parses digits only; `str::parse` alone would accept a plus sign.
fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    const NOT_A_LENGTH: Refusal = refuse("Content-Length must be a decimal number below 2^64.");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(NOT_A_LENGTH);
    }
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or(NOT_A_LENGTH)
}

/// Accepts `chunked` as the only coding.
fn check_coding(value: &[u8], version: Version) -> Result<(), Refusal> {
    if version == Version::Http10 {
        return Err(refuse("HTTP/1.0 does not allow Transfer-Encoding."));
    }
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_other = |member: &[u8]| {
        !member.is_empty() && member.iter().all(|byte| is_token_byte(*byte)) && !member.eq_ignore_ascii_case(b"chunked")
    };
    if members(value).any(is_other) {
        return Err(Refusal::new(501, "coding", "The only supported transfer coding is chunked."));
    }
    Err(refuse("Transfer-Encoding must be the single word chunked."))
}
