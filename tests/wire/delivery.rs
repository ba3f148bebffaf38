//! From a publish to the sockets (contract sections 1 and 2): the ack first, payloads unchanged, one order for all.

use crate::{
    harness::{TestHub, on_one_and_four},
    peer::{CLOSE, Event, Peer, Seen},
    request::{Answer, Request},
    socket::{PATIENCE, fresh_address},
};
use gatecast::limits;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// Parses a time in the contract's form: RFC 3339 in UTC with milliseconds.
fn assert_timestamp(text: &str) {
    assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[19] == b'.', "{text:?}");
    text.parse::<jiff::Timestamp>().unwrap_or_else(|e| panic!("{e} in {text:?}"));
}

fn assert_uuid(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a string"));
    assert!(text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(), "{text:?}");
}

/// A payload of exactly this many bytes.
fn payload_of(bytes: usize) -> String {
    format!(r#"{{"p":"{}"}}"#, "x".repeat(bytes - 8))
}

#[test]
fn the_ack_comes_first_and_has_gateway_and_connection_id() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut ids = HashSet::new();
        for _ in 0..3 {
            let peer = hub.connect(&gateway.key);
            assert_eq!(peer.ack["gatewayId"], gateway.id.as_str());
            assert_uuid(&peer.ack["connectionId"]);
            assert_timestamp(peer.ack["timestamp"].as_str().unwrap());
            let allowed = ["type", "gatewayId", "connectionId", "timestamp", "position"];
            assert!(peer.ack.as_object().unwrap().keys().all(|k| allowed.contains(&k.as_str())), "{}", peer.ack);
            ids.insert(peer.connection_id().to_owned());
        }
        assert_eq!(ids.len(), 3, "every connection has an id of its own");
    });
}

#[test]
fn no_event_precedes_the_ack_however_many_are_published() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    hub.publish(&gateway.id, "busy", "{}");
                }
            });
            for _ in 0..30 {
                hub.connect(&gateway.key).leave();
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn an_event_has_the_members_of_the_contract_and_no_others() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let correlation = uuid::Uuid::new_v4().to_string();
        let body =
            json!({ "type": "api.deployed", "payload": {"a": 1}, "correlationId": correlation, "userId": "u \"1\"" });
        let answer = hub.try_publish(&gateway.id, &body.to_string()).json();
        let event = peer.event();
        assert_eq!((event.kind.as_str(), event.payload.get()), ("api.deployed", r#"{"a":1}"#));
        assert_eq!((&event.gateway_id, &event.correlation_id), (&gateway.id, &correlation));
        assert_eq!(event.user_id.as_deref(), Some("u \"1\""));
        assert_timestamp(&event.timestamp);
        assert_eq!(answer["correlationId"], correlation, "the publisher's own is kept");
        assert!(event.position.is_none_or(|p| answer["position"] == p), "{answer}");

        let answer = hub.publish(&gateway.id, "x", "{}");
        let event = peer.event();
        assert_uuid(&answer["correlationId"]);
        assert_eq!((answer["correlationId"].as_str(), event.user_id), (Some(event.correlation_id.as_str()), None));
    });
}

#[test]
fn a_payload_arrives_byte_for_byte() {
    let payloads = [
        r#"{}"#,
        r#"{"b":1,"a":2,"b":3,"":null}"#,
        r#"{"n":123456789012345678901234567890,"d":1.10,"e":1E+02,"z":-0,"s":0.1000000000000000055511151231257827}"#,
        r#"{"performedAt":"2024-01-01T00:00:00.000000001Z"}"#,
        r#"{"\u0061":"\u00e9\/\\\"\b\f\n\r\t","pair":"\ud83d\ude00","raw":"é😀","nul":"\u0000"}"#,
        r#"{ "spaces" : [ 1 ,2,  3 ] , "deep":[[[[{"a":[]}]]]] }"#,
        "{\n\t\"lines\": true\r\n}",
        r#"{"type":"connection.ack","payload":{"}":"{"},"gatewayId":"other"}"#,
        r#"{"line separators":"  ","delete":""}"#,
    ];
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        for payload in payloads {
            hub.publish(&gateway.id, "raw", payload);
            assert_eq!(peer.event().payload.get(), payload);
        }
        let body = format!("{{\"payload\" : {} , \"type\":\"last\"}}", payloads[4]);
        assert_eq!(hub.try_publish(&gateway.id, &body).status, 200, "the payload may come before the type");
        assert_eq!(peer.event().payload.get(), payloads[4]);
    });
}

#[test]
fn a_payload_of_one_mebibyte_passes_and_one_byte_more_is_refused() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        for bytes in [125, 126, 65_535, 65_536, limits::FRAGMENT_BYTES, limits::PAYLOAD_BYTES_MAX] {
            let payload = payload_of(bytes);
            assert_eq!(hub.publish(&gateway.id, "big", &payload)["connections"], 1);
            assert!(peer.event().payload.get() == payload, "{bytes} bytes");
        }
        let body = format!(r#"{{"type":"big","payload":{}}}"#, payload_of(limits::PAYLOAD_BYTES_MAX + 1));
        assert_eq!(hub.try_publish(&gateway.id, &body).status, 413);
        hub.publish(&gateway.id, "marker", "{}");
        assert_eq!(peer.event().kind, "marker", "a refused event is not sent");
    });
}

#[test]
fn an_invalid_event_is_refused_with_the_invalid_field() {
    let long = format!(r#"{{"type":"{}","payload":{{}}}}"#, "x".repeat(129));
    let table = [
        ("no JSON", "{", ""),
        ("nothing", "", ""),
        ("an array", "[]", ""),
        ("no type", r#"{"payload":{}}"#, "type"),
        ("no payload", r#"{"type":"t"}"#, "payload"),
        ("an empty type", r#"{"type":"","payload":{}}"#, "type"),
        ("a type with a blank", r#"{"type":"a b","payload":{}}"#, "type"),
        ("a type that is no text", r#"{"type":7,"payload":{}}"#, "type"),
        ("a type of 129 characters", &long, "type"),
        ("a correlation id that is no UUID", r#"{"type":"t","payload":{},"correlationId":"x"}"#, "correlationId"),
        ("something after the event", r#"{"type":"t","payload":{}} x"#, ""),
    ];
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        for (name, body, place) in &table {
            let request = hub.platform_request("POST", &format!("/api/v1/gateways/{}/events", gateway.id), "");
            let answer = hub.ask(&request.body(body));
            assert_eq!(answer.status, 400, "{name}: {answer:?}");
            assert!(answer.json()["description"].as_str().unwrap().contains(place), "{name}: {}", answer.text());
        }
        hub.publish(&gateway.id, &"x".repeat(128), "{}");
        assert_eq!(peer.event().kind.len(), 128);
    });
}

#[test]
fn every_connection_of_a_gateway_gets_the_event_and_the_answer_counts_them() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let (_, other) = hub.make_key(&gateway.id);
        let stranger = hub.connect_new();
        let mut peers = vec![];
        for count in 1..=4 {
            peers.push(hub.connect(if count % 2 == 0 { &gateway.key } else { &other }));
            let answer = hub.publish(&gateway.id, "t", &count.to_string());
            assert_eq!((&answer["connections"], &answer["delivered"]), (&json!(count), &json!(count)), "{answer}");
            assert_eq!(answer["failed"], 0, "{answer}");
            for peer in &mut peers {
                assert_eq!(peer.event().payload.get(), count.to_string());
            }
        }
        peers.pop().unwrap().leave();
        hub.await_rows(&gateway.id, 3);
        assert_eq!(hub.publish(&gateway.id, "t", "{}")["delivered"], 3);
        let (other, mut peer) = stranger;
        hub.publish(&other.id, "own", "{}");
        assert_eq!(peer.event().kind, "own", "it receives only its own gateway's events");
    });
}

#[test]
fn an_event_for_a_gateway_that_is_not_connected_is_a_failed_delivery() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let answer = hub.publish(&gateway.id, "t", "{}");
        assert_eq!(
            (&answer["connections"], &answer["delivered"], &answer["failed"]),
            (&json!(0), &json!(0), &json!(1))
        );
        assert_eq!(answer["failures"][0]["reason"], "gateway not connected", "{answer}");
        let nobody = uuid::Uuid::new_v4();
        assert_eq!(hub.try_publish(&nobody.to_string(), r#"{"type":"t","payload":{}}"#).status, 404);
        assert!(matches!(hub.try_publish("no-uuid", r#"{"type":"t","payload":{}}"#).status, 400 | 404));
    });
}

#[test]
fn all_connections_receive_racing_publishers_events_in_one_order() {
    const PUBLISHERS: usize = 6;
    const EACH: usize = 60;
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let mut peers: Vec<_> = (0..5).map(|_| hub.connect(&gateway.key)).collect();
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let gateway = &gateway;
                scope.spawn(move || publish_in_turn(hub, &gateway.id, publisher, EACH));
            }
        });
        let seen: Vec<Vec<String>> = peers.iter_mut().map(|peer| payloads(peer, PUBLISHERS * EACH)).collect();
        assert!(seen.iter().all(|order| *order == seen[0]), "not all connections see the same order");
        for publisher in 0..PUBLISHERS {
            let own: Vec<_> = seen[0].iter().filter(|p| p.starts_with(&format!("[{publisher},"))).collect();
            let turns: Vec<_> = (0..EACH).map(|n| format!("[{publisher},{n}]")).collect();
            assert!(own.iter().copied().eq(&turns), "publisher {publisher}: {own:?}");
        }
    });
}

fn publish_in_turn(hub: &TestHub, gateway: &str, publisher: usize, count: usize) {
    let mut wire = hub.wire();
    for n in 0..count {
        let body = format!(r#"{{"type":"race","payload":[{publisher},{n}]}}"#);
        wire.send(&hub.platform_request("POST", &format!("/api/v1/gateways/{gateway}/events"), &body).bytes());
        let answer = Answer::read(&mut wire).unwrap();
        assert_eq!((answer.status, answer.json()["delivered"].as_u64()), (200, Some(5)), "{answer:?}");
    }
}

fn payloads(peer: &mut Peer, count: usize) -> Vec<String> {
    (0..count).map(|_| peer.event().payload.get().to_owned()).collect()
}

#[test]
fn a_batch_is_answered_line_by_line_and_an_invalid_line_fails_alone() {
    on_one_and_four(|hub| {
        let (one, mut first) = hub.connect_new();
        let (two, mut second) = hub.connect_new();
        let correlation = uuid::Uuid::new_v4().to_string();
        let line =
            |gateway: &str, n: u32| format!(r#"{{"gatewayId":"{gateway}","type":"batch","payload":{{ "n":{n}}}}}"#);
        let nobody = uuid::Uuid::new_v4().to_string();
        let lines = [
            line(&one.id, 0),
            line(&two.id, 1),
            "not json".to_owned(),
            line(&nobody, 3),
            line(&one.id, 4),
            r#"{"type":"batch","payload":{}}"#.to_owned(),
            format!(
                r#"{{"gatewayId":"{}","type":"batch","payload":{{ "n":6}},"correlationId":"{correlation}"}}"#,
                two.id
            ),
        ];
        let request = hub.platform_request("POST", "/api/v1/events", &lines.join("\n"));
        let answer = hub.ask(&request.set("Content-Type", "application/x-ndjson"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let results: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(results.len(), lines.len(), "{}", answer.text());
        for (n, result) in results.iter().enumerate() {
            let delivered = result["delivered"].as_u64();
            assert_eq!(delivered, if [0, 1, 4, 6].contains(&n) { Some(1) } else { None }, "line {n}: {result}");
        }
        assert_eq!((&results[2]["status"], &results[3]["status"]), (&json!(400), &json!(404)), "{}", answer.text());
        assert_eq!(results[6]["correlationId"], correlation);
        assert_eq!(payloads(&mut first, 2), [r#"{ "n":0}"#, r#"{ "n":4}"#]);
        assert_eq!(payloads(&mut second, 2), [r#"{ "n":1}"#, r#"{ "n":6}"#]);
    });
}

#[test]
fn the_deployment_hook_publishes_to_each_gateway_even_if_one_fails() {
    on_one_and_four(|hub| {
        let (up, mut peer) = hub.connect_new();
        let mut sibling = hub.connect(&up.key);
        let down = hub.register();
        let api = uuid::Uuid::new_v4().to_string();
        let body = json!([
            { "gatewayId": up.id, "vhost": "api.example", "environment": "staging" },
            { "gatewayId": down.id, "vhost": "b.example" },
        ]);
        let answer = hub.call("POST", &format!("/api/v1/apis/{api}/deploy-revision?revisionId=r-7"), &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let items = answer.as_array().or_else(|| answer["list"].as_array()).unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(items.len(), 2, "{answer}");
        let counts = |item: &Value| {
            ["liveGatewayCount", "deployedGatewayCount", "failedGatewayCount"].map(|name| item[name].as_u64().unwrap())
        };
        assert_eq!((counts(&items[0]), counts(&items[1])), ([2, 2, 0], [0, 0, 1]), "{answer}");
        for item in items {
            assert!(item["status"].is_string(), "{item}");
            assert_uuid(&item["correlationId"]);
        }
        for peer in [&mut peer, &mut sibling] {
            let event: Event = peer.event();
            let payload: Value = serde_json::from_str(event.payload.get()).unwrap();
            let wanted = json!({
                "apiUuid": api, "revisionId": "r-7", "vhost": "api.example", "environment": "staging",
                "apiId": api, "deploymentId": "r-7", "performedAt": event.timestamp,
            });
            assert_eq!((event.kind.as_str(), payload), ("api.deployed", wanted));
            assert_eq!(items[0]["correlationId"], event.correlation_id);
        }
        let mut late = hub.connect(&down.key);
        let body = json!([{ "gatewayId": down.id, "vhost": "v" }]).to_string();
        hub.call("POST", &format!("/api/v1/apis/{api}/deploy-revision?revisionId=r-8"), &body);
        assert!(late.event().payload.get().contains(r#""environment":"production""#));
        let answer = hub.ask_from(
            fresh_address(),
            &Request::new("POST", &format!("/api/v1/apis/{api}/deploy-revision")).body("[]"),
        );
        assert_eq!(answer.status, 401, "{answer:?}");
    });
}

#[test]
fn deployments_of_one_gateway_have_rising_times() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let target = json!({ "gatewayId": gateway.id, "vhost": "v" });
        let api = uuid::Uuid::new_v4().to_string();
        for revision in 0..3 {
            // The ten deployments of one call are accepted at the same time.
            let body = json!(vec![&target; 10]).to_string();
            let path = format!("/api/v1/apis/{api}/deploy-revision?revisionId=r-{revision}");
            assert_eq!(hub.call("POST", &path, &body).status, 200);
        }
        let times: Vec<String> = (0..30)
            .map(|_| {
                let payload: Value = serde_json::from_str(peer.event().payload.get()).unwrap();
                payload["performedAt"].as_str().expect("RFC 3339").to_owned()
            })
            .collect();
        assert!(times.iter().all(|time| time.len() == "2024-01-01T00:00:00.000Z".len()), "{times:?}");
        assert!(
            times.is_sorted_by(|one, other| one < other),
            "a gateway ignores a deployment with a time that is not later: {times:?}"
        );
    });
}

#[test]
fn an_event_over_a_clients_own_limit_still_counts_as_delivered() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        // Larger than the limits of common clients, and small enough for the buffers of two kernels.
        let answer = hub.publish(&gateway.id, "t", &format!("\"{}\"", "x".repeat(70_000)));
        assert_eq!((&answer["delivered"], &answer["failed"]), (&json!(1), &json!(0)), "{answer}");
        peer.frame(CLOSE, &1009_u16.to_be_bytes());
        assert!(matches!(peer.next(Instant::now() + PATIENCE), Seen::Text(_)));
        assert_eq!(peer.close_frame().0, Some(1009), "its own code comes back");
        hub.await_rows(&gateway.id, 0);
    });
}

#[test]
fn the_envelope_around_a_payload_has_at_most_2_kib() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        // JSON escapes a control character in six bytes, which makes the largest envelope.
        let body = json!({ "type": "t".repeat(128), "payload": 1, "userId": "\u{1}".repeat(256) }).to_string();
        assert_eq!(hub.try_publish(&gateway.id, &body).status, 200);
        let around = peer.message().len();
        assert!((1_500..2_048).contains(&around), "{around} bytes");
    });
}
