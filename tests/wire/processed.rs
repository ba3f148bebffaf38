//! Delivery `processed` on a gateway's side (contract section 1): pings that name positions, the window that pongs move, and what
//! a connection begins with.

use crate::{
    harness::{Registered, TestHub, on_own_one_and_four},
    peer::{Event, PONG, Peer, Seen},
    request::{Answer, CONNECT_PATH, Request},
    socket::{PATIENCE, PROMPT, Wire, fresh_address, open},
};
use gatecast::{Config, limits};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Time in which nothing may come.
const QUIET: Duration = Duration::from_millis(300);

/// The only pings of a test are those around its events.
pub fn without_heartbeat(config: &mut Config) {
    config.heartbeat_interval = Duration::from_secs(100);
    config.heartbeat_timeout = Duration::from_secs(200);
}

/// Registers a gateway with the delivery `processed`.
pub fn register(hub: &TestHub) -> Registered {
    let gateway = hub.register();
    set_delivery(hub, &gateway.id, "processed");
    gateway
}

fn set_delivery(hub: &TestHub, gateway: &str, delivery: &str) {
    let body = json!({ "delivery": delivery }).to_string();
    let answer = hub.call("PATCH", &format!("/api/v1/gateways/{gateway}"), &body);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Connects a gateway that answers a ping only when the test says so.
pub fn connect_busy(hub: &TestHub, key: &str) -> Peer {
    let mut peer = hub.connect(key);
    peer.answers_pings = false;
    peer
}

/// Connects with this query behind the path, or returns the refusal.
fn try_connect_with(hub: &TestHub, key: &str, query: &str) -> Result<Peer, Answer> {
    let mut wire = hub.wire();
    wire.send(&Request::upgrade(key).line(&format!("GET {CONNECT_PATH}{query} HTTP/1.1")).bytes());
    let answer = Answer::read(&mut wire).expect("an answer to the upgrade");
    if answer.status == 101 { Ok(Peer::upgraded(wire, &answer)) } else { Err(answer) }
}

/// Reads one event and the ping behind it. Returns the event, and the payloads of the pings in front of it.
pub fn event_and_ping(peer: &mut Peer) -> (Event, Vec<Vec<u8>>) {
    let (deadline, mut before) = (Instant::now() + PATIENCE, Vec::new());
    let event = loop {
        match peer.next(deadline) {
            Seen::Ping(payload) => before.push(payload),
            Seen::Text(text) => break serde_json::from_str::<Event>(&text).unwrap(),
            other => panic!("instead of an event: {other:?}"),
        }
    };
    match peer.next(deadline) {
        Seen::Ping(payload) => assert_eq!(Some(payload.as_slice()), event.position.as_deref().map(str::as_bytes)),
        other => panic!("instead of the ping behind {event:?}: {other:?}"),
    }
    (event, before)
}

/// Reads one event and the ping behind it; returns the event's payload.
pub fn handle_one(peer: &mut Peer) -> String {
    event_and_ping(peer).0.payload.get().to_owned()
}

/// Answers the ping behind the event at this position.
pub fn pong(peer: &mut Peer, position: &str) {
    assert!(peer.frame(PONG, position.as_bytes()), "the hub takes our pong");
}

/// Nothing comes, apart from pings.
pub fn assert_quiet(peer: &mut Peer) {
    assert_eq!(peer.message_within(QUIET), None);
}

/// Publishes an event with this payload; returns its position.
pub fn publish(hub: &TestHub, gateway: &str, payload: &str) -> String {
    position(&hub.publish(gateway, "t", payload))
}

pub fn position(outcome: &Value) -> String {
    outcome["position"].as_str().unwrap().to_owned()
}

#[test]
fn behind_each_event_comes_a_ping_whose_payload_is_its_position() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let mut peer = hub.connect(&gateway.key);
        let mut last = peer.ack["position"].as_str().unwrap().to_owned();
        let mut asked_first = 0;
        for n in 0..20 {
            let published = publish(hub, &gateway.id, &n.to_string());
            let (event, before) = event_and_ping(&mut peer);
            assert_eq!((event.payload.get(), event.position.as_deref()), (&*n.to_string(), Some(&*published)));
            // Only after a second of silence, which a slow machine may have.
            assert!(before.is_empty() || before == [last.as_bytes()], "{before:?} in front of {published}");
            asked_first += before.len();
            last = published;
        }
        assert!((1..20).contains(&asked_first), "nothing was answered before the first event only: {asked_first}");
    });
}

#[test]
fn after_a_second_of_silence_a_ping_goes_in_front_of_an_event_and_names_the_one_before() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let mut peer = hub.connect(&gateway.key);
        let first = publish(hub, &gateway.id, "1");
        assert_eq!(event_and_ping(&mut peer).1, [peer.ack["position"].as_str().unwrap().as_bytes()]);
        thread::sleep(Duration::from_millis(1_200));
        publish(hub, &gateway.id, "2");
        assert_eq!(event_and_ping(&mut peer).1, [first.as_bytes()]);
    });
}

#[test]
fn a_window_of_events_is_given_and_each_pong_makes_room() {
    for window in [1, 3] {
        let change = |config: &mut Config| {
            without_heartbeat(config);
            config.delivery_window = window;
        };
        on_own_one_and_four(change, |hub| {
            let gateway = register(hub);
            let mut peer = connect_busy(hub, &gateway.key);
            let positions: Vec<_> = (0..8).map(|n| publish(hub, &gateway.id, &n.to_string())).collect();
            let given = |peer: &mut Peer, numbers: std::ops::Range<usize>| {
                numbers.for_each(|n| assert_eq!(handle_one(peer), n.to_string()));
                assert_quiet(peer);
            };
            let window = window as usize;
            given(&mut peer, 0..window);
            for nothing in ["", "0", "0000000000000001-1", &positions[window]] {
                pong(&mut peer, nothing);
            }
            assert_quiet(&mut peer);
            pong(&mut peer, &positions[0]);
            given(&mut peer, window..window + 1);
            // One pong answers all before it.
            pong(&mut peer, &positions[window]);
            given(&mut peer, window + 1..(2 * window + 1).min(8));
            let row = hub.rows(&gateway.id).remove(0);
            assert_eq!(row["processed"], json!(positions[window]), "{row}");
        });
    }
}

#[test]
fn a_gateway_that_comes_back_gets_what_it_has_not_processed() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = register(hub);
        let mut peer = connect_busy(hub, &gateway.key);
        let positions: Vec<_> = (1..=3).map(|n| publish(hub, &gateway.id, &n.to_string())).collect();
        assert_eq!(handle_one(&mut peer), "1");
        pong(&mut peer, &positions[0]);
        assert_eq!(handle_one(&mut peer), "2");
        drop(peer);
        hub.await_rows(&gateway.id, 0);
        publish(hub, &gateway.id, "4");
        let mut peer = hub.connect(&gateway.key);
        assert_eq!((&peer.ack["position"], &peer.ack["resumed"]), (&json!(positions[0]), &Value::Null));
        (2..=4).for_each(|n| assert_eq!(handle_one(&mut peer), n.to_string()));
        peer.is_alive();
        peer.leave();
        hub.await_rows(&gateway.id, 0);
        hub.drain();
        hub.join();
        let hub = hub.restart();
        let last = publish(&hub, &gateway.id, "5");
        let mut peer = hub.connect(&gateway.key);
        let (event, _) = event_and_ping(&mut peer);
        assert_eq!((event.payload.get(), event.position), ("5", Some(last)));
    });
}

#[test]
fn a_gateway_that_is_switched_on_begins_at_the_head_and_its_connections_close() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let gateway = hub.register();
        let head = publish(hub, &gateway.id, "1");
        for delivery in ["processed", "written"] {
            let mut peer = hub.connect(&gateway.key);
            set_delivery(hub, &gateway.id, delivery);
            assert_eq!(peer.closed(), (Some(1001), "delivery changed".to_owned()));
            hub.await_rows(&gateway.id, 0);
            let mut peer = hub.connect(&gateway.key);
            assert_eq!(peer.ack["position"], json!(head), "nothing of before");
            // The same once more changes nothing.
            set_delivery(hub, &gateway.id, delivery);
            peer.is_alive();
            assert_eq!(hub.rows(&gateway.id)[0]["delivery"], json!(delivery));
            peer.leave();
        }
    });
}

#[test]
fn an_event_that_takes_longer_than_the_processing_timeout_closes_the_connection_and_comes_again() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let change = |config: &mut Config| {
        without_heartbeat(config);
        config.delivery_processing_timeout = TIMEOUT;
    };
    on_own_one_and_four(change, |hub| {
        let gateway = register(hub);
        let mut peer = connect_busy(hub, &gateway.key);
        let position = publish(hub, &gateway.id, "1");
        assert_eq!(handle_one(&mut peer), "1");
        let given = Instant::now();
        // A sign of life is no answer.
        peer.text(r#"{"type":"still.at.work"}"#);
        assert_eq!(peer.closed(), (Some(1011), "processing timeout".to_owned()));
        assert!((TIMEOUT - QUIET..TIMEOUT + PROMPT).contains(&given.elapsed()), "{:?}", given.elapsed());
        let mut peer = hub.connect(&gateway.key);
        assert_eq!(event_and_ping(&mut peer).0.position, Some(position));
    });
}

#[test]
fn a_connection_that_asks_for_written_gets_empty_pings_and_no_window_and_proves_nothing() {
    let change = |config: &mut Config| config.heartbeat_interval = Duration::from_millis(200);
    on_own_one_and_four(change, |hub| {
        let gateway = register(hub);
        let mut beside = try_connect_with(hub, &gateway.key, "?delivery=written").unwrap();
        for n in 0..5 {
            publish(hub, &gateway.id, &n.to_string());
        }
        let deadline = Instant::now() + PATIENCE;
        let (mut events, mut pings) = (0, 0);
        while events < 5 || pings == 0 {
            match beside.next(deadline) {
                Seen::Text(_) => events += 1,
                Seen::Ping(payload) => {
                    assert_eq!(payload, b"");
                    pings += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(hub.rows(&gateway.id)[0]["delivery"], "written");
        let mut peer = hub.connect(&gateway.key);
        (0..5).for_each(|n| assert_eq!(peer.event().payload.get(), n.to_string()));
        let twice = "?delivery=written&delivery=processed";
        let encoded = "?%64elivery=processed";
        for query in ["?delivery=other", "?delivery=processed", "?delivery=", "?delivery", encoded, twice] {
            let refusal = try_connect_with(hub, &gateway.key, query).err().expect(query);
            assert_eq!(refusal.status, 400, "{query}: {refusal:?}");
        }
    });
}

#[test]
fn with_the_delivery_written_a_gateway_gets_its_events_and_nothing_around_them() {
    on_own_one_and_four(without_heartbeat, |hub| {
        let (gateway, mut peer) = hub.connect_new();
        for n in 0..3 {
            let published = publish(hub, &gateway.id, &n.to_string());
            let Seen::Text(text) = peer.next(Instant::now() + PATIENCE) else { panic!("not an event") };
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap().position, Some(published));
            thread::sleep(Duration::from_millis(500));
        }
        let seen = peer.next(Instant::now() + QUIET);
        assert!(matches!(seen, Seen::Nothing) && peer.wire.received().is_empty(), "{seen:?}");
    });
}

#[test]
fn the_pings_between_the_fragments_of_a_large_event_name_the_event_before() {
    let change = |config: &mut Config| config.heartbeat_interval = Duration::from_millis(100);
    on_own_one_and_four(change, |hub| {
        let gateway = register(hub);
        // A gateway with a small receive buffer: most of a large event waits in the hub.
        let socket = open(hub.addr, fresh_address(), |socket| socket.set_recv_buffer_size(8 * 1024).unwrap());
        let mut peer = Peer::connect(Wire::new(socket, hub.tls()), &gateway.key).unwrap();
        let mut before = publish(hub, &gateway.id, "1");
        assert_eq!(handle_one(&mut peer), "1");
        let payload = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX - 2));
        let deadline = Instant::now() + PATIENCE;
        // Now and then the kernel takes all fragments at once, and no ping is due between two of them.
        let mut within = 0;
        while within == 0 && Instant::now() < deadline {
            thread::scope(|scope| {
                let publisher = scope.spawn(|| publish(hub, &gateway.id, &payload));
                let text = loop {
                    // Slowly, so that pings become due meanwhile.
                    thread::sleep(Duration::from_millis(5));
                    match peer.next_frame(deadline) {
                        Some(Seen::Ping(named)) => {
                            assert_eq!(named, before.as_bytes());
                            within += usize::from(peer.is_within_message());
                        }
                        Some(Seen::Text(text)) => break text,
                        None => {}
                        other => panic!("{other:?}"),
                    }
                };
                let event: Event = serde_json::from_str(&text).unwrap();
                assert_eq!(event.payload.get(), payload);
                let Seen::Ping(behind) = peer.next(deadline) else { panic!("no ping behind the event") };
                let published = publisher.join().unwrap();
                assert_eq!((&behind, event.position), (&published.clone().into_bytes(), Some(published.clone())));
                before = published;
            });
        }
        assert!(within > 0, "no ping came between two fragments");
    });
}
