//! Bodies of known length and in chunks (acceptance list A6).

use crate::{
    limits::{CHUNK_EXTENSIONS_BYTES_MAX, CHUNK_LINE_BYTES_MAX},
    wire::http::{BodyDecoder, Framing, Refusal},
};

const BYTES_MAX: usize = 100_000;

/// The body and the number of bytes consumed; `None` if it is incomplete.
type Decoded = Result<Option<(Vec<u8>, usize)>, u16>;

pub(super) fn decode(framing: Framing, pieces: &[&[u8]], bytes_max: usize) -> Decoded {
    let (mut decoder, mut out, mut consumed) = (BodyDecoder::new(framing, bytes_max), Vec::new(), 0);
    let status = |refusal: Refusal| refusal.status;
    for piece in pieces {
        let (bytes, done) = decoder.decode(piece, &mut out).map_err(status)?;
        consumed += bytes;
        if done {
            assert_eq!(decoder.decode(b"next", &mut out), Ok((0, true)));
            return Ok(Some((out, consumed)));
        }
        assert_eq!(bytes, piece.len(), "all bytes of an incomplete body are consumed");
    }
    let done = decoder.decode(b"", &mut out).map_err(status)?.1;
    Ok(done.then_some((out, consumed)))
}

fn check_framed(framing: Framing, input: &[u8], bytes_max: usize, expected: &Decoded) {
    let single: Vec<&[u8]> = input.chunks(1).collect();
    let shown = String::from_utf8_lossy(&input[..input.len().min(100)]);
    assert_eq!(&decode(framing, &[input], bytes_max), expected, "{shown:?}");
    assert_eq!(&decode(framing, &single, bytes_max), expected, "byte for byte: {shown:?}");
}

fn check(input: impl AsRef<[u8]>, expected: Result<&str, u16>) {
    let input = input.as_ref();
    let expected = expected.map(|body| Some((body.as_bytes().to_vec(), input.len())));
    check_framed(Framing::Chunked, input, BYTES_MAX, &expected);
}

#[test]
fn chunks_are_joined() {
    check("0\r\n\r\n", Ok(""));
    check("5\r\nhello\r\n0\r\n\r\n", Ok("hello"));
    check("5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", Ok("hello!"));
    check("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", Ok("hello"));
    check("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Ok("01234567890123456789"));
    check("4\r\n\r\n\r\n\r\n0\r\n\r\n", Ok("\r\n\r\n"));
    check("1;name\r\na\r\n1;name=\"v ; w\"\r\nb\r\n0;last\r\n\r\n", Ok("ab"));
    check("0\r\nTrailer: value\r\nOther:\r\n\r\n", Ok(""));
}

#[test]
fn bytes_after_the_body_are_not_consumed() {
    check_framed(Framing::Chunked, b"1\r\na\r\n0\r\n\r\nGET /", 10, &Ok(Some((b"a".to_vec(), 11))));
    check_framed(Framing::Length(3), b"abcGET /", 10, &Ok(Some((b"abc".to_vec(), 3))));
    check_framed(Framing::Length(0), b"GET /", 10, &Ok(Some((Vec::new(), 0))));
    check_framed(Framing::None, b"GET /", 10, &Ok(Some((Vec::new(), 0))));
}

#[test]
fn an_incomplete_body_asks_for_more() {
    for input in [
        "",
        "5",
        "5\r",
        "5\r\n",
        "5\r\nhell",
        "5\r\nhello",
        "5\r\nhello\r",
        "5\r\nhello\r\n",
        "0\r\n",
        "0\r\nA: b\r\n",
        "0\r\n\r",
    ] {
        check_framed(Framing::Chunked, input.as_bytes(), BYTES_MAX, &Ok(None));
    }
    check_framed(Framing::Length(3), b"ab", BYTES_MAX, &Ok(None));
}

#[test]
fn a6_a_chunk_size_must_be_hexadecimal_digits() {
    for size in [
        "0x5",
        "+5",
        "-5",
        "5_0",
        "",
        " 5",
        "5 ",
        "5 ;a",
        "\t5",
        "g",
        "5h",
        ";a",
        "5,",
        "00000000000000005",
        "12345678901234567",
    ] {
        check(format!("{size}\r\nhello\r\n0\r\n\r\n"), Err(400));
    }
}

#[test]
fn a6_lines_between_chunks_must_end_with_cr_lf() {
    let bad = [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\rX",
        "5\r\nhello\r\n\r\n",
        "5\rX",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello",
        "\r\n5\r\nhello",
        "0\r\nA: b\n\r\n",
        "0\r\nA: b\rc\r\n\r\n",
        "0\r\nA: \0\r\n\r\n",
    ];
    for input in bad {
        check(input, Err(400));
    }
    // Here the LF is the first byte of the data, so the data does not end with CR LF.
    check("5\r\n\nhello", Err(400));
}

#[test]
fn trailers_are_checked_and_discarded() {
    for trailer in ["no colon", ": v", "A : b", " A: b", "\u{e4}: b"] {
        check(format!("0\r\n{trailer}\r\n\r\n"), Err(400));
    }
    let filled = |bytes: usize| format!("0\r\nA: {}\r\n\r\n", "a".repeat(bytes - "A: \r\n\r\n".len()));
    check(filled(CHUNK_LINE_BYTES_MAX), Ok(""));
    check(filled(CHUNK_LINE_BYTES_MAX + 1), Err(400));
    check(format!("0\r\n{}", "A: b\r\n".repeat(CHUNK_LINE_BYTES_MAX / 6 + 1)), Err(400));
}

#[test]
fn chunk_extensions_are_bounded() {
    let chunk = |bytes: usize| format!("1;{}\r\na\r\n", "x".repeat(bytes - "1;\r\n".len()));
    check(format!("{}0\r\n\r\n", chunk(CHUNK_LINE_BYTES_MAX)), Ok("a"));
    check(chunk(CHUNK_LINE_BYTES_MAX + 1), Err(400));
    check(format!("1;{}", "x".repeat(CHUNK_LINE_BYTES_MAX)), Err(400));
    let many = CHUNK_EXTENSIONS_BYTES_MAX / CHUNK_LINE_BYTES_MAX;
    check(format!("{}0\r\n\r\n", chunk(CHUNK_LINE_BYTES_MAX).repeat(many)), Ok(&"a".repeat(many)));
    check(chunk(CHUNK_LINE_BYTES_MAX).repeat(many + 1), Err(400));
}

#[test]
fn a_body_of_exactly_the_bound_passes_and_one_byte_more_is_refused() {
    let body = "x".repeat(10);
    check_framed(Framing::Length(10), body.as_bytes(), 10, &Ok(Some((body.clone().into(), 10))));
    check_framed(Framing::Length(11), b"x", 10, &Err(413));
    check_framed(Framing::Length(u64::MAX), b"", 10, &Err(413));
    check_framed(Framing::Chunked, b"a\r\nxxxxxxxxxx\r\n0\r\n\r\n", 10, &Ok(Some((body.into(), 20))));
    check_framed(Framing::Chunked, b"b\r\n", 10, &Err(413));
    check_framed(Framing::Chunked, b"9\r\nxxxxxxxxx\r\n2\r\n", 10, &Err(413));
    check_framed(Framing::Chunked, b"ffffffffffffffff\r\n", 10, &Err(413));
    check_framed(Framing::Chunked, b"1\r\nx\r\nffffffffffffffff\r\n", 10, &Err(413));
}

#[test]
fn a_refused_body_stays_refused() {
    let (mut decoder, mut out) = (BodyDecoder::new(Framing::Chunked, 10), Vec::new());
    let first = decoder.decode(b"5\r\nhelloX", &mut out);
    assert_eq!(first.map_err(|refusal| refusal.reason), Err("chunk"));
    assert_eq!(decoder.decode(b"\r\n0\r\n\r\n", &mut out), first);
}

#[test]
fn memory_grows_by_received_bytes_not_by_the_announced_length() {
    let mut out = Vec::new();
    for framing in [Framing::Length(8 << 20), Framing::Chunked] {
        let mut decoder = BodyDecoder::new(framing, 8 << 20);
        assert_eq!(decoder.decode(b"7fffff\r\nabc", &mut out), Ok((11, false)));
        assert!(out.capacity() <= 64, "{}", out.capacity());
    }
}
