//! The first line of a request: method, target, version (RFC 9112 section 3).

use super::{
    Method, Refusal, Version,
    fields::{graphic_without, is_token_byte},
};
use crate::limits::LINE_BYTES_MAX;

/// Bytes of a method. Over it: 501. The longest known one has 7.
const METHOD_BYTES_MAX: usize = 16;

const SYNTAX: Refusal = Refusal::new(400, "request line", "The request line must be a method, a target and a version.");
const UNKNOWN_METHOD: Refusal = Refusal::new(501, "method", "The request method is unknown.");
pub(super) const TARGET_TOO_LONG: Refusal = Refusal::new(414, "target length", "The request target is too long.");

/// Refuses a line, complete or not, whose method is already invalid or too long.
pub(super) fn check_method_begins(line: &[u8]) -> Result<(), Refusal> {
    let seen = &line[..line.len().min(METHOD_BYTES_MAX + 1)];
    let method = seen.split(|byte| *byte == b' ').next().unwrap_or(seen);
    if (method.is_empty() && !seen.is_empty()) || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(SYNTAX);
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(UNKNOWN_METHOD);
    }
    Ok(())
}

/// Parses a complete line, without its CR LF. The version is checked before the method, so that an HTTP/2 client, whose
/// preface has the method `PRI`, gets 505 and not 501.
pub(super) fn parse(line: &[u8]) -> Result<(Method, &[u8], Version), Refusal> {
    check_method_begins(line)?;
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SYNTAX);
    };
    if target.is_empty() {
        return Err(SYNTAX);
    }
    let version = parse_version(version)?;
    if method == b"CONNECT" {
        return Err(Refusal::new(400, "method", "CONNECT is not supported: the hub is not a proxy."));
    }
    let method = Method::of(method).ok_or(UNKNOWN_METHOD)?;
    check_target(target)?;
    Ok((method, target, version))
}

fn parse_version(version: &[u8]) -> Result<Version, Refusal> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Err(Refusal::new(505, "version", "Only HTTP/1.1 and HTTP/1.0 are supported."))
        }
        _ => Err(SYNTAX),
    }
}

/// Accepts the origin form only (RFC 9112 section 3.2.1), and only a path that no two parsers can read in two ways: a
/// proxy may have allowed the one, and the hub would serve the other.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    const fn refuse(detail: &'static str) -> Refusal {
        Refusal::new(400, "target", detail)
    }
    if target.len() > LINE_BYTES_MAX {
        return Err(TARGET_TOO_LONG);
    }
    if target[0] != b'/' {
        return Err(refuse("The request target must begin with a slash."));
    }
    if !target.iter().all(|byte| TARGET_BYTE[usize::from(*byte)]) {
        return Err(refuse("The request target contains a character that must be percent-encoded."));
    }
    let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
    for at in memchr::memchr_iter(b'%', target) {
        match unescape(&target[at..]) {
            None => return Err(refuse("The request target has a percent sign without two hexadecimal digits.")),
            Some(..0x20 | 0x7f) => {
                return Err(refuse("The request target contains a percent-encoded control character."));
            }
            // Only in the path: in the query it cannot change which route is chosen.
            Some(b'/' | b'\\') if at < path.len() => {
                return Err(refuse("The path contains a percent-encoded slash or backslash."));
            }
            Some(_) => {}
        }
    }
    // Splitting costs time, and few paths have a segment that begins like a dot segment.
    let mut suspicious = false;
    for slash in memchr::memchr_iter(b'/', path) {
        match path.get(slash + 1) {
            Some(b'/') => return Err(refuse("The path contains an empty segment.")),
            Some(b'.' | b'%') => suspicious = true,
            _ => {}
        }
    }
    if suspicious && path.split(|byte| *byte == b'/').any(is_dots) {
        return Err(refuse("The path contains a dot segment."));
    }
    Ok(())
}

/// The bytes that a target may contain without percent-encoding.
const TARGET_BYTE: [bool; 256] = graphic_without(b"\"<>\\#");

/// The byte that is percent-encoded at the beginning of `text`.
fn unescape(text: &[u8]) -> Option<u8> {
    let digit =
        |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16)).and_then(|n| u8::try_from(n).ok());
    Some(digit(1)? << 4 | digit(2)?)
}

/// Whether a segment is `.` or `..`, percent-encoded or not.
fn is_dots(mut segment: &[u8]) -> bool {
    let mut dots = 0;
    while !segment.is_empty() && dots <= 2 {
        segment = match segment {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
    dots == 1 || dots == 2
}
