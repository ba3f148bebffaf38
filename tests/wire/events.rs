//! The log of a gateway, read over HTTP.

use crate::{
    harness::{TestHub, eventually, on_one_and_four, on_own_one_and_four},
    request::Answer,
};
use gatecast::{limits, model::Position};
use serde_json::Value;

fn events(hub: &TestHub, gateway: &str, query: &str) -> Answer {
    hub.call("GET", &format!("/api/v1/gateways/{gateway}/events{query}"), "")
}

fn page(hub: &TestHub, gateway: &str, query: &str) -> Value {
    let answer = events(hub, gateway, query);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn positions(page: &Value) -> Vec<String> {
    let list = page["list"].as_array().unwrap();
    assert_eq!(page["count"], list.len());
    list.iter().map(|event| event["position"].as_str().unwrap().to_owned()).collect()
}

/// Publishes events with these numbers as payloads; returns their positions.
fn publish(hub: &TestHub, gateway: &str, payloads: std::ops::Range<usize>) -> Vec<String> {
    payloads
        .map(|number| hub.publish(gateway, "t", &number.to_string())["position"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_gateways_log_is_followed_page_by_page() {
    on_one_and_four(|hub| {
        let gateway = hub.register().id;
        let empty = page(hub, &gateway, "");
        assert_eq!((&empty["count"], &empty["first"], &empty["more"]), (&0.into(), &Value::Null, &false.into()));
        let mut published = publish(hub, &gateway, 0..5);

        let (mut after, mut read) = (empty["last"].as_str().unwrap().to_owned(), Vec::new());
        loop {
            let page = page(hub, &gateway, &format!("?limit=2&after={after}"));
            assert_eq!((&page["first"], &page["last"]), (&published[0].as_str().into(), &published[4].as_str().into()));
            read.extend(positions(&page));
            after.clone_from(read.last().unwrap());
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(read, published);
        published.extend(publish(hub, &gateway, 5..7));
        assert_eq!(positions(&page(hub, &gateway, &format!("?after={after}"))), published[5..]);
        assert_eq!(positions(&page(hub, &gateway, "?tail=3")), published[4..]);
        assert_eq!(positions(&page(hub, &gateway, "?tail=1000")), published);
        assert_eq!(positions(&page(hub, &gateway, "")), published);
    });
}

#[test]
fn an_event_in_the_log_is_what_its_gateway_received_and_secrets_are_left_out() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let payload = r#"{"b":12345678901234567890123,"a":"\u0041", "a":1e400}"#;
        let published = hub.publish(&gateway.id, "api.deployed", payload);
        let secret = hub.publish(&gateway.id, "apikey.created", r#"{"key":"s3cret"}"#);
        let received = peer.message();
        let answer = events(hub, &gateway.id, "");
        let text = answer.text();
        assert!(text.contains(&format!("\"payload\":{payload}}}")) && received.contains(payload), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        // The payload has a number that no float holds, so the answer is not parsed whole.
        for outcome in [&published, &secret] {
            for member in ["position", "correlationId"] {
                assert!(text.contains(outcome[member].as_str().unwrap()), "{member} of {outcome} in {text}");
            }
        }
        assert!(text.contains("\"payloadOmitted\":true"), "{text}");
        assert!(peer.message().contains("s3cret"), "the gateway gets it all the same");
    });
}

#[test]
fn a_page_is_bounded_in_bytes_and_one_event_always_fits() {
    on_one_and_four(|hub| {
        let gateway = hub.register().id;
        let largest = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX - 2));
        let half = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX / 2));
        for payload in [&largest, &half, &half] {
            hub.publish(&gateway, "t", payload);
        }
        let (mut query, mut counts) = ("?tail=3".to_owned(), Vec::new());
        loop {
            let page = page(hub, &gateway, &query);
            counts.push(page["count"].as_u64().unwrap());
            if page["more"] == false {
                break;
            }
            query = format!("?after={}", positions(&page).last().unwrap());
        }
        assert_eq!(counts, [1, 1, 1]);
    });
}

#[test]
fn a_position_that_the_log_does_not_have_is_410_and_says_where_to_go_on() {
    on_own_one_and_four(
        |config| config.event_log_gateway_bytes_max = 1024 * 1024,
        |hub| {
            let gateway = hub.register().id;
            let published = publish(hub, &gateway, 0..2);
            let last = Position::parse(&published[1]).unwrap();
            let above = Position { offset: last.offset + 1, ..last };
            let other = Position { epoch: last.epoch ^ 1, ..last };
            for position in [above, other] {
                let answer = events(hub, &gateway, &format!("?after={position}"));
                assert_eq!(answer.status, 410, "{answer:?}");
                let body = answer.json();
                assert_eq!(
                    (&body["first"], &body["last"]),
                    (&published[0].clone().into(), &published[1].clone().into())
                );
            }
            let large = format!("\"{}\"", "x".repeat(600_000));
            (0..4).for_each(|_| drop(hub.publish(&gateway, "t", &large)));
            // The log trims between its commits, so that `first` may rise between two calls.
            eventually("the oldest event is trimmed, and `first` is where the log begins", || {
                let answer = events(hub, &gateway, &format!("?after={}", published[0]));
                if answer.status != 410 {
                    return false;
                }
                let body = answer.json();
                assert!(body["description"].as_str().unwrap().contains("no longer kept"), "{body}");
                positions(&page(hub, &gateway, "?limit=1")) == [body["first"].as_str().unwrap()]
            });
        },
    );
}

#[test]
fn the_log_of_a_gateway_can_be_read_after_a_restart() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let gateway = hub.register().id;
            let published = publish(hub, &gateway, 0..3);
            hub.drain();
            hub.join();
            let again = hub.restart();
            assert_eq!(positions(&page(&again, &gateway, &format!("?after={}", published[0]))), published[1..]);
        },
    );
}

#[test]
fn the_log_is_for_the_platform_and_of_gateways_that_exist() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let path = format!("/api/v1/gateways/{}/events", gateway.id);
        let bare = crate::request::Request::new("GET", &path).with("api-key", &gateway.key);
        assert_eq!(hub.ask(&bare).status, 401);
        assert_eq!(events(hub, &gateway.id, "?limit=0").status, 400);
        assert_eq!(events(hub, &gateway.id, "?after=x").status, 400);
        hub.publish(&gateway.id, "t", "1");
        assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{}", gateway.id), "").status, 204);
        assert_eq!(events(hub, &gateway.id, "").status, 404);
    });
}
