//! Lines, fields, hosts, framing and bounds of heads (acceptance list A1 to A5, A7, A9, A10).

use super::*;
use crate::{
    limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, LINE_BYTES_MAX},
    wire::http::{Framing, Method, Version, check_length},
};

#[test]
fn a_head_is_parsed() {
    let head = parsed(
        "POST /api/v1/events?limit=1&offset=2 HTTP/1.1\r\nhOST: hub:9243\r\nApi-Key: \t one \t\r\nX-Two: a\r\nx-two:b\r\n\
         Empty:\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\nabc",
    );
    assert_eq!((head.method, head.version, head.framing), (Method::Post, Version::Http11, Framing::Length(3)));
    assert_eq!((head.path(), head.query()), ("/api/v1/events", Some("limit=1&offset=2")));
    assert_eq!(head.field("api-key"), Some(&b"one"[..]));
    assert_eq!(head.fields("X-TWO").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!((head.field("empty"), head.field("absent")), (Some(&b""[..]), None));
    assert_eq!((head.only_field("host"), head.only_field("x-two")), (Some(&b"hub:9243"[..]), None));
    assert!(head.keep_alive && head.expects_continue);
}

#[test]
fn a_head_can_be_sent_to_another_core_and_debug_shows_no_keys() {
    fn assert_send<T: Send>(_: &T) {}
    let head = parsed("GET /ws?key=secret HTTP/1.1\r\nHost: hub\r\napi-key: secret\r\n\r\n");
    assert_send(&head);
    assert_eq!(format!("{head:?}"), "Head(GET /ws)");
}

#[test]
fn a1_lines_must_end_with_cr_lf() {
    check("GET /a HTTP/1.1\nHost: hub\r\n\r\n", 400);
    check("GET /a HTTP/1.1\r\nHost: hub\n\r\n", 400);
    check("GET /a HTTP/1.1\r\nHost: hub\r\n\n", 400);
    check("GET /a HTTP/1.1\nHost: hub\n\n", 400);
    check("GET /a HTTP/1.1\n", 400);
    check("GET /a HTTP/1.1\r\nHost: hub\r\r\n\r\n", 400);
    check("GET /a HTTP/1.1\r\n Host: hub\r\n\r\n", 400);
}

#[test]
fn one_empty_line_before_a_head_is_ignored() {
    check("\r\nGET /a HTTP/1.1\r\nHost: hub\r\n\r\n", 200);
    check("\r\n\r\nGET /a HTTP/1.1\r\nHost: hub\r\n\r\n", 400);
    check("\nGET /a HTTP/1.1\r\nHost: hub\r\n\r\n", 400);
    check("\rGET /a HTTP/1.1\r\nHost: hub\r\n\r\n", 400);
    check(" \r\nGET /a HTTP/1.1\r\nHost: hub\r\n\r\n", 400);
    let head = parsed("\r\nGET /a?b HTTP/1.1\r\nHost: hub\r\n\r\n");
    assert_eq!((head.path(), head.query(), head.field("host")), ("/a", Some("b"), Some(&b"hub"[..])));
}

#[test]
fn a2_exactly_one_valid_host_is_required() {
    check(lines(["GET /a HTTP/1.1"]), 400);
    check(lines(["GET /a HTTP/1.0"]), 200);
    check(lines(["GET /a HTTP/1.1", "Host: a", "Host: a"]), 400);
    check(lines(["GET /a HTTP/1.1", "Host: a", "hOSt: b"]), 400);
    check(lines(["GET /a HTTP/1.0", "Host: a", "Host: b"]), 400);
    check(lines(["GET http://a/ HTTP/1.1", "Host:"]), 400);
    check(lines(["GET /a HTTP/1.1", "Host:"]), 400);
    check(lines(["GET /a HTTP/1.1", "Host: a, b"]), 400);
    check(lines(["GET /a HTTP/1.1", "Host: a/b"]), 400);
    check(lines(["GET /a HTTP/1.1", "Host: [::1]:9243"]), 200);
}

#[test]
fn a3_a_length_together_with_a_coding_is_refused() {
    for (length, coding) in [("Content-Length", "Transfer-Encoding"), ("CONTENT-LENGTH", "transfer-encoding")] {
        let (length, coding) = (format!("{length}: 5"), format!("{coding}: chunked"));
        check(lines(["POST /a HTTP/1.1", "Host: hub", &length, &coding]), 400);
        check(lines(["POST /a HTTP/1.1", "Host: hub", &coding, &length]), 400);
    }
    check(lines(["POST /a HTTP/1.1", "Host: hub", "Transfer-Encoding: xchunked", "Content-Length: 5"]), 400);
}

#[test]
fn a4_a_length_must_be_one_decimal_number() {
    for bad in
        ["+5", "-1", "0x5", "5, 5", "5,5", "5 6", "", "1Z", "18446744073709551616", "5.0", "\u{665}", "1_0", "5;"]
    {
        check(get_with(&format!("Content-Length: {bad}")), 400);
    }
    check(get_with("Content-Length: 5\r\nContent-Length: 6"), 400);
    check(get_with("Content-Length: 5\r\ncontent-length: 5"), 400);
    for (good, bytes) in [("0", 0), ("5", 5), (" 5\t", 5), ("0005", 5), ("18446744073709551615", u64::MAX)] {
        assert_eq!(parsed(get_with(&format!("Content-Length:{good}"))).framing, Framing::Length(bytes));
    }
}

#[test]
fn a5_only_the_coding_chunked_is_accepted() {
    let rows = [
        ("chunked", 200),
        ("Chunked", 200),
        (" \tchunked ", 200),
        ("xchunked", 501),
        ("identity", 501),
        ("gzip, chunked", 501),
        ("chunked, gzip", 501),
        (",chunked", 400),
        ("chunked,", 400),
        ("chunked, chunked", 400),
        ("chunked;q=1", 400),
        ("\"chunked\"", 400),
        ("chun ked", 400),
        ("\x0bchunked", 400),
        ("", 400),
    ];
    for (coding, expected) in rows {
        check(get_with(&format!("Transfer-Encoding:{coding}")), expected);
    }
    check(get_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400);
    check(get_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), 400);
    check(lines(["POST /a HTTP/1.0", "Host: hub", "Transfer-Encoding: chunked"]), 400);
    check(get_with("Transfer-Encoding : chunked"), 400);
    check(get_with("Transfer\0-Encoding: chunked"), 400);
    assert_eq!(parsed(get_with("Transfer-Encoding: chunked")).framing, Framing::Chunked);
}

#[test]
fn a7_malformed_fields_are_refused() {
    let bad = [
        "X: a\0b",
        "X: a\rb",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X : a",
        "X\t: a",
        ": a",
        "X",
        "X\r\n: a",
        "N me: a",
        " X: a",
        "\tX: a",
        "N\u{e4}me: a",
        "X: a\x7fb",
        "X: a\x1bb",
        "X\0: a",
        "(X): a",
        "\"X\": a",
        "X: a\r\n\r\r\n",
    ];
    for field in bad {
        check(get_with(field), 400);
    }
    check(b"GET /a HTTP/1.1\r\nHost: hub\r\nN\xffme: a\r\n\r\n", 400);
    check(b"GET /a HTTP/1.1\r\nHost: hub\r\nX: \xff\x80\r\n\r\n", 200);
    check(get_with("X: a\tb  c"), 200);
    check(get_with("X_y.z!: a"), 200);
}

#[test]
fn a9_the_bytes_of_a_head_are_bounded() {
    let filled = |bytes: usize| {
        let lines: String = (0..8).map(|at| format!("X{at}: {}\r\n", "x".repeat(2000))).collect();
        let begin = format!("GET /a HTTP/1.1\r\nHost: hub\r\n{lines}Y: ");
        format!("{begin}{}\r\n\r\n", "y".repeat(bytes - begin.len() - 4))
    };
    check(filled(HEAD_BYTES_MAX), 200);
    check(filled(HEAD_BYTES_MAX + 1), 431);
    check(&filled(HEAD_BYTES_MAX + 1)[..HEAD_BYTES_MAX], 431);
    check(&filled(HEAD_BYTES_MAX)[..HEAD_BYTES_MAX - 1], 0);
    check(format!("{}{}", filled(HEAD_BYTES_MAX), "z".repeat(100_000)), 200);
}

#[test]
fn a9_the_bytes_of_a_line_are_bounded() {
    check(get_with(&format!("api-key: {}", "k".repeat(LINE_BYTES_MAX))), 200);
    check(get_with(&format!("api-key: {}", "k".repeat(LINE_BYTES_MAX + 64))), 431);
    check(format!("GET /a HTTP/1.1\r\nHost: hub\r\nX: {}", "x".repeat(LINE_BYTES_MAX + 64)), 431);
    check(format!("GET /a HTTP/1.1\r\nHost: hub\r\n{}", "x".repeat(LINE_BYTES_MAX + 65)), 431);
}

#[test]
fn a9_the_number_of_fields_is_bounded() {
    let with = |fields: usize| {
        let rest: String = (1..fields).map(|at| format!("x{at}: {at}\r\n")).collect();
        format!("GET /a HTTP/1.1\r\nHost: hub\r\n{rest}\r\n")
    };
    check(with(HEAD_FIELDS_MAX), 200);
    check(with(HEAD_FIELDS_MAX + 1), 431);
    assert_eq!(parsed(with(HEAD_FIELDS_MAX)).field("x63"), Some(&b"63"[..]));
}

#[test]
fn a9_bytes_are_not_scanned_twice() {
    let input = b"GET /a HTTP/1.1\r\nHost: hub\r\nX: aaaaaaaa";
    let mut parser = HeadParser::new();
    assert!(parser.parse(input).expect("not refused").is_none());
    // Scanning any of these again would refuse them.
    let blank = [&vec![b'\n'; input.len()], &b"a"[..]].concat();
    assert!(parser.parse(&blank).expect("only the last byte is new").is_none());
}

#[test]
fn a9_single_bytes_are_refused_at_the_bound() {
    let begin = b"GET /a HTTP/1.1\r\nHost: hub\r\n";
    let short_lines = b"X: 01234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    for (rest, bound) in [(vec![b'a'; 1 << 20], LINE_BYTES_MAX + 128), (short_lines.repeat(10_000), HEAD_BYTES_MAX)] {
        let input = [&begin[..], &rest].concat();
        let mut parser = HeadParser::new();
        let refused_at = (0..input.len()).find(|end| parser.parse(&input[..*end]).is_err()).expect("refused");
        assert!(refused_at <= bound, "{refused_at}");
    }
}

#[test]
fn a10_two_heads_in_one_segment_are_parsed_in_order() {
    let input = "GET /a HTTP/1.1\r\nHost: hub\r\n\r\nGET /b?c HTTP/1.1\r\nHost: hub\r\n\r\n".as_bytes();
    let mut parser = HeadParser::new();
    let (first, consumed) = parser.parse(input).expect("not refused").expect("complete");
    let (second, rest) = parser.parse(&input[consumed..]).expect("not refused").expect("complete");
    assert_eq!((first.path(), second.path(), second.query()), ("/a", "/b", Some("c")));
    assert_eq!(consumed + rest, input.len());
    assert!(parser.parse(b"").expect("nothing to refuse").is_none());
}

#[test]
fn a10_an_announced_length_over_the_bound_is_refused_before_a_100() {
    assert_eq!(check_length(Framing::Length(10), 10), Ok(()));
    assert_eq!(check_length(Framing::Length(11), 10).map_err(|refusal| refusal.status), Err(413));
    assert_eq!(check_length(Framing::Length(u64::MAX), 10).map_err(|refusal| refusal.status), Err(413));
    assert_eq!(check_length(Framing::Chunked, 0), Ok(()));
}

#[test]
fn a_connection_is_kept_open_if_the_client_allows_it() {
    let rows = [
        ("HTTP/1.1", "X: y", true),
        ("HTTP/1.1", "Connection: close", false),
        ("HTTP/1.1", "Connection: keep-alive, CLOSE", false),
        ("HTTP/1.1", "Connection: upgrade\r\nConnection: close", false),
        ("HTTP/1.1", "Connection: closed", true),
        ("HTTP/1.0", "X: y", false),
        ("HTTP/1.0", "Connection: Keep-Alive", true),
        ("HTTP/1.0", "Connection: keep-alive, close", false),
    ];
    for (version, field, expected) in rows {
        let head = parsed(lines([&format!("GET /a {version}"), "Host: hub", field]));
        assert_eq!(head.keep_alive, expected, "{version} {field}");
    }
}

#[test]
fn only_100_continue_is_accepted_as_expectation() {
    assert!(parsed(get_with("Expect: 100-continue")).expects_continue);
    assert!(!parsed(get_with("X: y")).expects_continue);
    assert!(!parsed(lines(["GET /a HTTP/1.0", "Expect: 100-continue"])).expects_continue);
    check(get_with("Expect: 200-ok"), 417);
    check(get_with("Expect: 100-continue, x"), 417);
}

#[test]
fn a_refusal_closes_the_connection_and_repeats_no_bytes() {
    let refusal = parse(b"GET /secret\x01 HTTP/1.1\r\n").expect_err("refused");
    let response = refusal.response();
    assert!(response.close);
    assert_eq!(response.status, 400);
    assert!(!String::from_utf8_lossy(&response.body).contains("secret"));
}
