//! Slow and stalled peers (contract section 1, acceptance list G): they are closed, and no other connection is delayed.

use crate::{
    harness::{TestHub, on_own_one_and_four},
    peer::{Peer, Seen},
    request::{Answer, Request},
    socket::{PATIENCE, PROMPT, Wire, fresh_address, open},
};
use gatecast::Config;
use serde_json::json;
use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

/// A write deadline whose multiples are between two answers of a publisher that waits 500 ms for each: the stall ends
/// during one of them.
const WRITE_DEADLINE: Duration = Duration::from_millis(1_200);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(1);

fn scaled(config: &mut Config) {
    config.write_deadline = WRITE_DEADLINE;
    config.handshake_deadline = HANDSHAKE_DEADLINE;
    config.publish_timeout = Duration::from_millis(500);
}

/// A gateway with a small receive buffer, so that it stalls soon after it stops reading.
fn narrow(hub: &TestHub, key: &str) -> Peer {
    let socket = open(hub.addr, fresh_address(), |s| s.set_recv_buffer_size(8 * 1024).unwrap());
    Peer::connect(Wire::new(socket, hub.tls()), key).unwrap_or_else(|a| panic!("{a:?}"))
}

fn payload() -> String {
    format!("\"{}\"", "x".repeat(512 * 1024))
}

/// Publishes until a delivery has failed; returns that answer.
fn publish_until_failure(hub: &TestHub, gateway: &str) -> serde_json::Value {
    for _ in 0..200 {
        let start = Instant::now();
        let answer = hub.publish(gateway, "t", &payload());
        assert!(start.elapsed() < Duration::from_millis(500) + PROMPT, "the publisher waited {:?}", start.elapsed());
        if answer["failed"] != 0 {
            return answer;
        }
    }
    panic!("100 MiB to a connection that does not read, and no delivery failed");
}

#[test]
fn a_reader_that_stops_is_closed_as_a_slow_consumer() {
    on_own_one_and_four(scaled, |hub| {
        let gateway = hub.register();
        let mut stalled = narrow(hub, &gateway.key);
        let id = stalled.connection_id().to_owned();
        let answer = publish_until_failure(hub, &gateway.id);
        assert_eq!(answer["failures"][0], json!({ "connectionId": id, "reason": "slow consumer" }), "{answer}");
        hub.await_rows(&gateway.id, 0);
        let delivery = hub.stats("")["eventDelivery"].clone();
        assert!(delivery["failedDeliveries"].as_u64() >= Some(1), "{delivery}");
        assert_eq!(delivery["lastFailureReason"], "slow consumer", "{delivery}");
        assert_ends(&mut stalled);
    });
}

/// Reads the rest of a slow consumer's connection: complete events, perhaps a close frame, and the end.
fn assert_ends(peer: &mut Peer) {
    loop {
        match peer.next(Instant::now() + PATIENCE) {
            Seen::Text(_) | Seen::Ping(_) => {}
            Seen::Close(code, reason) => assert_eq!((code, reason.as_str()), (Some(1013), "slow consumer")),
            Seen::End(_) => return,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stall_ends_at_the_write_deadline() {
    on_own_one_and_four(
        |config| {
            scaled(config);
        },
        |hub| {
            let gateway = hub.register();
            let mut stalled = narrow(hub, &gateway.key);
            let start = Instant::now();
            while hub.publish(&gateway.id, "t", &payload())["delivered"] == 1 {
                assert!(start.elapsed() < PATIENCE, "the connection does not stall");
            }
            hub.await_rows(&gateway.id, 0);
            assert!(start.elapsed() >= WRITE_DEADLINE, "closed after only {:?}", start.elapsed());
            let delivery = hub.stats("")["eventDelivery"].clone();
            assert_eq!(delivery["lastFailureReason"], "slow consumer", "{delivery}");
            assert_ends(&mut stalled);
        },
    );
}

#[test]
fn a_reader_that_is_slow_but_reads_stays() {
    on_own_one_and_four(scaled, |hub| {
        let gateway = hub.register();
        let mut peer = narrow(hub, &gateway.key);
        for n in 0..12 {
            let answer = hub.publish(&gateway.id, "t", &payload());
            assert_eq!(answer["failed"], 0, "{answer}");
            thread::sleep(WRITE_DEADLINE / 4);
            assert_eq!(peer.event().kind, "t", "event {n}");
        }
        peer.is_alive();
    });
}

#[test]
fn a_reader_that_stops_delays_no_other() {
    on_own_one_and_four(
        |config| {
            scaled(config);
            config.write_deadline = Duration::from_secs(60);
        },
        |hub| {
            let gateway = hub.register();
            let mut sibling = hub.connect(&gateway.key);
            let mut stalled = narrow(hub, &gateway.key);
            let mut pending = 0;
            for n in 0..40 {
                let start = Instant::now();
                let answer = hub.publish(&gateway.id, "t", &payload());
                assert_eq!((&answer["connections"], &answer["failed"]), (&json!(2), &json!(0)), "{answer}");
                pending += answer["pending"].as_u64().unwrap_or(0);
                assert_eq!(sibling.event().kind, "t", "event {n}");
                assert!(start.elapsed() < Duration::from_millis(500) + PROMPT, "event {n}: {:?}", start.elapsed());
                if pending > 3 {
                    break;
                }
            }
            assert!(pending > 0, "the connection did not stall");
            within(PROMPT, "the statistics", || assert_eq!(hub.rows(&gateway.id).len(), 2));
            within(PROMPT, "another gateway", || {
                let (other, mut peer) = hub.connect_new();
                assert_eq!(hub.publish(&other.id, "t", "{}")["delivered"], 1);
                assert_eq!(peer.event().kind, "t");
            });
            within(PROMPT, "revocation", || {
                let path = format!("/api/v1/gateways/{}/tokens/{}", gateway.id, gateway.token_id);
                assert_eq!(hub.call("DELETE", &path, "").status, 204);
                assert_eq!(sibling.closed().0, Some(1008));
            });
            let _stalled = narrow(hub, &hub.register().key);
            within(gatecast::limits::CLOSE_DEADLINE + PROMPT * 2, "shutdown", || {
                hub.drain();
                hub.join();
            });
            stalled.wire.advance();
        },
    );
}

/// Runs `run`, which must take less than `most`.
fn within(most: Duration, what: &str, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    assert!(start.elapsed() < most, "{what} took {:?}", start.elapsed());
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_closed_at_the_deadline() {
    on_own_one_and_four(scaled, |hub| {
        let start = Instant::now();
        let mut wire = hub.wire();
        let head = Request::new("GET", "/health").with("x", "y".repeat(200)).bytes();
        for byte in &head {
            if !wire.send(&[*byte]) || start.elapsed() > PATIENCE {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            wire.advance();
            if wire.end().is_some() {
                break;
            }
        }
        let lived = start.elapsed();
        assert!((HANDSHAKE_DEADLINE..HANDSHAKE_DEADLINE + PROMPT).contains(&lived), "{lived:?}");
        if !wire.received().is_empty() {
            assert_eq!(Answer::read_last(&mut wire).status, 408);
        }
    });
}

#[test]
fn a_head_that_stops_is_answered_408_at_the_deadline() {
    on_own_one_and_four(scaled, |hub| {
        let start = Instant::now();
        let mut wire = hub.wire();
        wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\n");
        assert_eq!(Answer::read_last(&mut wire).status, 408);
        assert!((HANDSHAKE_DEADLINE..HANDSHAKE_DEADLINE + PROMPT).contains(&start.elapsed()), "{:?}", start.elapsed());
    });
}

#[test]
fn an_unfinished_tls_handshake_is_closed_at_the_deadline() {
    on_own_one_and_four(scaled, |hub| {
        let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
        for (name, bytes) in [("silence", &[][..]), ("half a ClientHello", &hello)] {
            let start = Instant::now();
            let mut wires: Vec<_> = (0..50)
                .map(|_| {
                    let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), None);
                    wire.send(bytes);
                    wire
                })
                .collect();
            within(PROMPT, name, || hub.connect_new().1.leave());
            for wire in &mut wires {
                assert!(wire.read_to_end(Instant::now() + PATIENCE).is_some(), "{name}: still open");
            }
            let lived = start.elapsed();
            assert!((HANDSHAKE_DEADLINE..HANDSHAKE_DEADLINE + PROMPT).contains(&lived), "{name}: {lived:?}");
        }
    });
}

#[test]
fn a_connection_is_shown_as_closing_until_its_socket_is_gone() {
    on_own_one_and_four(scaled, |hub| {
        let gateway = hub.register();
        let _stalled = narrow(hub, &gateway.key);
        assert_eq!(hub.rows(&gateway.id)[0]["status"], "connected");
        while hub.publish(&gateway.id, "t", &payload())["delivered"] == 1 {}
        let path = format!("/api/v1/gateways/{}/tokens/{}", gateway.id, gateway.token_id);
        assert_eq!(hub.call("DELETE", &path, "").status, 204);
        // The close frame waits behind the frame that the socket has taken in part.
        let rows = hub.rows(&gateway.id);
        assert_eq!((rows.len(), &rows[0]["status"]), (1, &json!("closing")), "{rows:?}");
        let unseen = hub.publish(&gateway.id, "t", "{}");
        assert_eq!(unseen["connections"], 0, "a closing connection is not live: {unseen}");
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn the_answer_to_a_publish_lists_a_hundred_failures_and_counts_all() {
    const STALLED: usize = 120;
    on_own_one_and_four(
        |config| {
            scaled(config);
            // All of them reach the write deadline while the publisher waits.
            config.publish_timeout = PATIENCE;
        },
        |hub| {
            let gateway = hub.register();
            let stalled: Vec<_> = (0..STALLED).map(|_| narrow(hub, &gateway.key)).collect();
            let answer = hub.publish(&gateway.id, "t", &format!("\"{}\"", "x".repeat(1_000_000)));
            assert_eq!((&answer["connections"], &answer["failed"]), (&json!(STALLED), &json!(STALLED)), "{answer}");
            let failures = answer["failures"].as_array().unwrap();
            assert_eq!(failures.len(), gatecast::limits::FAILURES_LISTED_MAX);
            assert_eq!(gatecast::limits::FAILURES_LISTED_MAX, 100, "the number in the contract");
            assert!(failures.iter().all(|failure| failure["reason"] == "slow consumer"), "{answer}");
            let listed: HashSet<_> = failures.iter().map(|failure| failure["connectionId"].as_str().unwrap()).collect();
            assert_eq!(listed.len(), failures.len(), "each connection is listed once");
            let ids: HashSet<_> = stalled.iter().map(Peer::connection_id).collect();
            assert!(listed.is_subset(&ids));
            assert_eq!(hub.stats("")["eventDelivery"]["failedDeliveries"], STALLED);
        },
    );
}
