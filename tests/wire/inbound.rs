//! Messages and frames of gateways (contract section 1 and "Closing", acceptance list F), valid and invalid.

use crate::{
    harness::{eventually, on_one_and_four, on_own_one_and_four},
    peer::{BINARY, CLOSE, PING, PONG, Peer, Seen, TEXT, frame, unmasked},
    socket::PATIENCE,
};
use gatecast::limits;
use std::time::Instant;

const CONTINUATION: u8 = 0x80;
const NOT_FINAL: u8 = 0x7f;

/// A case: its name, the bytes that a peer sends after its ack, and the expected close code.
type Breach = (&'static str, Vec<u8>, u16);

/// Sends each case on a connection of its own, and expects the close frame, the end, and no connection left.
fn check_closes(table: &[Breach]) {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut sibling = hub.connect(&gateway.key);
        for (name, bytes, code) in table {
            eprintln!("{name}");
            let mut peer = hub.connect(&gateway.key);
            peer.wire.send(bytes);
            let (seen, reason) = peer.closed();
            assert_eq!(seen, Some(*code), "{name}: {reason:?}");
        }
        hub.await_rows(&gateway.id, 1);
        sibling.is_alive();
    });
}

/// A message of this many fragments with this payload each.
fn fragments(count: usize, payload: &[u8]) -> Vec<u8> {
    let part = |n: usize| {
        let opcode = if n == 0 { TEXT } else { CONTINUATION };
        frame(if n + 1 == count { opcode } else { opcode & NOT_FINAL }, payload.len() as u64, payload)
    };
    (0..count).flat_map(part).collect()
}

/// A complete text frame of this many letters.
fn text_of(bytes: usize) -> Vec<u8> {
    frame(TEXT, bytes as u64, &vec![b'x'; bytes])
}

#[test]
fn valid_frames_of_a_gateway_leave_it_connected() {
    let ack = r#"{"type":"deployment.ack","payload":{"deploymentId":"d","artifactId":"a","resourceType":"api","action":"deploy","status":"success","performedAt":"2024-01-01T00:00:00Z"}}"#;
    let text = |text: &str| frame(TEXT, text.len() as u64, text.as_bytes());
    let table: &[(&str, Vec<u8>)] = &[
        ("an acknowledgement", text(ack)),
        ("a failed one", text(&ack.replace(r#""success""#, r#""failed","errorCode":"E1""#))),
        ("one with members missing", text(r#"{"type":"deployment.ack","payload":{}}"#)),
        ("an unknown type", text(r#"{"type":"news","payload":[]}"#)),
        ("no type", text("{}")),
        ("JSON that is no object", text("[1]")),
        ("no JSON", text("hello {")),
        ("deep JSON", text(&"[".repeat(60_000))),
        ("an empty text", text("")),
        ("a binary message", frame(BINARY, 4, b"\xff\x00\x01\x02")),
        ("an unsolicited pong", frame(PONG, 3, b"odd")),
        ("a message of exactly the bound", text_of(limits::INBOUND_MESSAGE_BYTES_MAX)),
        ("the same in 16 fragments", fragments(16, &[b'x'; 4096])),
        ("as many fragments as there may be", fragments(limits::INBOUND_FRAGMENTS_MAX as usize, b"x")),
        ("empty fragments", fragments(limits::INBOUND_FRAGMENTS_MAX as usize, b"")),
        (
            "a ping between fragments",
            [frame(TEXT & NOT_FINAL, 1, b"{"), frame(PING, 1, b"p"), frame(CONTINUATION, 1, b"}")].concat(),
        ),
        (
            "a letter split over two fragments",
            [frame(TEXT & NOT_FINAL, 1, b"\xc3"), frame(CONTINUATION, 1, b"\xa9")].concat(),
        ),
        ("many messages at once", text("{}").repeat(500)),
    ];
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        for (name, bytes) in table {
            eprintln!("{name}");
            assert!(peer.wire.send(bytes), "{name}");
            peer.is_alive();
            hub.publish(&gateway.id, "after", "{}");
            assert_eq!(peer.event().kind, "after", "{name}");
        }
        assert_eq!(hub.rows(&gateway.id).len(), 1);
    });
}

#[test]
fn a_ping_is_answered_with_its_own_payload() {
    on_one_and_four(|hub| {
        let (_, mut peer) = hub.connect_new();
        for payload in [b"".as_slice(), b"p", &[0xff; 125]] {
            peer.frame(PING, payload);
            let seen = peer.next(Instant::now() + PATIENCE);
            assert!(matches!(&seen, Seen::Pong(echo) if echo == payload), "{seen:?}");
        }
    });
}

#[test]
fn a_message_over_the_bound_is_closed_with_a_1009_that_arrives() {
    let max = limits::INBOUND_MESSAGE_BYTES_MAX;
    let head = |declared: u64| frame(TEXT, declared, b"");
    check_closes(&[
        ("one byte more", text_of(max + 1), 1009),
        ("one byte more, binary", frame(BINARY, max as u64 + 1, &vec![0; max + 1]), 1009),
        (
            "one byte more in fragments",
            [frame(TEXT & NOT_FINAL, max as u64, &vec![b'x'; max]), frame(CONTINUATION, 1, b"x")].concat(),
            1009,
        ),
        ("a mebibyte, sent whole", text_of(1024 * 1024), 1009),
        ("2^31 declared, nothing sent", head(1 << 31), 1009),
        ("2^40 declared, nothing sent", head(1 << 40), 1009),
        ("2^63 - 1 declared, nothing sent", head((1 << 63) - 1), 1009),
        ("a fragment too many", fragments(limits::INBOUND_FRAGMENTS_MAX as usize + 1, b"x"), 1009),
        ("an empty fragment too many", fragments(limits::INBOUND_FRAGMENTS_MAX as usize + 1, b""), 1009),
        ("fragments without end", fragments(20_000, b"x"), 1009),
    ]);
}

#[test]
fn a_protocol_violation_is_closed_with_1002() {
    let mut table: Vec<Breach> = vec![
        ("a frame without a mask", unmasked(TEXT, b"{}"), 1002),
        ("a ping without a mask", unmasked(PING, b""), 1002),
        ("2^63 declared", frame(TEXT, 1 << 63, b""), 1002),
        ("2^64 - 1 declared", frame(TEXT, u64::MAX, b""), 1002),
        ("a ping of 126 bytes", frame(PING, 126, &[0; 126]), 1002),
        ("a close frame of 126 bytes", frame(CLOSE, 126, &[[3, 0xe8].as_slice(), &[b'x'; 124]].concat()), 1002),
        ("a ping in fragments", frame(PING & NOT_FINAL, 1, b"p"), 1002),
        ("a close frame in fragments", frame(CLOSE & NOT_FINAL, 2, &[3, 0xe8]), 1002),
        ("2 bytes, their length in 16 bits", [&[TEXT, 0xfe, 0, 2, 0, 0, 0, 0], &b"{}"[..]].concat(), 1002),
        ("no bytes, their length in 64 bits", [&[PING, 0xff], &[0; 12][..]].concat(), 1002),
        ("a continuation of nothing", frame(CONTINUATION, 1, b"x"), 1002),
        ("a part of a continuation of nothing", frame(CONTINUATION & NOT_FINAL, 1, b"x"), 1002),
        ("a new message inside another", [frame(TEXT & NOT_FINAL, 1, b"x"), frame(TEXT, 1, b"y")].concat(), 1002),
        ("half a close code", frame(CLOSE, 1, &[3]), 1002),
    ];
    table.extend([0x40, 0x20, 0x10].map(|rsv| ("a reserved bit", frame(TEXT | rsv, 2, b"{}"), 1002)));
    table.extend((3..8).chain(11..16).map(|opcode| ("a reserved opcode", frame(0x80 | opcode, 0, b""), 1002)));
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        table.push(("a close code that must not be sent", frame(CLOSE, 2, &code.to_be_bytes()), 1002));
    }
    check_closes(&table);
}

#[test]
fn text_that_is_not_utf_8_is_closed_with_1007() {
    check_closes(&[
        ("a byte that never is", frame(TEXT, 1, b"\xff"), 1007),
        ("an overlong form", frame(TEXT, 2, b"\xc0\xaf"), 1007),
        ("a surrogate", frame(TEXT, 3, b"\xed\xa0\x80"), 1007),
        ("a letter cut at the end", frame(TEXT, 1, b"\xc3"), 1007),
        ("in the second fragment", [frame(TEXT & NOT_FINAL, 1, b"a"), frame(CONTINUATION, 1, b"\xff")].concat(), 1007),
        ("in the reason of a close frame", frame(CLOSE, 3, &[3, 0xe8, 0xff]), 1007),
    ]);
}

#[test]
fn a_gateways_close_frame_is_answered_with_its_code() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        for code in [1000u16, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 3999, 4000, 4999] {
            let mut peer = hub.connect(&gateway.key);
            peer.frame(CLOSE, &[&code.to_be_bytes(), b"bye".as_slice()].concat());
            assert_eq!(peer.close_frame().0, Some(code));
            assert!(peer.wire.read_to_end(Instant::now() + PATIENCE).is_some(), "{code}: the hub ends it");
        }
        let mut peer = hub.connect(&gateway.key);
        peer.frame(CLOSE, b"");
        let (code, _) = peer.close_frame();
        assert!(matches!(code, None | Some(1000)), "{code:?}");
        assert!(peer.wire.read_to_end(Instant::now() + PATIENCE).is_some());
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn bytes_after_a_close_frame_are_ignored() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut peer = hub.connect(&gateway.key);
        let close = frame(CLOSE, 2, &1000u16.to_be_bytes());
        peer.wire.send(&[close, frame(PING, 1, b"p"), unmasked(0xff, b"junk"), text_of(70_000)].concat());
        let seen = peer.next(Instant::now() + PATIENCE);
        assert!(matches!(seen, Seen::Close(Some(1000), _)), "{seen:?}");
        let seen = peer.next(Instant::now() + PATIENCE);
        assert!(matches!(seen, Seen::End(_)), "{seen:?}");
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn a_flood_of_pings_is_closed_and_delays_no_other_gateway() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let (mut flooder, mut sibling) = (hub.connect(&gateway.key), hub.connect(&gateway.key));
        let ping = frame(PING, 4, b"ping");
        flooder.wire.send(&ping.repeat(50_000));
        let answer = hub.publish(&gateway.id, "t", "{}");
        assert!(answer["connections"].as_u64() >= Some(1), "{answer}");
        assert_eq!(sibling.event().kind, "t");
        // All pings of one read are answered, so the pongs of one more read are possible.
        let allowed = limits::INBOUND_CONTROL_PER_SECOND_MAX as usize * 10;
        let most = allowed + limits::READ_BATCH_BYTES * 2 / ping.len();
        let pongs = pongs_until_close(&mut flooder);
        assert!((1..=most).contains(&pongs), "{pongs} pongs, expected 1 to {most}");
        hub.await_rows(&gateway.id, 1);
        sibling.is_alive();
    });
}

/// Counts the pongs before the close frame, which must be for the flood.
fn pongs_until_close(peer: &mut Peer) -> usize {
    let mut pongs = 0;
    loop {
        match peer.next(Instant::now() + PATIENCE) {
            Seen::Pong(_) => pongs += 1,
            Seen::Text(_) | Seen::Ping(_) => {}
            Seen::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (Some(1008), "flood"));
                return pongs;
            }
            other => panic!("instead of a close frame after {pongs} pongs: {other:?}"),
        }
    }
}

#[test]
fn acknowledgements_and_malformed_messages_are_counted() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let (_, mut peer) = hub.connect_new();
            for status in ["success", "success", "failed"] {
                peer.text(&format!(
                    r#"{{"type":"deployment.ack","payload":{{"deploymentId":"d","status":"{status}"}}}}"#
                ));
            }
            peer.text("not JSON");
            let counted = |name: &str| -> u64 {
                let text = hub.call("GET", "/metrics", "").text();
                let rows = text.lines().filter(|line| line.starts_with(name));
                rows.map(|row| row.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
            };
            eventually("all messages are counted", || counted("gatecast_malformed_messages_total") == 1);
            assert_eq!(counted("gatecast_deployments_acknowledged_total"), 2);
            assert_eq!(counted("gatecast_deployments_refused_total"), 1);
        },
    );
}
