//! Tests of showing the log of a gateway.

use super::*;
use crate::{
    model::{
        Event, EventType,
        log::{Head, ReadFrom, Record, Why},
    },
    shard::Events,
};
use std::sync::Arc;

const HEAD: Head = Head { epoch: 7, base: 0, first: 3, last: 9, bytes: 100 };

fn list(world: &World, query: &str) -> Request {
    Request::new("GET", format!("/api/v1/gateways/{}/events{query}", world.gateway))
}

fn position(offset: u64) -> Position {
    Position { epoch: 7, offset }
}

fn record(offset: u64, kind: &str, payload: &str, user_id: Option<&str>) -> Record {
    let event = Event {
        gateway: GatewayId::random(),
        kind: EventType::parse(kind).unwrap(),
        payload: payload.to_owned().into(),
        correlation: CorrelationId::parse("5e1f0c3e-7f5a-4a64-9a53-0b6d6f1f6a10").unwrap(),
        correlation_given: false,
        user_id: user_id.map(Into::into),
    };
    Record { position: position(offset), accepted: Timestamp(1_700_000_000_007), bytes: 0, event: Arc::new(event) }
}

fn answer(world: &World, events: Events) -> Response {
    let mut events = Some(events);
    world.run(&list(world, ""), |_| Answer::Shard(Reply::Events(events.take().expect("it is asked once"))))
}

#[test]
fn a_page_of_events_has_each_payload_byte_for_byte() {
    let world = World::new();
    let odd = r#"{ "b":1e400,"a":12345678901234567890,"a":"\u0041" }"#;
    let records = vec![record(3, "api.deployed", odd, Some("ü\"")), record(4, "t", "1", None)];
    let response = answer(&world, Events::Page { records, more: true, head: HEAD });
    check(&response, 200);
    let at = r#""timestamp":"2023-11-14T22:13:20.007Z","correlationId":"5e1f0c3e-7f5a-4a64-9a53-0b6d6f1f6a10""#;
    let expected = format!(
        "{{\"count\":2,\"list\":[\
         {{\"position\":\"{}\",\"type\":\"api.deployed\",{at},\"userId\":\"ü\\\"\",\"payload\":{odd}}},\
         {{\"position\":\"{}\",\"type\":\"t\",{at},\"payload\":1}}\
         ],\"first\":\"{}\",\"last\":\"{}\",\"more\":true}}",
        position(3),
        position(4),
        position(3),
        position(9),
    );
    assert_eq!(String::from_utf8(response.body.clone()).unwrap(), expected);
}

#[test]
fn an_empty_log_has_no_first_position_but_a_last_one_to_follow_from() {
    let head = Head { epoch: 7, base: 5, first: 6, last: 5, bytes: 0 };
    let response = answer(&World::new(), Events::Page { records: Vec::new(), more: false, head });
    let expected = serde_json::json!({ "count": 0, "list": [], "first": null, "last": position(5), "more": false });
    assert_eq!(json(&response), expected);
}

#[test]
fn payloads_that_may_have_secrets_are_omitted() {
    let records = ["apikey.created", "subscription.updated", "apikeys", "api.deployed"];
    let records = records.map(|kind| record(3, kind, "\"s3cret\"", None)).into();
    let response = answer(&World::new(), Events::Page { records, more: false, head: HEAD });
    for (event, omitted) in json(&response)["list"].as_array().unwrap().iter().zip([true, true, false, false]) {
        assert_eq!(event.get("payload").is_none(), omitted, "{event}");
        assert_eq!(event.get("payloadOmitted"), omitted.then_some(&Value::Bool(true)), "{event}");
    }
}

#[test]
fn the_query_says_where_a_page_begins_and_how_long_it_is() {
    let world = World::new();
    let check_range = |query: &str, expected: (ReadFrom, usize)| match world.asks(&list(&world, query)).pop() {
        Some(Ask::Shard(owner, Command::Events { gateway, from, limit })) => {
            assert_eq!((owner, gateway), (world.placement.of_gateway(gateway), world.gateway));
            assert_eq!((from, limit), expected, "{query}");
        }
        other => panic!("{other:?} reads no events"),
    };
    check_range("", (ReadFrom::Oldest, limits::PAGE_ROWS_DEFAULT));
    check_range("?limit=1000", (ReadFrom::Oldest, 1_000));
    check_range(&format!("?after={}&limit=5", position(4)), (ReadFrom::After(position(4)), 5));
    check_range("?tail=20", (ReadFrom::Last(20), 20));
    for bad in [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?after=",
        "?after=4",
        "?after=tail",
        "?after=0000000000000007-04",
        "?tail=0",
        "?tail=1001",
        "?tail=1&limit=1",
        "?tail=1&after=0000000000000007-4",
        "?after=0000000000000007-4&after=0000000000000007-5",
    ] {
        let response = world.respond(&list(&world, bad));
        check(&response, 400);
        assert!(description(&response).starts_with("query parameter `"), "{bad}: {}", description(&response));
    }
}

#[test]
fn a_position_without_a_place_is_410_with_the_ends() {
    for (events, why) in [
        (Events::Trimmed(HEAD), "no longer kept"),
        (Events::UnknownPosition(HEAD), "not a position of this gateway's log"),
    ] {
        let response = answer(&World::new(), events);
        let body = json(&response);
        assert_eq!((response.status, &body["code"], &body["message"]), (410, &410.into(), &"Gone".into()));
        let ends = serde_json::json!([position(3), position(9)]);
        assert_eq!(serde_json::json!([body["first"], body["last"]]), ends);
        assert!(description(&response).contains(why) && description(&response).contains("without `after`"), "{body}");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_503_and_an_unknown_gateway_404() {
    let world = World::new();
    check(&answer(&world, Events::Unavailable(Why::Io)), 503);
    check(&answer(&world, Events::Overloaded), 503);
    check(&answer(&world, Events::NoSuchGateway), 404);
    check(&world.respond(&Request::new("GET", format!("/api/v1/gateways/{}/events", GatewayId::random()))), 404);
    check(&world.respond(&Request::new("GET", "/api/v1/gateways/x/events")), 404);
    check(&world.respond(&list(&world, "").authorization(None)), 401);
    check(&World::in_phase(Phase::Starting).respond(&list(&world, "")), 503);
}
