//! Resuming by position (contract section 1): a gateway that says where it stands gets everything behind that, in order,
//! and then what is published.

use crate::{
    harness::{TestHub, on_one_and_four, on_own_one_and_four},
    peer::Peer,
    request::{Answer, Request},
};
use gatecast::config::EventLogMode;
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// The upgrade request of a gateway that asks to go on behind a position.
fn upgrade(key: &str, position: &str) -> Request {
    Request::upgrade(key).with("last-position", position)
}

fn try_resume(hub: &TestHub, request: &Request) -> Result<Peer, Answer> {
    let mut wire = hub.wire();
    wire.send(&request.bytes());
    let answer = Answer::read(&mut wire).expect("an answer to the upgrade");
    if answer.status == 101 { Ok(Peer::upgraded(wire, &answer)) } else { Err(answer) }
}

fn resume(hub: &TestHub, key: &str, position: &str) -> Peer {
    try_resume(hub, &upgrade(key, position)).unwrap_or_else(|answer| panic!("not admitted: {answer:?}"))
}

/// Publishes an event with this number as its payload, and returns its position.
fn publish(hub: &TestHub, gateway: &str, number: usize) -> String {
    hub.publish(gateway, "t", &number.to_string())["position"].as_str().unwrap().to_owned()
}

/// Reads events up to the one with this number; returns their numbers.
fn read_until(peer: &mut Peer, last: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        numbers.push(peer.event().payload.get().parse().unwrap());
    }
    numbers
}

#[test]
fn a_gateway_that_was_away_gets_what_it_missed_and_then_what_is_new() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut peer = hub.connect(&gateway.key);
        assert_eq!(peer.ack["resumed"], Value::Null, "it did not ask");
        let begin = peer.ack["position"].as_str().unwrap().to_owned();
        let first = publish(hub, &gateway.id, 1);
        assert_eq!(read_until(&mut peer, 1), [1]);
        peer.leave();
        hub.await_rows(&gateway.id, 0);
        let positions: Vec<_> = (2..=400).map(|number| publish(hub, &gateway.id, number)).collect();
        for (position, next) in [(&begin, 1), (&first, 2), (&positions[100], 103), (&positions[398], 401)] {
            let mut peer = resume(hub, &gateway.key, position);
            assert_eq!((&peer.ack["position"], &peer.ack["resumed"]), (&json!(position), &json!(true)));
            if next <= 400 {
                assert_eq!(read_until(&mut peer, 400), (next..=400).collect::<Vec<_>>());
            }
            peer.is_alive();
            peer.leave();
        }
        let mut peer = resume(hub, &gateway.key, &positions[397]);
        publish(hub, &gateway.id, 401);
        assert_eq!(read_until(&mut peer, 401), [400, 401]);
    });
}

#[test]
fn a_position_may_stand_in_the_query() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let begin = hub.connect(&gateway.key).ack["position"].as_str().unwrap().to_owned();
        publish(hub, &gateway.id, 1);
        let line = format!("GET {}?lastPosition={begin} HTTP/1.1", gatecast::api::CONNECT_PATH);
        let mut peer = try_resume(hub, &Request::upgrade(&gateway.key).line(&line)).unwrap();
        assert_eq!(peer.ack["resumed"], json!(true));
        assert_eq!(read_until(&mut peer, 1), [1]);
    });
}

#[test]
fn a_position_that_is_not_known_is_a_clean_slate_that_says_so() {
    on_one_and_four(|hub| {
        let (gateway, other) = (hub.register(), hub.register());
        let last = publish(hub, &gateway.id, 1);
        let (epoch, _) = last.split_once('-').unwrap();
        let foreign = publish(hub, &other.id, 1);
        let beyond = format!("{epoch}-9");
        for position in [beyond.as_str(), &foreign, "0000000000000000-1", "nonsense", &"9".repeat(300), "\u{e4}"] {
            let mut peer = resume(hub, &gateway.key, position);
            assert_eq!((&peer.ack["position"], &peer.ack["resumed"]), (&json!(last), &json!(false)), "{position}");
            assert!(peer.message_within(Duration::from_millis(50)).is_none(), "{position}");
            peer.leave();
        }
        let peer = resume(hub, &gateway.key, "");
        assert_eq!(peer.ack["resumed"], Value::Null, "an empty position asks for nothing");
        let twice = upgrade(&gateway.key, &last).with("last-position", &last);
        assert_eq!(try_resume(hub, &twice).unwrap().ack["resumed"], json!(false));
    });
}

#[test]
fn a_gateway_resumes_while_publishers_go_on_and_nothing_is_missing_at_the_seam() {
    on_one_and_four(|hub| {
        const EVENTS: usize = 2_000;
        let gateway = hub.register();
        let begin = hub.connect(&gateway.key).ack["position"].as_str().unwrap().to_owned();
        thread::scope(|scope| {
            scope.spawn(|| (1..=EVENTS).for_each(|number| drop(publish(hub, &gateway.id, number))));
            let resuming: Vec<_> = (0..6)
                .map(|n| {
                    thread::sleep(Duration::from_millis(n * 20));
                    let mut peer = resume(hub, &gateway.key, &begin);
                    scope.spawn(move || read_until(&mut peer, EVENTS))
                })
                .collect();
            for resumed in resuming {
                assert_eq!(resumed.join().unwrap(), (1..=EVENTS).collect::<Vec<_>>());
            }
        });
    });
}

#[test]
fn a_durable_log_is_resumed_after_a_restart_and_one_in_memory_is_not() {
    for mode in [EventLogMode::Durable, EventLogMode::Memory] {
        on_own_one_and_four(
            |config| config.event_log_mode = mode,
            |hub| {
                let gateway = hub.register();
                let begin = hub.connect(&gateway.key).ack["position"].as_str().unwrap().to_owned();
                publish(hub, &gateway.id, 1);
                hub.drain();
                hub.join();
                let again = hub.restart();
                let mut peer = resume(&again, &gateway.key, &begin);
                let durable = mode == EventLogMode::Durable;
                assert_eq!(peer.ack["resumed"], json!(durable));
                let position = publish(&again, &gateway.id, 2);
                assert_eq!(read_until(&mut peer, 2), if durable { vec![1, 2] } else { vec![2] });
                assert!(position.ends_with(if durable { "-2" } else { "-1" }), "{position}");
                assert_eq!(
                    position.split('-').next() == begin.split('-').next(),
                    durable,
                    "{position}, before {begin}"
                );
            },
        );
    }
}

#[test]
fn a_gateway_that_is_made_again_does_not_resume_the_deleted_one() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let begin = hub.connect(&gateway.key).ack["position"].as_str().unwrap().to_owned();
        publish(hub, &gateway.id, 1);
        assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{}", gateway.id), "").status, 204);
        let body = json!({ "id": gateway.id, "name": format!("again-{}", gateway.id) }).to_string();
        assert_eq!(hub.call("POST", "/api/v1/gateways", &body).status, 201);
        let (_, key) = hub.make_key(&gateway.id);
        let mut peer = resume(hub, &key, &begin);
        assert_eq!(peer.ack["resumed"], json!(false));
        publish(hub, &gateway.id, 2);
        assert_eq!(read_until(&mut peer, 2), [2]);
    });
}

#[test]
fn a_batch_of_8_mib_reaches_every_connection_that_reads() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let peers: Vec<_> = (0..5).map(|_| hub.connect(&gateway.key)).collect();
        let text = "x".repeat(2_000);
        let line = |n: usize| format!(r#"{{"gatewayId":"{}","type":"t","payload":"{n}.{text}"}}"#, gateway.id);
        let body: Vec<_> = (0..3_900).map(line).collect();
        let body = body.join("\n");
        assert!(body.len() > 7 << 20 && body.len() <= gatecast::limits::BATCH_BODY_BYTES_MAX);
        thread::scope(|scope| {
            let reading: Vec<_> = peers
                .into_iter()
                .map(|mut peer| {
                    scope.spawn(move || {
                        for n in 0..3_900 {
                            assert!(peer.event().payload.get().starts_with(&format!("\"{n}.")), "event {n}");
                        }
                    })
                })
                .collect();
            let answer = hub.call("POST", "/api/v1/events", &body);
            assert_eq!(answer.status, 200);
            for line in String::from_utf8_lossy(&answer.body).lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!((&line["connections"], &line["failed"]), (&json!(5), &json!(0)), "{line}");
            }
            reading.into_iter().for_each(|peer| peer.join().unwrap());
        });
    });
}
