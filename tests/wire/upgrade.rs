//! The upgrade (contract section 1, acceptance list B): accepted requests, and the answers to refused ones.

use crate::{
    harness::{ORIGIN, on_one_and_four, on_own_one_and_four},
    peer::Peer,
    request::{Answer, CONNECT_PATH, Request},
    socket::fresh_address,
};

/// A change to the upgrade request of a gateway.
type Change = fn(Request) -> Request;

#[test]
fn an_upgrade_rewritten_by_a_proxy_is_accepted() {
    let table: &[(&str, Change)] = &[
        ("as a gateway sends it", |r| r),
        ("two connection options", |r| r.set("Connection", "keep-alive, Upgrade")),
        ("options in another case", |r| r.set("Connection", "Keep-Alive,UPGRADE")),
        ("options over two lines", |r| r.set("Connection", "keep-alive").with("Connection", "Upgrade")),
        ("the protocol in another case", |r| r.set("Upgrade", "WebSocket")),
        ("field names in another case", |r| r.without("Sec-WebSocket-Version").with("SEC-WEBSOCKET-VERSION", "13")),
        ("an extension offered", |r| r.with("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")),
        ("a subprotocol offered", |r| r.with("Sec-WebSocket-Protocol", "chat, superchat")),
        ("a query", |r| r.line(&format!("GET {CONNECT_PATH}?a=b HTTP/1.1"))),
        ("an origin on the list", |r| r.with("Origin", ORIGIN)),
        ("the hub's own origin", |r| r.set("Host", "hub.example:9243").with("Origin", "https://hub.example:9243")),
        ("the same in another case", |r| r.set("Host", "HUB.example:9243").with("Origin", "https://Hub.EXAMPLE:9243")),
        ("the same with the default port left out", |r| {
            r.set("Host", "localhost:443").with("Origin", "https://localhost")
        }),
        ("a length of zero", |r| r.with("Content-Length", "0")),
        ("an unknown field", |r| r.with("X-Forwarded-For", "203.0.113.9")),
    ];
    on_one_and_four(|hub| {
        let gateway = hub.register();
        for (name, change) in table {
            eprintln!("{name}");
            let mut wire = hub.wire();
            wire.send(&change(Request::upgrade(&gateway.key)).bytes());
            let answer = Answer::read(&mut wire).unwrap();
            assert_eq!(answer.status, 101, "{name}: {answer:?}");
            let mut peer = Peer::upgraded(wire, &answer);
            peer.is_alive();
        }
    });
}

#[test]
fn an_invalid_upgrade_is_refused_with_its_error() {
    let table: &[(&str, u16, Change)] = &[
        ("no websocket key", 400, |r| r.without("Sec-WebSocket-Key")),
        ("two websocket keys", 400, |r| r.with("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA==")),
        ("the same websocket key twice", 400, |r| r.with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")),
        ("a websocket key that is not base64", 400, |r| r.set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ!=")),
        ("a websocket key without padding", 400, |r| r.set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")),
        ("a websocket key of 15 bytes", 400, |r| r.set("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4P")),
        ("a websocket key of 17 bytes", 400, |r| r.set("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEBE=")),
        ("an empty websocket key", 400, |r| r.set("Sec-WebSocket-Key", "")),
        ("no version", 426, |r| r.without("Sec-WebSocket-Version")),
        ("version 8", 426, |r| r.set("Sec-WebSocket-Version", "8")),
        ("version 12", 426, |r| r.set("Sec-WebSocket-Version", "12")),
        ("two versions", 426, |r| r.set("Sec-WebSocket-Version", "13, 8")),
        ("version 013", 426, |r| r.set("Sec-WebSocket-Version", "013")),
        ("no upgrade", 426, |r| r.without("Upgrade").without("Connection")),
        ("no upgrade field", 426, |r| r.without("Upgrade")),
        ("another upgrade", 426, |r| r.set("Upgrade", "h2c")),
        ("no connection option", 400, |r| r.without("Connection")),
        ("another connection option", 400, |r| r.set("Connection", "keep-alive")),
        ("half a connection option", 400, |r| r.set("Connection", "Upgraded")),
        ("POST", 405, |r| r.line(&format!("POST {CONNECT_PATH} HTTP/1.1")).with("Content-Length", "0")),
        ("PUT", 405, |r| r.line(&format!("PUT {CONNECT_PATH} HTTP/1.1")).with("Content-Length", "0")),
        ("HTTP/1.0", 400, |r| r.line(&format!("GET {CONNECT_PATH} HTTP/1.0"))),
        ("a body", 400, |r| r.body("{}")),
        ("a chunked body", 400, |r| r.with("Transfer-Encoding", "chunked")),
        ("an origin that is not on the list", 403, |r| r.with("Origin", "https://evil.example")),
        ("an origin that begins like one on the list", 403, |r| r.with("Origin", format!("{ORIGIN}.evil"))),
        ("an origin with another scheme", 403, |r| r.with("Origin", "http://console.example")),
        ("the hub's own host with another port", 403, |r| r.with("Origin", "https://localhost:9999")),
        ("the hub's own host with another scheme", 403, |r| r.with("Origin", "http://localhost")),
        ("the null origin", 403, |r| r.with("Origin", "null")),
    ];
    on_one_and_four(|hub| {
        let gateway = hub.register();
        for (name, status, change) in table {
            eprintln!("{name}");
            let answer = hub.ask(&change(Request::upgrade(&gateway.key)));
            assert_eq!(answer.status, *status, "{name}: {answer:?}");
            if *status == 426 {
                assert_eq!(answer.field("sec-websocket-version"), Some("13"), "{name}");
                assert_eq!(answer.field("upgrade"), Some("websocket"), "{name}");
            }
            if *status == 405 {
                assert_eq!(answer.field("allow"), Some("GET"), "{name}");
            }
        }
        assert_eq!(hub.rows(&gateway.id).len(), 0);
    });
}

/// A fault of each check that needs only the request, with the answer to it, in the order of the checks.
const FAULTS: &[(&str, u16, Change)] = &[
    ("an obsolete folding", 400, |r| r.with("X", "a\r\n b")),
    ("a method other than GET", 405, |r| r.line(&format!("PUT {CONNECT_PATH} HTTP/1.1"))),
    ("a body", 400, |r| r.body("{}")),
    ("no upgrade", 426, |r| r.without("Upgrade")),
    ("no connection option", 400, |r| r.without("Connection")),
    ("version 8", 426, |r| r.set("Sec-WebSocket-Version", "8")),
    ("no websocket key", 400, |r| r.without("Sec-WebSocket-Key")),
    ("an origin that is not on the list", 403, |r| r.with("Origin", "https://evil.example")),
];

#[test]
fn of_two_faults_the_earlier_check_gives_the_answer() {
    on_own_one_and_four(
        |config| {
            config.rate_per_minute = 1;
            config.connections_max = 1;
            config.drain_window = std::time::Duration::from_secs(2);
        },
        |hub| {
            let gateway = hub.register();
            // The only slot is taken, by the only attempt of this address.
            let spent = fresh_address();
            let peer = Peer::connect(hub.wire_from(spent), &gateway.key).unwrap_or_else(|a| panic!("{a:?}"));
            let (good, bad) = (Request::upgrade(&gateway.key), Request::upgrade("wrong"));
            for (at, (first, status, change)) in FAULTS.iter().enumerate() {
                for (second, _, also) in &FAULTS[at + 1..] {
                    // The order in which the faults are added must not matter.
                    for request in [also(change(good.clone())), change(also(good.clone()))] {
                        let answer = hub.ask(&request);
                        assert_eq!(answer.status, *status, "{first}, then {second}: {answer:?}");
                    }
                }
                let answer = hub.ask_from(spent, &change(bad.clone()));
                assert_eq!(answer.status, *status, "{first}, no attempt left, a wrong key, no slot: {answer:?}");
            }
            assert_eq!(hub.ask_from(spent, &bad).status, 429, "no attempt left, and a wrong key");
            assert_eq!(hub.ask_from(spent, &good).status, 429, "no attempt left, and no slot");
            assert_eq!(hub.ask(&bad).status, 401, "a wrong key, and no slot");
            assert_eq!(hub.ask(&good).status, 503, "no slot");
            hub.drain();
            for (first, status, change) in FAULTS {
                let answer = hub.ask(&change(good.clone()));
                assert_eq!(answer.status, *status, "{first}, and draining: {answer:?}");
            }
            let answer = hub.ask_from(spent, &bad);
            assert_eq!((answer.status, answer.retry_after()), (503, Some(5)), "draining, no attempt left: {answer:?}");
            assert!(!answer.text().contains("capacity"), "{answer:?}");
            drop(peer);
            hub.join();
        },
    );
}

#[test]
fn odd_subprotocols_are_ignored() {
    let table: &[(&str, Vec<u8>)] = &[
        ("bytes that are not ASCII", b"\xff\xfe".to_vec()),
        ("8,000 blanks", [b"a".as_slice(), &[b' '; 8_000], b"b"].concat()),
        ("1,000 tokens", b"token, ".repeat(1_000)),
    ];
    on_one_and_four(|hub| {
        let gateway = hub.register();
        for (name, value) in table {
            eprintln!("{name}");
            let mut wire = hub.wire();
            wire.send(&Request::upgrade(&gateway.key).with("Sec-WebSocket-Protocol", value).bytes());
            let answer = Answer::read(&mut wire).unwrap();
            if answer.status == 101 {
                Peer::upgraded(wire, &answer).leave();
            } else {
                assert_eq!(answer.status, 400, "{name}: {answer:?}");
            }
        }
        hub.connect(&gateway.key).leave();
    });
}

#[test]
fn frames_sent_together_with_the_upgrade_are_not_lost() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut wire = hub.wire();
        let mut bytes = Request::upgrade(&gateway.key).bytes();
        bytes.extend_from_slice(&crate::peer::frame(crate::peer::PING, 5, b"early"));
        wire.send(&bytes);
        let answer = Answer::read(&mut wire).unwrap();
        let mut peer = Peer::upgraded(wire, &answer);
        let seen = peer.next(std::time::Instant::now() + crate::socket::PATIENCE);
        assert!(matches!(&seen, crate::peer::Seen::Pong(payload) if payload == b"early"), "{seen:?}");
    });
}
