//! Tables of inputs with the expected status. The result must not depend on how the bytes are split.

mod any_split;
mod bodies;
mod heads;
mod targets;

use super::{Head, HeadParser, Refusal};

/// Parses the input in one piece.
fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    HeadParser::new().parse(input)
}

/// Parses the input up to each of `cuts` in turn, then the whole.
fn parse_in_pieces(input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Result<Option<(Head, usize)>, Refusal> {
    let mut parser = HeadParser::new();
    for cut in cuts {
        if let Some(found) = parser.parse(&input[..cut])? {
            return Ok(Some(found));
        }
    }
    parser.parse(input)
}

fn status(result: Result<Option<(Head, usize)>, Refusal>) -> u16 {
    match result {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(refusal) => refusal.status,
    }
}

/// Checks the result, in one piece and byte by byte: 200 is a head, 0 is incomplete, any other status is a refusal.
fn check(input: impl AsRef<[u8]>, expected: u16) {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned();
    assert_eq!(status(parse(input)), expected, "{shown:?}");
    assert_eq!(status(parse_in_pieces(input, 0..input.len())), expected, "byte for byte: {shown:?}");
}

/// A head made of these lines.
fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines.into_iter().flat_map(|line| [line, "\r\n"]).chain(["\r\n"]).collect()
}

/// A `GET` with one more field.
fn get_with(field: &str) -> String {
    lines(["GET /a HTTP/1.1", "Host: hub", field])
}

fn parsed(input: impl AsRef<[u8]>) -> Head {
    parse(input.as_ref()).expect("not refused").expect("complete").0
}
