//! The heartbeat (contract section 1, rows 3 and 4, acceptance list H), with all times divided by fifty.

use crate::{
    harness::{TestHub, on_own_one_and_four},
    peer::{PONG, Peer, Seen},
    socket::PATIENCE,
};
use gatecast::Config;
use std::{
    thread,
    time::{Duration, Instant},
};

const INTERVAL: Duration = Duration::from_millis(400);
const TIMEOUT: Duration = Duration::from_millis(1_000);
/// The delay that a busy machine may add.
const SLACK: Duration = Duration::from_millis(1_500);

fn scaled(config: &mut Config) {
    config.heartbeat_interval = INTERVAL;
    config.heartbeat_timeout = TIMEOUT;
}

/// Waits for the next ping; returns its payload and time.
fn await_ping(peer: &mut Peer) -> (Vec<u8>, Instant) {
    loop {
        match peer.next(Instant::now() + PATIENCE) {
            Seen::Ping(payload) => return (payload, Instant::now()),
            Seen::Text(_) | Seen::Pong(_) => {}
            other => panic!("instead of a ping: {other:?}"),
        }
    }
}

/// Checks that the connection stays open for `long` while it does `each` every quarter of the timeout.
fn stays(hub: &TestHub, time: Duration, mut peer: Peer, mut each: impl FnMut(&mut Peer)) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        each(&mut peer);
        let pause = Instant::now() + TIMEOUT / 4;
        loop {
            match peer.next(pause) {
                Seen::Nothing => break,
                Seen::Ping(_) | Seen::Pong(_) | Seen::Text(_) => {}
                other => panic!("its bytes restarted the timeout, yet it got {other:?}"),
            }
        }
    }
    let gateway = peer.ack["gatewayId"].as_str().unwrap().to_owned();
    assert_eq!(hub.rows(&gateway).len(), 1);
}

#[test]
fn empty_pings_come_every_interval_from_the_start() {
    on_own_one_and_four(scaled, |hub| {
        let gateway = hub.register();
        let start = Instant::now();
        let mut peer = hub.connect(&gateway.key);
        let (payload, mut last) = await_ping(&mut peer);
        assert!(payload.is_empty(), "{payload:?}");
        assert!(last - start <= INTERVAL + SLACK, "the first ping took {:?}", last - start);
        let mut gaps = Vec::new();
        for _ in 0..5 {
            let (payload, at) = await_ping(&mut peer);
            assert!(payload.is_empty(), "{payload:?}");
            gaps.push(at - last);
            last = at;
        }
        assert!(gaps.iter().max().unwrap() <= &(INTERVAL + SLACK), "{gaps:?}");
        assert!(gaps.iter().sum::<Duration>() >= INTERVAL * 4, "the pings came in a burst: {gaps:?}");
    });
}

#[test]
fn a_silent_peer_is_closed_at_the_timeout_and_not_later() {
    on_own_one_and_four(scaled, |hub| {
        let gateway = hub.register();
        let lives: Vec<Duration> = thread::scope(|scope| {
            let silent = || {
                let mut peer = hub.connect(&gateway.key);
                peer.answers_pings = false;
                let last_sign = Instant::now();
                peer.frame(PONG, b"the last bytes");
                let (code, reason) = peer.close_frame();
                let life = last_sign.elapsed();
                assert_eq!((code, reason.as_str()), (Some(1001), "heartbeat timeout"));
                assert!(
                    peer.wire.read_to_end(Instant::now() + PATIENCE).is_some(),
                    "the socket is closed after the close frame"
                );
                life
            };
            let peers: Vec<_> = (0..6).map(|_| scope.spawn(silent)).collect();
            peers.into_iter().map(|peer| peer.join().unwrap()).collect()
        });
        assert!(lives.iter().all(|life| (TIMEOUT..TIMEOUT + SLACK).contains(life)), "{lives:?}");
        let soonest = lives.iter().min().unwrap();
        assert!(*soonest < TIMEOUT + INTERVAL / 2, "all were closed later than at the timeout: {lives:?}");
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn any_bytes_restart_the_heartbeat_timeout() {
    let long = TIMEOUT * 3;
    on_own_one_and_four(scaled, |hub| {
        thread::scope(|scope| {
            scope.spawn(|| stays(hub, long, hub.connect_new().1, |_| {}));
            let mute = || {
                let mut peer = hub.connect_new().1;
                peer.answers_pings = false;
                peer
            };
            scope.spawn(move || stays(hub, long, mute(), |peer| peer.text("{}")));
            scope.spawn(move || stays(hub, long, mute(), |peer| assert!(peer.frame(PONG, b"not what was asked"))));
            scope.spawn(move || {
                // A single byte of a frame counts as well.
                let mut bytes = crate::peer::frame(crate::peer::TEXT, 100, &[b' '; 100]).into_iter();
                stays(hub, long, mute(), |peer| assert!(peer.wire.send(&[bytes.next().unwrap()])));
            });
        });
    });
}

#[test]
fn pings_go_out_while_events_stream() {
    on_own_one_and_four(scaled, |hub| {
        let (gateway, mut peer) = hub.connect_new();
        let payload = format!("\"{}\"", "x".repeat(200_000));
        thread::scope(|scope| {
            let busy = scope.spawn(|| {
                let end = Instant::now() + TIMEOUT * 3;
                while Instant::now() < end {
                    assert_eq!(hub.publish(&gateway.id, "load", &payload)["connections"], 1);
                }
            });
            let mut last = Instant::now();
            while !busy.is_finished() {
                let (_, at) = await_ping(&mut peer);
                assert!(at - last <= INTERVAL + SLACK, "{:?} without a ping", at - last);
                last = at;
            }
        });
    });
}

#[test]
fn a_peer_that_vanishes_is_closed_at_the_timeout_and_delays_no_other() {
    on_own_one_and_four(scaled, |hub| {
        let gateway = hub.register();
        let (gone, mut stays) = (hub.connect(&gateway.key), hub.connect(&gateway.key));
        gone.wire.vanish();
        let start = Instant::now();
        while hub.rows(&gateway.id).len() == 2 {
            assert!(start.elapsed() < TIMEOUT + SLACK, "the connection is still listed");
            hub.publish(&gateway.id, "t", "1");
            assert_eq!(stays.event().payload.get(), "1");
            // The events fit into the kernel's buffer; beyond it a publish would wait for its timeout.
            thread::sleep(Duration::from_millis(20));
        }
        assert!(start.elapsed() >= TIMEOUT - INTERVAL, "it was closed after {:?}", start.elapsed());
        assert_eq!(hub.rows(&gateway.id)[0]["connectionId"], stays.connection_id());
    });
}

#[test]
fn a_peer_that_half_closes_is_closed_at_once() {
    on_own_one_and_four(scaled, |hub| {
        for notify in [true, false] {
            let (gateway, mut peer) = hub.connect_new();
            let start = Instant::now();
            if notify {
                peer.wire.close_notify()
            } else {
                peer.wire.half_close()
            }
            assert!(peer.wire.read_to_end(Instant::now() + PATIENCE).is_some());
            hub.await_rows(&gateway.id, 0);
            assert!(start.elapsed() < TIMEOUT, "it took {:?}, as long as for a silent peer", start.elapsed());
        }
    });
}

/// The time that a silent peer gets after the timeout if its kernel acknowledges bytes.
const GRACE: Duration = Duration::from_millis(2_000);

fn with_grace(config: &mut Config) {
    scaled(config);
    config.heartbeat_busy_grace = GRACE;
}

/// Polls the statistics until the only connection of a gateway is gone or has `last` as its status. Returns each status
/// that it had and when it was first seen.
fn statuses_until(hub: &TestHub, gateway: &str, last: &str) -> Vec<(String, Instant)> {
    let (mut seen, deadline): (Vec<(String, Instant)>, _) = (Vec::new(), Instant::now() + PATIENCE);
    while Instant::now() < deadline {
        let Some(row) = hub.rows(gateway).pop() else { return seen };
        let status = row["status"].as_str().unwrap();
        if seen.last().is_none_or(|(before, _)| before != status) {
            seen.push((status.to_owned(), Instant::now()));
        }
        if status == last {
            return seen;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("still there, and not {last}: {seen:?}");
}

#[test]
fn a_silent_peer_whose_kernel_acknowledges_is_stale_until_the_grace_is_over() {
    on_own_one_and_four(with_grace, |hub| {
        let (gateway, mut peer) = hub.connect_new();
        peer.answers_pings = false;
        let last_sign = Instant::now();
        assert!(peer.frame(PONG, b"the last bytes"));
        let seen = statuses_until(hub, &gateway.id, "none");
        let life = last_sign.elapsed();
        let names: Vec<_> = seen.iter().map(|(status, _)| status.as_str()).collect();
        assert!(matches!(names[..], ["connected", "stale"] | ["connected", "stale", "closing"]), "{names:?}");
        let stale = seen[1].1 - last_sign;
        assert!((TIMEOUT..TIMEOUT + SLACK).contains(&stale), "stale after {stale:?}");
        assert!((TIMEOUT + GRACE..TIMEOUT + GRACE + SLACK).contains(&life), "closed after {life:?}");
        assert_eq!(peer.close_frame(), (Some(1001), "heartbeat timeout".to_owned()));
        assert!(peer.wire.read_to_end(Instant::now() + PATIENCE).is_some(), "the socket is closed");
    });
}

#[test]
fn a_stale_peer_that_answers_is_connected_again() {
    on_own_one_and_four(with_grace, |hub| {
        let (gateway, mut peer) = hub.connect_new();
        peer.answers_pings = false;
        assert_eq!(statuses_until(hub, &gateway.id, "stale").len(), 2);
        assert!(peer.frame(PONG, b""));
        peer.is_alive();
        assert_eq!(hub.rows(&gateway.id)[0]["status"], "connected");
    });
}
