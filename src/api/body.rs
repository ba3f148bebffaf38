//! Parses request bodies as JSON, with errors that say where, and checks the texts in them.

use crate::wire::http::Response;
use serde::Deserialize;

/// Parses one JSON object. Unknown members are ignored; a member of `T` that is given twice is an error. Unknown
/// members and raw texts are skipped without recursion, so deep nesting cannot overflow the stack.
///
/// # Errors
/// A text that says what is wrong and where.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // Checked because serde's derived structures accept an array of their members as well.
    parse(text, '{', "expected a JSON object")
}

/// Parses one JSON array.
///
/// # Errors
/// A text that says what is wrong and where.
pub(super) fn parse_array<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Vec<T>, String> {
    parse(text, '[', "expected a JSON array")
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, first: char, expected: &str) -> Result<T, String> {
    // serde's error for a value of another type quotes it, and a string there may be long or a secret.
    let blank = text.len() - text.trim_ascii_start().len();
    if !text[blank..].starts_with(first) {
        return Err(format!("{expected} at byte {blank}"));
    }
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// The body as UTF-8 text; 400 if it is not.
pub(super) fn text(body: &[u8]) -> Result<&str, Response> {
    std::str::from_utf8(body)
        .map_err(|e| Response::error(400, &format!("the body is not UTF-8 at byte {}", e.valid_up_to())))
}

/// The body as one JSON object; 400 if it is not, with the place of the error.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Response> {
    parse_object(text(body)?).map_err(|e| Response::error(400, &e))
}

/// Checks that a text is not blank, has no control characters, and is at most `bytes_max` bytes long.
pub(super) fn check_text(name: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("`{name}` is empty"));
    }
    if text.len() > bytes_max {
        return Err(format!("`{name}` is longer than {bytes_max} bytes"));
    }
    // These texts are shown in logs and terminals, where control characters could forge a line.
    if text.chars().any(char::is_control) {
        return Err(format!("`{name}` contains control characters"));
    }
    Ok(())
}

/// The response to a body that is too large.
pub(super) fn too_large(bytes_max: usize) -> Response {
    Response::error(413, &format!("the body is too large: this call takes at most {bytes_max} bytes"))
}
