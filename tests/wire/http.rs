//! HTTP/1.1 over a real socket (acceptance list A): refused requests, and requests that must work.

use crate::{
    harness::{TestHub, on_one_and_four},
    request::{Answer, CONNECT_PATH, Request},
    socket::{PATIENCE, PROMPT, Wire},
};
use gatecast::limits;
use std::time::{Duration, Instant};

/// A case: its name, the bytes to send, and the accepted statuses.
type Row = (&'static str, &'static str, &'static [u16]);

const BAD_HEADS: &[Row] = &[
    ("bare LF after the request line", "GET /health HTTP/1.1\nHost: a\r\n\r\n", &[400]),
    ("bare LF after a field", "GET /health HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", &[400]),
    ("bare LF at the end", "GET /health HTTP/1.1\r\nHost: a\r\n\n", &[400]),
    ("no host", "GET /health HTTP/1.1\r\n\r\n", &[400]),
    ("two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400]),
    ("an empty host and an absolute target", "GET http://a/health HTTP/1.1\r\nHost:\r\n\r\n", &[400]),
    ("a NUL in a value", "GET /health HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", &[400]),
    ("a bare CR in a value", "GET /health HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", &[400]),
    ("a folded line", "GET /health HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", &[400]),
    ("a folded first line", "GET /health HTTP/1.1\r\n Host: a\r\n\r\n", &[400]),
    ("a space before the colon", "GET /health HTTP/1.1\r\nHost : a\r\n\r\n", &[400]),
    ("an empty name", "GET /health HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", &[400]),
    ("no colon", "GET /health HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", &[400]),
    ("a name that is not ASCII", "GET /health HTTP/1.1\r\nHost: a\r\nXé: b\r\n\r\n", &[400]),
    ("a split name", "GET /health HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", &[400]),
    ("an unknown method", "BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", &[501, 405]),
    ("a method in lower case", "get /health HTTP/1.1\r\nHost: a\r\n\r\n", &[501, 405, 400]),
    ("a long method", "GETGETGETGETGETGET /health HTTP/1.1\r\nHost: a\r\n\r\n", &[501, 405, 400]),
    ("HTTP/2.0", "GET /health HTTP/2.0\r\nHost: a\r\n\r\n", &[505, 400]),
    ("HTTP/1.2", "GET /health HTTP/1.2\r\nHost: a\r\n\r\n", &[505, 400]),
    ("no version", "GET /health\r\n\r\n", &[400, 505]),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505, 400]),
    ("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
];

const BAD_FRAMING: &[Row] = &[
    ("length, then chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
    ("chunked, then length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", &[400]),
    ("both in another case", "content-length: 5\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n", &[400]),
    ("length +5", "Content-Length: +5\r\n\r\nabcde", &[400]),
    ("length -1", "Content-Length: -1\r\n\r\n", &[400]),
    ("length 0x5", "Content-Length: 0x5\r\n\r\nabcde", &[400]),
    ("length 5, 5", "Content-Length: 5, 5\r\n\r\nabcde", &[400]),
    ("length 5 6", "Content-Length: 5 6\r\n\r\nabcde", &[400]),
    ("an empty length", "Content-Length:\r\n\r\n", &[400]),
    ("length 1Z", "Content-Length: 1Z\r\n\r\na", &[400]),
    ("length 2^64", "Content-Length: 18446744073709551616\r\n\r\n", &[400, 413]),
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", &[400]),
    ("the same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", &[400]),
    ("xchunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[501, 400]),
    (",chunked", "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", &[501, 400]),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", &[501, 400]),
    ("identity", "Transfer-Encoding: identity\r\n\r\n", &[501, 400]),
    ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[501, 400]),
    ("two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[501, 400]),
    ("chunk size 0x5", "Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n", &[400]),
    ("chunk size +5", "Transfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n", &[400]),
    ("chunk size 5_0", "Transfer-Encoding: chunked\r\n\r\n5_0\r\nabcde\r\n0\r\n\r\n", &[400]),
    ("no chunk size", "Transfer-Encoding: chunked\r\n\r\n\r\nabcde\r\n0\r\n\r\n", &[400]),
    ("a blank before the chunk size", "Transfer-Encoding: chunked\r\n\r\n 5\r\nabcde\r\n0\r\n\r\n", &[400]),
    ("17 digits", "Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\nabcde\r\n0\r\n\r\n", &[400, 413]),
    ("no CRLF after a chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeX0\r\n\r\n", &[400]),
    ("bare LF after a size", "Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n", &[400]),
    ("bare CR in an extension", "Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nabcde\r\n0\r\n\r\n", &[400]),
];

/// A request that must not be parsed: a second answer would show that it was.
const SMUGGLED: &str = "GET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n";

/// Sends these bytes and a request that must not be parsed after them, and expects one answer and the end.
fn refused_for_good(hub: &TestHub, name: &str, bytes: &str, statuses: &[u16]) {
    eprintln!("{name}");
    let mut wire = hub.wire();
    wire.send(format!("{bytes}{SMUGGLED}").as_bytes());
    let answer = Answer::read_last(&mut wire);
    assert!(statuses.contains(&answer.status), "{name}: {answer:?}");
}

#[test]
fn a_bad_head_is_refused_once_and_the_connection_ends() {
    on_one_and_four(|hub| {
        for (name, bytes, statuses) in BAD_HEADS {
            refused_for_good(hub, name, bytes, statuses);
        }
    });
}

#[test]
fn a_bad_body_length_is_refused_and_nothing_is_published() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let (id, token) = (&gateway.id, hub.admin_token());
        for (name, rest, statuses) in BAD_FRAMING {
            let head =
                format!("POST /api/v1/gateways/{id}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}");
            refused_for_good(hub, name, &format!("{head}\r\n{rest}"), statuses);
        }
        let old = "POST /api/v1/events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        refused_for_good(hub, "chunked in HTTP/1.0", old, &[400, 501]);
        hub.publish(&gateway.id, "marker", "{}");
        assert_eq!(peer.event().kind, "marker", "a refused publish was delivered");
    });
}

#[test]
fn a_path_that_resembles_a_route_is_not_routed() {
    let targets = [
        "/api/internal/v1/ws/../stats",
        "/api/internal/v1//stats",
        "//api/internal/v1/stats",
        "/api/internal/v1/%73tats",
        "/api/internal/v1/stats%00",
        "/api/internal/v1/stats#x",
        "/api/internal/v1/stats/",
        "/api%2finternal/v1/stats",
        "http://localhost/api/internal/v1/stats",
        "*",
        "localhost:443",
        "/internal/gateway/.well-known",
        "/",
    ];
    on_one_and_four(|hub| {
        for target in targets {
            let answer = hub.call("GET", target, "");
            assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
        }
        let answer = hub.ask(&Request::new("CONNECT", "localhost:443"));
        assert!(matches!(answer.status, 400 | 404 | 405 | 501), "{answer:?}");
    });
}

#[test]
fn a_method_that_a_path_does_not_allow_is_405() {
    let path = "/api/internal/v1/stats";
    on_one_and_four(|hub| {
        for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
            let answer = hub.call(method, path, "");
            assert!(matches!(answer.status, 405 | 501), "{method}: {answer:?}");
            let allow = answer.field("allow");
            assert!(answer.status == 501 || allow.is_some_and(|a| a.contains("GET")), "{method}: {answer:?}");
        }
    });
}

#[test]
fn a_head_is_bounded_to_the_byte_and_the_field() {
    let padded = |bytes: usize| {
        let mut request = Request::new("GET", "/health");
        while request.bytes().len() + 1_006 + 6 <= bytes {
            request = request.with("pad", "x".repeat(999));
        }
        let rest = bytes - request.bytes().len() - "x: \r\n".len();
        request.with("x", "x".repeat(rest)).bytes()
    };
    let fields =
        |count: usize| (1..count).fold(Request::new("GET", "/health"), |r, n| r.with("x", n.to_string())).bytes();
    let target = |bytes: usize| Request::new("GET", &format!("/health?{}", "x".repeat(bytes - 8))).bytes();
    let table = [
        ("a head of 16 KiB", padded(limits::HEAD_BYTES_MAX), 200),
        ("one byte more", padded(limits::HEAD_BYTES_MAX + 1), 431),
        ("64 fields", fields(limits::HEAD_FIELDS_MAX), 200),
        ("65 fields", fields(limits::HEAD_FIELDS_MAX + 1), 431),
        ("a long target", target(limits::LINE_BYTES_MAX - 100), 200),
        ("a target that is too long", target(limits::LINE_BYTES_MAX + 1), 414),
        ("a field that is too long", Request::new("GET", "/health").with("x", "x".repeat(9_000)).bytes(), 431),
        ("a head without end", [b"GET /health HTTP/1.1\r\n".as_slice(), &[b'x'; 20_000]].concat(), 431),
    ];
    on_one_and_four(|hub| {
        for (name, bytes, status) in &table {
            eprintln!("{name}");
            let mut wire = hub.wire();
            wire.send(bytes);
            let answer = if *status == 200 { Answer::read(&mut wire).unwrap() } else { Answer::read_last(&mut wire) };
            assert_eq!(answer.status, *status, "{name}: {answer:?}");
        }
    });
}

#[test]
fn a_request_may_arrive_in_single_bytes() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let mut wire = hub.wire();
        let body = r#"{"type":"slow","payload":{}}"#;
        let request = hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), body);
        for byte in request.bytes() {
            wire.send(&[byte]);
        }
        assert_eq!(Answer::read(&mut wire).unwrap().status, 200);
        assert_eq!(peer.event().kind, "slow");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut wire = hub.wire();
        let publish = hub.platform_request(
            "POST",
            &format!("/api/v1/gateways/{}/events", gateway.id),
            r#"{"type":"t","payload":{}}"#,
        );
        let requests = [Request::new("GET", "/health"), Request::new("GET", "/nowhere"), publish];
        let bytes: Vec<u8> = (0..30).flat_map(|n| requests[n % 3].bytes()).collect();
        wire.send(&bytes);
        for n in 0..30 {
            let answer = Answer::read(&mut wire).unwrap();
            assert_eq!(answer.status, [200, 404, 200][n % 3], "answer {n}: {answer:?}");
        }
    });
}

#[test]
fn bytes_after_a_request_with_connection_close_are_ignored() {
    on_one_and_four(|hub| {
        let mut wire = hub.wire();
        wire.send(&[Request::new("GET", "/health").with("Connection", "close").bytes(), SMUGGLED.into()].concat());
        assert_eq!(Answer::read_last(&mut wire).status, 200);
        let mut wire = hub.wire();
        wire.send(&[Request::new("GET", "/health").line("GET /health HTTP/1.0").bytes(), SMUGGLED.into()].concat());
        assert_eq!(Answer::read_last(&mut wire).status, 200);
    });
}

#[test]
fn a_connection_serves_many_requests_and_head_has_no_body() {
    on_one_and_four(|hub| {
        let mut wire = hub.wire();
        for method in ["GET", "HEAD", "GET", "HEAD", "GET"] {
            wire.send(&Request::new(method, "/health").bytes());
            let answer = Answer::read_to(method, &mut wire).unwrap();
            assert_eq!(answer.status, 200, "{method}: {answer:?}");
            assert_eq!(method == "HEAD", answer.body.is_empty(), "{method}: {answer:?}");
        }
        let silence = Instant::now() + Duration::from_millis(50);
        assert!(!wire.fill(silence) && wire.end().is_none(), "the connection stays open without further bytes");
    });
}

#[test]
fn a_chunked_body_is_joined_as_sent() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let mut wire = hub.wire();
        let head = hub
            .platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), "")
            .with("Transfer-Encoding", "chunked");
        wire.send(&head.bytes());
        wire.send(b"8\r\n{\"type\":\r\n1;ext=\"a b\"\r\n\"\r\n014\r\nchunked\",\"payload\":{\r\n1\r\n}\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n");
        wire.send(&Request::new("GET", "/health").bytes());
        let answer = Answer::read(&mut wire).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(peer.event().kind, "chunked");
        assert_eq!(Answer::read(&mut wire).unwrap().status, 200, "the request after the trailer is parsed");
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_if_its_body_is_accepted() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let path = format!("/api/v1/gateways/{}/events", gateway.id);
        let expecting = |length: usize| {
            hub.platform_request("POST", &path, "")
                .with("Content-Length", length.to_string())
                .with("Expect", "100-continue")
                .bytes()
        };
        let body = br#"{"type":"t","payload":{}}"#;
        let mut wire = hub.wire();
        wire.send(&expecting(body.len()));
        assert_eq!(Answer::read(&mut wire).unwrap().status, 100);
        wire.send(body);
        assert_eq!(Answer::read(&mut wire).unwrap().status, 200);

        let mut wire = hub.wire();
        wire.send(&expecting(limits::PUBLISH_BODY_BYTES_MAX + 1));
        assert_eq!(Answer::read_last(&mut wire).status, 413);
    });
}

#[test]
fn a_client_that_leaves_within_a_request_leaves_nothing_behind() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let body = r#"{"type":"cut","payload":{}}"#;
        let whole = hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), body).bytes();
        for cut in [1, 20, whole.len() - body.len(), whole.len() - 1] {
            let mut wire: Wire = hub.wire();
            wire.send(&whole[..cut]);
            wire.close_notify();
            let start = Instant::now();
            let end = wire.read_to_end(start + PATIENCE);
            assert!(end.is_some() && start.elapsed() < PROMPT, "cut at {cut}: {end:?} after {:?}", start.elapsed());
            let mut wire = hub.wire();
            wire.send(&whole[..cut]);
            wire.reset();
        }
        hub.publish(&gateway.id, "marker", "{}");
        assert_eq!(peer.event().kind, "marker", "an incomplete publish was delivered");
    });
}

#[test]
fn a_connect_request_before_the_end_of_a_stream_is_refused_with_a_response() {
    on_one_and_four(|hub| {
        let (gateway, _peer) = hub.connect_new();
        let body = r#"{"type":"t","payload":{}}"#;
        let publish = hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), body).bytes();
        let cases = [
            ("no upgrade", vec![426], Request::new("GET", CONNECT_PATH).bytes()),
            ("another method", vec![405], Request::new("POST", CONNECT_PATH).bytes()),
            ("a bad key", vec![401], Request::upgrade("wrong").bytes()),
            ("no key", vec![401], Request::upgrade("x").without("api-key").bytes()),
            ("a publish and a bad key", vec![200, 401], [publish.clone(), Request::upgrade("wrong").bytes()].concat()),
            // A valid key gets no 101 either, because the peer has ended its stream.
            ("a publish and a valid key", vec![200], [publish, Request::upgrade(&gateway.key).bytes()].concat()),
        ];
        for (what, owed, bytes) in cases {
            let mut wire = hub.wire();
            wire.send(&Request::new("GET", "/health").bytes());
            assert_eq!(Answer::read(&mut wire).map(|answer| answer.status), Some(200));
            wire.queue(&bytes);
            wire.close_notify();
            for status in owed {
                assert_eq!(Answer::read(&mut wire).map(|answer| answer.status), Some(status), "{what}");
            }
            assert!(wire.read_to_end(Instant::now() + PATIENCE).is_some(), "{what}: the connection stays");
        }
    });
}

#[test]
fn requests_before_the_end_of_a_stream_are_all_answered() {
    on_one_and_four(|hub| {
        for notify in [true, false] {
            let mut wire = hub.wire();
            // This request completes the handshake as well.
            wire.send(&Request::new("GET", "/health").bytes());
            assert_eq!(Answer::read(&mut wire).map(|answer| answer.status), Some(200));
            wire.queue(&Request::new("GET", "/health").bytes().repeat(5));
            if notify {
                // In the same write as the requests, so that the hub reads both at once.
                wire.close_notify();
            } else {
                wire.flush();
                wire.half_close();
            }
            for n in 0..5 {
                assert_eq!(
                    Answer::read(&mut wire).map(|answer| answer.status),
                    Some(200),
                    "answer {n}, notify {notify}"
                );
            }
            assert!(wire.read_to_end(Instant::now() + PATIENCE).is_some());
        }
    });
}
