//! Connections that are cut at every stage while events are published to them: none leaves anything behind.

use crate::{
    harness::{Registered, TestHub, eventually, on_own_one_and_four},
    peer::{CLOSE, Peer, TEXT, frame},
    request::Request,
    socket::{Wire, fresh_address, open},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

const CAP: usize = 40;
const THREADS: usize = 4;
const CUTS_EACH: usize = 150;

#[test]
fn a_connection_cut_at_any_stage_frees_its_slot() {
    on_own_one_and_four(
        |config| config.connections_max = CAP,
        |hub| {
            let gateways: Vec<_> = (0..10).map(|_| hub.register()).collect();
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| publish_until(hub, &gateways, &over));
                let cutters: Vec<_> = (0..THREADS)
                    .map(|part| {
                        let gateways = &gateways;
                        scope.spawn(move || (0..CUTS_EACH).for_each(|n| cut(hub, gateways, n * THREADS + part)))
                    })
                    .collect();
                cutters.into_iter().for_each(|cutter| cutter.join().unwrap());
                over.store(true, Ordering::Relaxed);
            });
            eventually("no connection is left", || hub.stats("")["gatewayConnections"]["totalActive"] == 0);
            let peers: Vec<Peer> = (0..CAP).map(|n| hub.connect_soon(&gateways[n % 10].key)).collect();
            assert_eq!(hub.try_connect(&gateways[0].key).err().map(|answer| answer.status), Some(503));
            assert_eq!(hub.stats("")["gatewayConnections"]["totalActive"], CAP);
            peers.into_iter().for_each(Peer::leave);
        },
    );
}

fn publish_until(hub: &TestHub, gateways: &[Registered], over: &AtomicBool) {
    let payload = format!("\"{}\"", "x".repeat(50_000));
    for gateway in gateways.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let answer = hub.publish(&gateway.id, "churn", &payload);
        let count = |name: &str| answer[name].as_u64().unwrap_or(0);
        assert_eq!(count("delivered") + count("failed") + count("pending"), count("connections").max(1), "{answer}");
    }
}

/// One connection, cut at a stage and in a way that `n` selects.
fn cut(hub: &TestHub, gateways: &[Registered], n: usize) {
    let key = &gateways[n % gateways.len()].key;
    let upgrade = Request::upgrade(key).bytes();
    let wire = match n % 7 {
        0 => Some(hub.wire()),
        1 => {
            let mut wire = Wire::new(open(hub.addr, fresh_address(), |_| {}), None);
            wire.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
            Some(wire)
        }
        2 => {
            let mut wire = hub.wire();
            wire.send(&upgrade[..upgrade.len() / 2]);
            Some(wire)
        }
        3 => {
            let mut wire = hub.wire();
            wire.send(&upgrade);
            Some(wire)
        }
        4 => hub.try_connect(key).ok().map(|peer| peer.wire),
        5 => hub.try_connect(key).ok().map(|mut peer| {
            peer.wire.send(&frame(TEXT, 100, b"half a frame"));
            peer.wire
        }),
        _ => hub.try_connect(key).ok().map(|mut peer| {
            peer.frame(CLOSE, &1000u16.to_be_bytes());
            peer.wire
        }),
    };
    // Or a full hub has refused it.
    let Some(mut wire) = wire else { return };
    match n % 3 {
        0 => wire.reset(),
        1 => wire.close_notify(),
        _ => wire.half_close(),
    }
}
