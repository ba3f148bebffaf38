//! Reads request bodies: JSON objects, with errors that say where, and the rules that texts in them follow.

use crate::wire::http::Response;
use serde::Deserialize;

/// Reads one JSON object. Unknown members are ignored, a member that is there twice is refused. Values that `T` takes
/// as raw text, and values that nobody asked for, are skipped without recursion, however deep they are nested.
///
/// # Errors
/// A sentence that says what is wrong and where.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // A derived structure would take an array of its members as well.
    parse(text, '{', "a JSON object is expected")
}

/// Reads one JSON array, with the same care.
///
/// # Errors
/// A sentence that says what is wrong and where.
pub(super) fn parse_array<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Vec<T>, String> {
    parse(text, '[', "a JSON array is expected")
}

/// Checks the first character itself, so that no error quotes a long string that stands there instead.
fn parse<'a, T: Deserialize<'a>>(text: &'a str, first: char, expected: &str) -> Result<T, String> {
    let blank = text.len() - text.trim_ascii_start().len();
    if !text[blank..].starts_with(first) {
        return Err(format!("{expected} at byte {blank}"));
    }
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// The body as text.
pub(super) fn text(body: &[u8]) -> Result<&str, Response> {
    std::str::from_utf8(body)
        .map_err(|e| Response::error(400, &format!("the body is not UTF-8 at byte {}", e.valid_up_to())))
}

/// The body as one JSON object; 400 that says where where it is none.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Response> {
    parse_object(text(body)?).map_err(|e| Response::error(400, &e))
}

/// Checks a text for people or programs: not blank, no control characters, at most `bytes_max` long.
pub(super) fn check_text(name: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    if text.len() > bytes_max {
        return Err(format!("`{name}` is longer than {bytes_max} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("`{name}` has control characters"));
    }
    Ok(())
}

/// The answer to a body over its bound.
pub(super) fn too_large(bytes_max: usize) -> Response {
    Response::error(413, &format!("the body of this call is at most {bytes_max} bytes"))
}
