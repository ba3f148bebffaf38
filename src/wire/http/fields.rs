//! The header fields of one head, and the rules about them (RFC 9110 section 5).

use super::{Refusal, Version};
use smallvec::SmallVec;
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

/// A head's bytes and the places of its fields in them. The bytes may contain keys, so they are overwritten on drop.
pub(super) struct Fields {
    bytes: Zeroizing<Vec<u8>>,
    spans: Spans,
}

/// The places of a name and its value, for each field. Most heads have no more than these.
pub(super) type Spans = SmallVec<[(Span, Span); 12]>;

/// Bytes of a head's memory that is used for the next one.
const BUFFER_BYTES_MAX: usize = 1024;

/// A range of bytes in a head. Its ends fit into 16 bits, because a head has at most `HEAD_BYTES_MAX` bytes.
#[derive(Clone, Copy)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

const _: () = assert!(crate::limits::HEAD_BYTES_MAX <= u16::MAX as usize);

impl Span {
    /// The range of `part` in `whole`. `part` must be a slice of `whole`.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Self {
        // An empty slice need not point into `whole`.
        if part.is_empty() {
            return Self::new(0, 0);
        }
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        debug_assert!(start + part.len() <= whole.len());
        Self::new(start, start + part.len())
    }

    /// The bytes from `start` to before `end`.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let short = |n: usize| u16::try_from(n).expect("a head has at most HEAD_BYTES_MAX bytes");
        Self { start: short(start), end: short(end) }
    }

    fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

impl Fields {
    /// Copies `bytes` into `buffer`, which is empty; the spans are the names and values in it.
    pub(super) fn new(bytes: &[u8], spans: Spans, mut buffer: Vec<u8>) -> Self {
        buffer.extend_from_slice(bytes);
        Self { bytes: Zeroizing::new(buffer), spans }
    }

    /// An empty buffer with the memory of the bytes, which are overwritten; without memory if they were many.
    pub(super) fn into_buffer(mut self) -> Vec<u8> {
        if self.bytes.capacity() > BUFFER_BYTES_MAX {
            return Vec::new();
        }
        self.bytes.zeroize();
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.spans.iter().find(|span| self.is_named(span, name)).map(|span| trim(self.slice(span.1)))
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().filter(|span| self.is_named(span, name)).map(|span| trim(self.slice(span.1)))
    }

    /// The value of a field; `Err` if it occurs more than once.
    pub(super) fn only<'a>(&'a self, name: &'a str) -> Result<Option<&'a [u8]>, ()> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(()) } else { Ok(first) }
    }

    fn is_named(&self, span: &(Span, Span), name: &str) -> bool {
        self.slice(span.0).eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether the comma-separated lists in all fields of this name contain the token. Case is ignored.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(members).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// The members of a comma-separated list, including empty ones.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTE[usize::from(byte)]
}

const TOKEN_BYTE: [bool; 256] = including(b"!#$%&'*+-.^_`|~");
/// `reg-name` of RFC 3986 section 3.2.2.
const HOST_BYTE: [bool; 256] = including(b"-._~%!$&'()*+;=");

/// A table that contains letters, digits and `others`.
const fn including(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    mark(table, others, true)
}

/// A table of the visible ASCII characters without `others`.
pub(super) const fn graphic_without(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_graphic();
        byte += 1;
    }
    mark(table, others, false)
}

const fn mark(mut table: [bool; 256], bytes: &[u8], member: bool) -> [bool; 256] {
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = member;
        at += 1;
    }
    table
}

/// Removes blanks and tabs around a value. HTTP allows no other optional white space (RFC 9110 section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Checks that there is exactly one valid `Host`; HTTP/1.0 may have none (RFC 9112 section 3.2).
pub(super) fn check_host(fields: &Fields, version: Version) -> Result<(), Refusal> {
    const fn refuse(detail: &'static str) -> Refusal {
        Refusal::new(400, "host", detail)
    }
    match fields.only("host") {
        Err(()) => Err(refuse("The request has more than one Host.")),
        Ok(None) if version == Version::Http11 => Err(refuse("The request has no Host.")),
        Ok(Some(host)) if !is_host(host) => Err(refuse("Host is not a valid host name or address.")),
        Ok(_) => Ok(()),
    }
}

/// Whether this is a name or an address, with or without a port.
fn is_host(host: &[u8]) -> bool {
    // The characters are checked, not the grammar: nothing here resolves the name, and `origin` compares its bytes.
    let is_name_byte = |byte: &u8| HOST_BYTE[usize::from(*byte)];
    let is_address_byte = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let after = if let Some(rest) = host.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', rest).filter(|end| *end > 0) else { return false };
        if !rest[..end].iter().all(is_address_byte) {
            return false;
        }
        &rest[end + 1..]
    } else {
        let end = host.iter().position(|byte| !is_name_byte(byte)).unwrap_or(host.len());
        if end == 0 {
            return false;
        }
        &host[end..]
    };
    match after {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether the connection may serve another request (RFC 9112 section 9.3).
pub(super) fn keep_alive(fields: &Fields, version: Version) -> bool {
    let asked = match version {
        Version::Http11 => true,
        Version::Http10 => fields.has_token("connection", "keep-alive"),
    };
    asked && !fields.has_token("connection", "close")
}

/// Whether the peer waits for a 100 before it sends the body (RFC 9110 section 10.1.1).
pub(super) fn expects_continue(fields: &Fields, version: Version) -> Result<bool, Refusal> {
    // An HTTP/1.0 client cannot read an interim response (RFC 9110 section 10.1.1).
    if version == Version::Http10 {
        return Ok(false);
    }
    let mut expected = false;
    for member in fields.all("expect").flat_map(members) {
        if !member.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::new(417, "expectation", "The only supported expectation is 100-continue."));
        }
        expected = true;
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        let good = ["a", "hub.example:9243", "127.0.0.1", "[::1]", "[::1]:9243", "a:", "under_score", "%41"];
        let bad = [
            "", ":80", "a b", "a,b", "a/b", "user@a", "a:80:80", "a:x", "a:123456", "[::1", "[]", "[x]", "a?", "[::1]a",
        ];
        for host in good {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for host in bad {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
        assert!(!is_host(b"\xff"));
    }

    #[test]
    fn only_blanks_and_tabs_are_trimmed() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b"\x0ba"), b"\x0ba");
        assert_eq!(trim(b"  "), b"");
    }
}
