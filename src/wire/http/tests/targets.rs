//! Methods, versions and targets (acceptance list A8).

use super::*;
use crate::limits::LINE_BYTES_MAX;

fn check_line(line: &str, expected: u16) {
    check(lines([line, "Host: hub"]), expected);
}

fn check_target(target: &str, expected: u16) {
    check_line(&format!("GET {target} HTTP/1.1"), expected);
}

#[test]
fn only_known_methods_are_accepted() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        check_line(&format!("{method} /a HTTP/1.1"), 200);
        assert_eq!(parsed(lines([&format!("{method} /a HTTP/1.1"), "Host: hub"])).method.as_str(), method);
    }
    for method in ["get", "Get", "BREW", "G|T!", "GETT", "SIXTEEN-LETTERS-", "SEVENTEEN-LETTERS"] {
        check_line(&format!("{method} /a HTTP/1.1"), 501);
    }
    check("SEVENTEEN-LETTERS", 501);
    check(format!("{} /a HTTP/1.1\r\n", "M".repeat(1 << 20)), 501);
    check_line("CONNECT hub:443 HTTP/1.1", 400);
    check_line("CONNECT /a HTTP/1.1", 400);
    for method in ["G(T", "G\u{e4}T", "G\0T", "\"GET\"", "G\tT"] {
        check_line(&format!("{method} /a HTTP/1.1"), 400);
    }
}

#[test]
fn bytes_that_are_not_http_are_refused_at_once() {
    check(b"\x16\x03\x01", 400);
    check(b"\0", 400);
    check("{\"type\"", 400);
    check(" GET", 400);
}

#[test]
fn only_http_1_0_and_1_1_are_accepted() {
    check_line("GET /a HTTP/1.1", 200);
    check_line("GET /a HTTP/1.0", 200);
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/9.9"] {
        check_line(&format!("GET /a {version}"), 505);
    }
    for version in ["http/1.1", "HTTP/1", "HTTP/1.10", "HTTP/11", "HTTP/1.1x", "HTTPS/1.1", "HTTP /1.1", "x"] {
        check_line(&format!("GET /a {version}"), 400);
    }
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    check("GET /a\r\n", 400);
    check("GET\r\n", 400);
}

#[test]
fn a_request_line_must_have_three_parts_and_two_blanks() {
    for line in [
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET  HTTP/1.1",
        "GET\t/a\tHTTP/1.1",
    ] {
        check_line(line, 400);
    }
}

#[test]
fn only_the_origin_form_is_accepted_as_target() {
    for target in ["http://hub/a", "https://hub", "*", "hub:443", "a", "?a", "./a", "//hub/a", "\\a"] {
        check_target(target, 400);
    }
    for target in [
        "/",
        "/a",
        "/a/",
        "/a?b",
        "/?",
        "/a;b=c/d",
        "/a-b_c~d.e",
        "/a:b@c",
        "/%41",
        "/.well-known",
        "/a..b",
        "/...",
        "/a?b?c/d",
    ] {
        check_target(target, 200);
    }
}

#[test]
fn targets_that_can_be_read_in_two_ways_are_refused() {
    let bad = [
        "/ws/../stats",
        "/..",
        "/a/..",
        "/./a",
        "/a/.",
        "/%2e%2e/a",
        "/.%2E/a",
        "/%2e",
        "//stats",
        "/a//b",
        "/a/?/..//\u{e4}",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0a",
        "/a%7f",
        "/a?b=%00",
        "/a?b=%0a",
        "/a#x",
        "/a?b#x",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%+1",
        "/a?b=%",
        "/a\"b",
        "/a<b",
        "/a>b",
        "/\u{e4}",
        "/a\x01b",
        "/a\x7fb",
        "/a\tb",
    ];
    for target in bad {
        check_target(target, 400);
    }
    check(b"GET /\xff HTTP/1.1\r\nHost: hub\r\n\r\n", 400);
    for target in ["/a?b=../c", "/a?b=//c", "/a?b=%2f%5c", "/a?b=%c3%a4", "/a?lastPosition=ab%3D%3D"] {
        check_target(target, 200);
    }
}

#[test]
fn the_bytes_of_a_target_are_bounded() {
    let target = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    check_target(&target(LINE_BYTES_MAX), 200);
    check_target(&target(LINE_BYTES_MAX + 1), 414);
    check(format!("GET {}", target(LINE_BYTES_MAX + 64)), 414);
    check(format!("GET {}", target(1 << 20)), 414);
}
