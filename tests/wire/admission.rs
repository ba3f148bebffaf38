//! Admission (contract section 1, acceptance list C to E): keys, the rate limit and the caps.

use crate::{
    harness::{on_one_and_four, on_own_one_and_four},
    peer::Peer,
    request::{Answer, Request},
    socket::{PROMPT, fresh_address},
};
use std::{
    collections::HashSet,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

#[test]
fn missing_and_invalid_keys_get_the_same_401() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let (revoked_id, revoked) = hub.make_key(&gateway.id);
        assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{}/tokens/{revoked_id}", gateway.id), "").status, 204);
        let deleted = hub.register();
        assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{}", deleted.id), "").status, 204);
        let upgrade = Request::upgrade(&gateway.key);
        let mut almost = gateway.key.clone().into_bytes();
        almost[0] = if almost[0] == b'A' { b'B' } else { b'A' };
        let table = [
            ("no key", upgrade.clone().without("api-key")),
            ("an unknown key", upgrade.clone().set("api-key", "no-such-key")),
            ("a key with one letter changed", upgrade.clone().set("api-key", &almost)),
            ("a key cut short", upgrade.clone().set("api-key", &gateway.key[..gateway.key.len() - 1])),
            ("a revoked key", upgrade.clone().set("api-key", &revoked)),
            ("a deleted gateway's key", upgrade.clone().set("api-key", &deleted.key)),
            ("an empty key", upgrade.clone().set("api-key", "")),
            ("a key of 7 KiB", upgrade.clone().set("api-key", "k".repeat(7 * 1024))),
            (
                "a key in the query",
                Request::upgrade("").without("api-key").line(&format!(
                    "GET {}?api-key={} HTTP/1.1",
                    crate::request::CONNECT_PATH,
                    gateway.key
                )),
            ),
            ("the admin token", upgrade.set("api-key", hub.admin_token())),
        ];
        let mut bodies = HashSet::new();
        let mut fields = HashSet::new();
        for (name, request) in table {
            let answer = hub.ask(&request);
            assert_eq!(answer.status, 401, "{name}: {answer:?}");
            assert_eq!(answer.field("www-authenticate"), Some("ApiKey"), "{name} (RFC 9110 section 15.5.2)");
            let other = answer.fields.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("date"));
            fields.insert(other.cloned().collect::<Vec<_>>());
            bodies.insert(answer.body);
        }
        assert_eq!((bodies.len(), fields.len()), (1, 1), "the answers tell the cases apart: {bodies:?} {fields:?}");
    });
}

#[test]
fn a_key_that_is_not_text_is_refused() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        for (value, statuses) in [(b"\xff\xfe".as_slice(), [400, 401]), (b"a\0b", [400, 400])] {
            let answer = hub.ask(&Request::upgrade("").set("api-key", value));
            assert!(statuses.contains(&answer.status), "{value:?}: {answer:?}");
        }
        let answer = hub.ask(&Request::upgrade(&gateway.key).with("api-key", &gateway.key));
        assert!(matches!(answer.status, 400 | 401), "two keys: {answer:?}");
    });
}

#[test]
fn the_tenth_attempt_of_an_address_is_admitted_and_the_eleventh_is_429() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let (here, start) = (fresh_address(), Instant::now());
        let mut peers = Vec::new();
        for n in 0..10 {
            if n % 2 == 0 {
                peers.push(Peer::connect(hub.wire_from(here), &gateway.key).unwrap_or_else(|a| panic!("{n}: {a:?}")));
            } else {
                let answer = hub.ask_from(here, &Request::upgrade("wrong"));
                assert_eq!(answer.status, 401, "attempt {n} with a bad key: {answer:?}");
            }
        }
        for key in [&gateway.key, "wrong"] {
            let answer = hub.ask_from(here, &Request::upgrade(key));
            assert_eq!(answer.status, 429, "{answer:?}");
            let (least, wait) = (60 - start.elapsed().as_secs() - 1, answer.retry_after().expect("a Retry-After"));
            assert!(
                (least..=60).contains(&wait),
                "come back in {wait} s, {:?} after the first attempt",
                start.elapsed()
            );
        }
        assert_eq!(hub.ask_from(here, &Request::new("GET", "/health")).status, 200, "health is never limited");
        assert_eq!(
            hub.ask_from(here, &Request::upgrade("k").without("Upgrade")).status,
            426,
            "checked before the rate"
        );
        let forwarded = Request::upgrade(&gateway.key).with("X-Forwarded-For", "203.0.113.7");
        assert_eq!(hub.ask_from(here, &forwarded).status, 429, "X-Forwarded-For is ignored");
        hub.connect(&gateway.key).leave();
        peers.iter_mut().for_each(Peer::is_alive);
    });
}

#[test]
fn the_rate_limit_is_exact_when_all_attempts_come_at_once() {
    on_one_and_four(|hub| {
        let (here, barrier) = (fresh_address(), Barrier::new(32));
        let statuses: Vec<u16> = thread::scope(|scope| {
            let attempt = || {
                let mut wire = hub.wire_from(here);
                barrier.wait();
                wire.send(&Request::upgrade("wrong").bytes());
                Answer::read(&mut wire).unwrap().status
            };
            let attempts: Vec<_> = (0..32).map(|_| scope.spawn(attempt)).collect();
            attempts.into_iter().map(|a| a.join().unwrap()).collect()
        });
        let count = |status| statuses.iter().filter(|s| **s == status).count();
        assert_eq!((count(401), count(429)), (10, 22), "{statuses:?}");
    });
}

#[test]
fn a_full_hub_admits_exactly_its_cap_and_reuses_a_freed_slot() {
    on_own_one_and_four(
        |config| config.connections_max = 5,
        |hub| {
            let gateways = [hub.register(), hub.register()];
            let mut peers: Vec<_> = (0..5).map(|n| hub.connect(&gateways[n % 2].key)).collect();
            for gateway in &gateways {
                let answer = hub.try_connect(&gateway.key).err().expect("the sixth connection is over the cap");
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.retry_after().is_some_and(|s| s > 0), "{answer:?}");
                assert!(answer.text().contains("capacity exceeded"), "{answer:?}");
            }
            assert_eq!(hub.ask(&Request::upgrade("wrong")).status, 401, "the key is checked before the caps");
            peers.iter_mut().for_each(Peer::is_alive);
            for how in ["asks", "resets", "half-closes"] {
                let mut peer = peers.pop().unwrap();
                match how {
                    "asks" => peer.leave(),
                    "resets" => peer.wire.reset(),
                    _ => {
                        peer.wire.close_notify();
                        peer.wire.read_to_end(Instant::now() + PROMPT).expect("the hub ends it");
                    }
                }
                peers.push(hub.connect_soon(&gateways[0].key));
                assert_eq!(
                    hub.try_connect(&gateways[0].key).err().map(|a| a.status),
                    Some(503),
                    "{how}: exactly one slot is freed"
                );
            }
        },
    );
}

#[test]
fn one_gateway_cannot_take_more_than_its_own_cap() {
    on_own_one_and_four(
        |config| config.connections_per_gateway_max = 2,
        |hub| {
            let gateway = hub.register();
            let peers = [hub.connect(&gateway.key), hub.connect(&gateway.key)];
            let answer = hub.try_connect(&gateway.key).err().expect("the third connection is over the cap");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.retry_after().is_some(), "{answer:?}");
            hub.connect_new().1.leave();
            drop(peers);
            hub.connect_soon(&gateway.key).leave();
        },
    );
}

#[test]
fn a_connection_reset_during_admission_frees_its_slot() {
    on_own_one_and_four(
        |config| config.connections_max = 3,
        |hub| {
            let gateway = hub.register();
            for n in 0..40 {
                let mut wire = hub.wire();
                wire.send(&Request::upgrade(&gateway.key).bytes());
                if n % 2 == 0 {
                    wire.reset();
                }
            }
            let _peers: Vec<_> = (0..3).map(|_| hub.connect_soon(&gateway.key)).collect();
            assert_eq!(hub.try_connect(&gateway.key).err().map(|a| a.status), Some(503));
            assert_eq!(hub.stats("")["gatewayConnections"]["totalActive"], 3);
            assert_eq!(hub.rows(&gateway.id).len(), 3);
        },
    );
}

#[test]
fn a_draining_hub_refuses_connections_with_503() {
    on_own_one_and_four(
        |config| config.drain_window = Duration::from_secs(2),
        |hub| {
            let (gateway, peer) = hub.connect_new();
            let mut early = hub.wire();
            early.send(&Request::new("GET", "/ready").bytes());
            assert_eq!(Answer::read(&mut early).unwrap().status, 200);
            hub.drain();
            let answer = hub.try_connect(&gateway.key).err().expect("a draining hub refuses connections");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.retry_after().is_some(), "{answer:?}");
            assert_eq!(hub.ask(&Request::upgrade("wrong")).status, 503, "the key is not checked while draining");
            early.send(&Request::new("GET", "/ready").bytes());
            assert_eq!(
                Answer::read(&mut early).unwrap().status,
                503,
                "not ready, on a connection from before the drain"
            );
            drop((peer, early));
            hub.join();
        },
    );
}
