//! Connections that the hub closes (contract section 1, "Closing"): revocation, deletion, drain.

use crate::{
    harness::{Registered, TestHub, on_one_and_four, on_own_one_and_four, trusting_with},
    peer::{CLOSE, PING, Peer, Seen, TEXT, frame},
    request::{Answer, Request},
    socket::{End, PATIENCE, PROMPT, Wire, fresh_address, open},
};
use rustls::version;
use serde_json::json;
use std::{
    thread,
    time::{Duration, Instant},
};

fn revoke(hub: &TestHub, gateway: &Registered) {
    let path = format!("/api/v1/gateways/{}/tokens/{}", gateway.id, gateway.token_id);
    assert_eq!(hub.call("DELETE", &path, "").status, 204);
}

/// Expects a close frame with 1008 and this reason on each connection, promptly.
fn closed_promptly(peers: Vec<Peer>, since: Instant, wanted: &str) {
    for mut peer in peers {
        let (code, reason) = peer.closed();
        assert_eq!((code, reason.as_str()), (Some(1008), wanted));
        assert!(since.elapsed() < PROMPT, "{wanted}: only after {:?}", since.elapsed());
    }
}

#[test]
fn revoking_a_key_closes_its_connections_and_no_others() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let (_, other_key) = hub.make_key(&gateway.id);
        let mut other = hub.connect(&other_key);
        let peers = vec![hub.connect(&gateway.key), hub.connect(&gateway.key)];
        let start = Instant::now();
        revoke(hub, &gateway);
        closed_promptly(peers, start, "key revoked");
        assert_eq!(
            hub.try_connect(&gateway.key).err().map(|a| a.status),
            Some(401),
            "a revoked key is not admitted again"
        );
        hub.await_rows(&gateway.id, 1);
        let answer = hub.publish(&gateway.id, "t", "{}");
        assert_eq!((&answer["connections"], &answer["delivered"]), (&json!(1), &json!(1)), "{answer}");
        assert_eq!(other.event().kind, "t");
        other.leave();
    });
}

#[test]
fn a_revoked_peer_that_reads_nothing_is_reset_and_loses_what_the_kernel_held() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let socket = open(hub.addr, fresh_address(), |socket| socket.set_recv_buffer_size(8 * 1024).unwrap());
        let mut peer = Peer::connect(Wire::new(socket, hub.tls()), &gateway.key).unwrap();
        hub.publish(&gateway.id, "t", &format!("\"{}\"", "x".repeat(500_000)));
        revoke(hub, &gateway);
        hub.await_rows(&gateway.id, 0);
        // An orderly close would deliver all bytes that were in the kernel, then a FIN.
        assert!(matches!(peer.wire.read_to_end(Instant::now() + PATIENCE), Some(End::Reset)), "it is reset");
    });
}

#[test]
fn frames_before_the_end_of_a_stream_are_answered() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let long = vec![b'x'; 70_000];
        for _ in 0..10 {
            for (first, payload, wanted) in [
                (PING, &b"ab"[..], Seen::Pong(b"ab".to_vec())),
                (CLOSE, &1000_u16.to_be_bytes()[..], Seen::Close(Some(1000), String::new())),
                (TEXT, &long, Seen::Close(Some(1009), "message too big".to_owned())),
            ] {
                let mut peer = hub.connect(&gateway.key);
                assert!(peer.frame(first, payload));
                peer.wire.half_close();
                let seen = peer.next(Instant::now() + PATIENCE);
                assert_eq!(format!("{seen:?}"), format!("{wanted:?}"), "the answer to 0x{first:x}");
            }
        }
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn a_close_frame_together_with_close_notify_and_fin_is_answered() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let cert = hub.data().join("cert.pem");
        let long = format!("\"{}\"", "x".repeat(30_000));
        for version in [&version::TLS12, &version::TLS13] {
            let client = trusting_with(&cert, &[version]);
            let connect = || {
                let wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), Some(&client));
                Peer::connect(wire, &gateway.key).unwrap_or_else(|answer| panic!("not admitted: {answer:?}"))
            };
            let answered = |mut peer: Peer, wanted: Option<u16>, what: &str| {
                let (code, _) = peer.close_frame();
                assert_eq!(code, wanted, "{what}, {:?}", version.version);
                assert_eq!(peer.wire.read_to_end(Instant::now() + PATIENCE), Some(End::Eof), "{what}");
                assert!(peer.wire.is_closed_by_tls(), "{what}, {:?}: no close_notify from the hub", version.version);
            };
            for _ in 0..20 {
                let mut peer = connect();
                peer.wire.send_last(&frame(CLOSE, 2, &1000_u16.to_be_bytes()));
                answered(peer, Some(1000), "in one segment");

                let mut peer = connect();
                peer.frame(CLOSE, &1001_u16.to_be_bytes());
                peer.wire.close_notify();
                answered(peer, Some(1001), "one after the other");

                // The hub may have written a part of an event, which the answering close frame must follow.
                let mut peer = connect();
                hub.publish(&gateway.id, "t", &long);
                peer.wire.send_last(&frame(CLOSE, 0, b""));
                answered(peer, None, "behind an event");
            }
        }
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn deleting_a_gateway_closes_all_its_connections() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let (_, other_key) = hub.make_key(&gateway.id);
        let (_, mut stranger) = hub.connect_new();
        let peers = vec![hub.connect(&gateway.key), hub.connect(&other_key)];
        let start = Instant::now();
        assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{}", gateway.id), "").status, 204);
        closed_promptly(peers, start, "gateway deleted");
        for key in [&gateway.key, &other_key] {
            assert_eq!(hub.try_connect(key).err().map(|a| a.status), Some(401));
        }
        assert_eq!(hub.try_publish(&gateway.id, r#"{"type":"t","payload":{}}"#).status, 404);
        stranger.is_alive();
    });
}

#[test]
fn a_connection_whose_key_is_revoked_during_admission_does_not_stay() {
    on_one_and_four(|hub| {
        for _ in 0..10 {
            let gateway = hub.register();
            thread::scope(|scope| {
                let connecting: Vec<_> = (0..4).map(|_| scope.spawn(|| hub.try_connect(&gateway.key))).collect();
                revoke(hub, &gateway);
                for attempt in connecting {
                    match attempt.join().unwrap() {
                        Ok(mut peer) => assert_eq!(peer.closed(), (Some(1008), "key revoked".to_owned())),
                        Err(answer) => assert_eq!(answer.status, 401, "{answer:?}"),
                    }
                }
            });
            hub.await_rows(&gateway.id, 0);
        }
    });
}

#[test]
fn a_drain_closes_every_connection_with_1001_and_ends() {
    let window = Duration::from_millis(1_500);
    on_own_one_and_four(
        |config| config.drain_window = window,
        |hub| {
            let gateways: Vec<_> = (0..6).map(|_| hub.register()).collect();
            let peers: Vec<_> = (0..30).map(|n| hub.connect(&gateways[n % gateways.len()].key)).collect();
            let mut watch = hub.wire();
            let start = Instant::now();
            hub.drain();
            watch.send(&Request::new("GET", "/ready").bytes());
            assert_eq!(Answer::read(&mut watch).map(|a| a.status), Some(503), "not ready as soon as the drain begins");
            let close = |mut peer: Peer| {
                let (code, reason) = peer.closed();
                assert_eq!((code, reason.as_str()), (Some(1001), "server shutdown"));
                start.elapsed()
            };
            let mut times: Vec<Duration> = thread::scope(|scope| {
                let peers: Vec<_> = peers.into_iter().map(|peer| scope.spawn(move || close(peer))).collect();
                peers.into_iter().map(|peer| peer.join().unwrap()).collect()
            });
            times.sort();
            assert!(times[29] - times[0] >= window / 4, "the closes are not spread: {times:?}");
            assert!(times[29] < window + PROMPT, "{times:?}");
            hub.join();
            assert!(start.elapsed() < window + Duration::from_secs(10), "{:?}", start.elapsed());
        },
    );
}

#[test]
fn events_accepted_before_a_drain_are_delivered() {
    on_own_one_and_four(
        |config| config.drain_window = Duration::from_millis(500),
        |hub| {
            let (gateway, mut peer) = hub.connect_new();
            let payload = format!("\"{}\"", "x".repeat(100_000));
            let mut pending = 0;
            for _ in 0..8 {
                let answer = hub.publish(&gateway.id, "t", &payload);
                pending += answer["delivered"].as_u64().unwrap() + answer["pending"].as_u64().unwrap_or(0);
            }
            hub.drain();
            let mut seen = 0;
            let code = loop {
                match peer.next(Instant::now() + PATIENCE) {
                    Seen::Text(_) => seen += 1,
                    Seen::Close(code, _) => break code,
                    Seen::Ping(_) | Seen::Pong(_) => {}
                    other => panic!("after {seen} events: {other:?}"),
                }
            };
            assert_eq!((code, seen), (Some(1001), pending));
            drop(peer);
            hub.join();
        },
    );
}

#[test]
fn a_peer_that_ignores_the_close_does_not_delay_the_drain() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let (_, peer) = hub.connect_new();
            let half = hub.wire();
            let mut idle = hub.wire();
            idle.send(&Request::new("GET", "/health").bytes());
            assert_eq!(Answer::read(&mut idle).unwrap().status, 200);
            let mut cut = hub.wire();
            cut.send(b"GET /health HT");
            hub.drain();
            hub.join();
            drop((peer, half, idle, cut));
        },
    );
}

#[test]
fn publishing_during_a_drain_is_counted_or_refused() {
    on_own_one_and_four(
        |config| config.drain_window = Duration::from_secs(1),
        |hub| {
            let gateway = hub.register();
            let peers: Vec<_> = (0..5).map(|_| hub.connect(&gateway.key)).collect();
            let mut wire = hub.wire();
            hub.drain();
            let body = r#"{"type":"t","payload":{}}"#;
            let request = hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), body);
            for _ in 0..50 {
                wire.send(&request.bytes());
                let Some(answer) = Answer::read(&mut wire) else { break };
                if answer.status != 200 {
                    assert_eq!(answer.status, 503, "{answer:?}");
                    continue;
                }
                let answer = answer.json();
                let count = |name: &str| answer[name].as_u64().unwrap_or(0);
                let decided = count("delivered") + count("failed") + count("pending");
                assert_eq!(decided, count("connections").max(1), "{answer}");
            }
            drop((peers, wire));
            hub.join();
        },
    );
}

#[test]
fn a_restarted_hub_has_its_gateways_again() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let gateway = hub.register();
            let peer = hub.connect(&gateway.key);
            hub.drain();
            drop(peer);
            hub.join();
            let again = hub.restart();
            again.connect(&gateway.key).leave();
            assert_eq!(again.admin_token(), hub.admin_token());
        },
    );
}
