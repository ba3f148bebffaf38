//! 4,000 connections at one moment against a cap of 3,000: exactly the cap is admitted, and nothing is left behind.

use crate::{
    harness::{Registered, TestHub, eventually},
    request::{Answer, Request},
    socket::{Wire, fresh_address, open, wait_for},
};
use serde_json::json;
use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const GATEWAYS: usize = 2_000;
const CAP: usize = 3_000;
const THREADS: usize = 8;

/// Time for the whole fleet.
const FLEET_PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_fleet_that_connects_at_once_fills_the_cap_exactly_and_leaves_nothing_behind() {
    let hub = TestHub::with(4, |config| {
        config.connections_max = CAP;
        config.handshake_deadline = FLEET_PATIENCE;
        config.heartbeat_timeout = FLEET_PATIENCE * 2;
    });
    let gateways = register_many(&hub, GATEWAYS);
    let barrier = Barrier::new(THREADS);
    let (admitted, refused): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let connect = |part: &[Registered]| {
            let keys: Vec<String> = part.iter().flat_map(|g| [g.key.clone(), g.key.clone()]).collect();
            barrier.wait();
            connect_all(&hub, &keys)
        };
        let parts: Vec<_> =
            gateways.chunks(GATEWAYS / THREADS).map(|part| scope.spawn(move || connect(part))).collect();
        let all: Vec<_> = parts.into_iter().flat_map(|part| part.join().unwrap()).collect();
        all.into_iter().partition(|(_, answer)| answer.status == 101)
    });
    assert_eq!((admitted.len(), refused.len()), (CAP, GATEWAYS * 2 - CAP));
    for (_, answer) in &refused {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.retry_after().is_some() && answer.text().contains("capacity exceeded"), "{answer:?}");
    }
    drop(refused);
    assert_eq!(hub.stats("?limit=1")["gatewayConnections"]["totalActive"], CAP);
    for (n, (wire, _)) in admitted.into_iter().enumerate() {
        if n % 2 == 0 { wire.reset() } else { drop(wire) }
    }
    eventually("no connection is left", || {
        let stats = hub.stats("");
        let shards = stats["shards"].as_array().unwrap();
        stats["gatewayConnections"]["totalActive"] == 0
            && stats["gatewayConnections"]["connections"] == json!([])
            && shards.iter().all(|shard| shard["connections"] == 0 && shard["gateways"] == 0)
    });
    hub.connect(&gateways[0].key).leave();
}

/// Registers gateways with one key each, from several threads, on persistent connections.
fn register_many(hub: &TestHub, count: usize) -> Vec<Registered> {
    thread::scope(|scope| {
        let register = |part: usize| move || register_on_one_connection(hub, part, count / THREADS);
        let parts: Vec<_> = (0..THREADS).map(|part| scope.spawn(register(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

fn register_on_one_connection(hub: &TestHub, part: usize, count: usize) -> Vec<Registered> {
    let mut wire = hub.wire();
    let mut post = |path: &str, body: &str| {
        wire.send(&hub.platform_request("POST", path, body).bytes());
        let answer = Answer::read(&mut wire).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let mut register = |n: usize| {
        let gateway = post("/api/v1/gateways", &json!({ "name": format!("{part}-{n}") }).to_string());
        let id = gateway["id"].as_str().unwrap().to_owned();
        let token = post(&format!("/api/v1/gateways/{id}/tokens"), "{}");
        let text = |name: &str| token[name].as_str().unwrap().to_owned();
        Registered { id, key: text("token"), token_id: text("id") }
    };
    (0..count).map(&mut register).collect()
}

/// Opens one connection for each key, all at the same time; returns each with its answer to the upgrade.
fn connect_all(hub: &TestHub, keys: &[String]) -> Vec<(Wire, Answer)> {
    let dial = |key: &String| {
        let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), hub.tls());
        wire.queue(&Request::upgrade(key).bytes());
        wire.advance();
        wire
    };
    let mut open: Vec<Wire> = keys.iter().map(dial).collect();
    let mut done = Vec::with_capacity(keys.len());
    let deadline = Instant::now() + FLEET_PATIENCE;
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "{} of {} are not answered", open.len(), keys.len());
        wait_for(&mut open.iter().map(Wire::interest).collect::<Vec<_>>(), Duration::from_millis(100));
        for mut wire in std::mem::take(&mut open) {
            wire.advance();
            if wire.received().is_empty() && wire.end().is_none() {
                open.push(wire);
            } else {
                let answer = Answer::read(&mut wire).expect("an answer to the upgrade");
                done.push((wire, answer));
            }
        }
    }
    done
}
