//! Tests of publishing one event.

use super::*;
use crate::{
    model::{Awaiting, Failure, Missing, log::Why},
    shard::NotKept,
};

fn publish(world: &World, body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", format!("/api/v1/gateways/{}/events", world.gateway)).body(body)
}

#[test]
fn the_answer_has_the_members_of_the_contract() {
    let world = World::new();
    let correlation = CorrelationId::random();
    let body = format!(r#"{{"type":"api.deployed","payload":{{}},"correlationId":"{correlation}"}}"#);
    let connection = crate::model::ConnectionId::random();
    let response = world.run(&publish(&world, body), |ask| {
        let Ask::Shard(_, Command::Publish(event)) = ask else { panic!("{ask:?}") };
        let failures = vec![Failure { connection_id: Some(connection), reason: "slow consumer" }];
        Answer::Shard(Reply::Published(Published::Outcome(PublishOutcome {
            failures,
            ..outcome(event.correlation, 3, 2, 1)
        })))
    });
    check(&response, 200);
    let expected = serde_json::json!({
        "correlationId": correlation, "position": "0000000000000001-2", "connections": 3, "delivered": 2, "failed": 1,
        "failures": [{"connectionId": connection, "reason": "slow consumer"}],
    });
    assert_eq!(json(&response), expected);
}

#[test]
fn the_payload_reaches_the_shard_byte_for_byte() {
    let world = World::new();
    for payload in [
        r#"{"performedAt":"2025-01-01T00:00:00.123456789Z","n":123456789012345678901234567890.10,"e":1E+2}"#,
        r#"{"b":1,"a":2,"b":3}"#,
        r#"{"odd":"\u0041\/\ud83d\ude00\ud800 ä 😀"}"#,
        "{ \"spaced\" :\t[ 1 ,\r\n 2 ] }",
        "null",
        "-0.0",
        r#""text""#,
        "[]",
    ] {
        let body = format!("{{\"type\":\"a\", \"payload\" : {payload} , \"extra\":{{\"x\":[1]}} }}");
        assert_eq!(world.event(&publish(&world, body)).payload, payload.as_bytes());
    }
}

#[test]
fn a_correlation_id_is_passed_through_or_created() {
    let world = World::new();
    let correlation = CorrelationId::random();
    let event = world.event(&publish(
        &world,
        format!(r#"{{"userId":"ü","correlationId":"{correlation}","payload":1,"type":"apikey.created"}}"#),
    ));
    assert_eq!(event.gateway, world.gateway);
    assert_eq!(event.kind.as_str(), "apikey.created");
    assert_eq!(event.correlation, correlation);
    assert_eq!(event.user_id.as_deref(), Some("ü"));
    let bare = r#"{"payload":1,"type":"a","correlationId":null,"userId":null}"#;
    let [one, two] = [(); 2].map(|()| world.event(&publish(&world, bare)));
    assert_ne!(one.correlation, two.correlation);
    assert_eq!(one.user_id, None);
}

#[test]
fn an_invalid_event_is_400_that_says_where() {
    let world = World::new();
    let check_bad = |body: &str, says: &str| {
        let response = world.respond(&publish(&world, body));
        check(&response, 400);
        assert!(description(&response).contains(says), "{body}: {}", description(&response));
    };
    check_bad("", "object");
    check_bad("[]", "object");
    check_bad(r#"["a",1]"#, "object");
    check_bad(r#""hunter2""#, "object");
    check_bad("{", "line 1 column 1");
    check_bad("{\n\"type\":tru", "line 2 column");
    check_bad(r#"{"payload":{}}"#, "`type`");
    check_bad(r#"{"type":"a"}"#, "`payload`");
    check_bad(r#"{"type":"","payload":{}}"#, "`type`");
    check_bad(r#"{"type":"a b","payload":{}}"#, "`type`");
    check_bad(&format!(r#"{{"type":"{}","payload":1}}"#, "x".repeat(129)), "`type`");
    check_bad(r#"{"type":5,"payload":{}}"#, "column 9");
    check_bad(r#"{"type":null,"payload":{}}"#, "column 12");
    check_bad(r#"{"type":"a","payload":{},"payload":{}}"#, "duplicate field `payload`");
    check_bad(r#"{"type":"a","payload":{},"typ\u0065":"b"}"#, "duplicate field `type`");
    check_bad(r#"{"type":"a","payload":{},"userId":null,"userId":null}"#, "duplicate field `userId`");
    check_bad(r#"{"type":"a","payload":{'a':1}}"#, "column 24");
    check_bad(r#"{"type":"a","payload":01}"#, "column");
    check_bad(r#"{"type":"a","payload":NaN}"#, "column");
    check_bad("{\"type\":\"a\",\n\"payload\":\"\n\"}", "line 2");
    check_bad(r#"{"type":"a","payload":{}} x"#, "trailing characters");
    check_bad(r#"{"type":"a","payload":{},"correlationId":"x"}"#, "`correlationId`");
    check_bad(&format!(r#"{{"type":"a","payload":1,"userId":"{}"}}"#, "u".repeat(257)), "`userId`");
    check_bad(&format!(r#"{{"type":"a","payload":1,"gatewayId":"{}"}}"#, world.other), "`gatewayId`");
    let mut not_utf8 = br#"{"type":"a","payload":"?"}"#.to_vec();
    not_utf8[23] = 0xff;
    let response = world.respond(&publish(&world, not_utf8));
    check(&response, 400);
    assert!(description(&response).contains("byte 23"));
}

#[test]
fn an_error_quotes_no_value() {
    let world = World::new();
    for body in [r#""hunter2""#, r#"{"type":["hunter2"],"payload":1}"#, r#"{"type":"hunter2 ","payload":1}"#] {
        assert!(!description(&world.respond(&publish(&world, body))).contains("hunter2"));
    }
}

#[test]
fn a_payload_of_the_maximum_size_is_accepted_and_one_byte_more_is_413() {
    let world = World::new();
    let body = |bytes: usize| format!(r#"{{"type":"a","payload":"{}"}}"#, "x".repeat(bytes - 2));
    let event = world.event(&publish(&world, body(limits::PAYLOAD_BYTES_MAX)));
    assert_eq!(event.payload.len(), 1_048_576);
    check(&world.respond(&publish(&world, body(limits::PAYLOAD_BYTES_MAX + 1))), 413);
}

#[test]
fn a_deeply_nested_payload_does_not_overflow_the_stack() {
    let world = World::new();
    let deep = limits::PAYLOAD_BYTES_MAX / 2;
    let payload = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
    let event = world.event(&publish(&world, format!(r#"{{"type":"a","payload":{payload}}}"#)));
    assert_eq!(event.payload, payload.as_bytes());
    let open = "[".repeat(limits::PAYLOAD_BYTES_MAX);
    check(&world.respond(&publish(&world, format!(r#"{{"type":"a","payload":{open}"#))), 400);
    check(&world.respond(&publish(&world, format!(r#"{{"type":"a","unknown":{open}"#))), 400);
    check(&world.respond(&publish(&world, format!(r#"{{"type":{open}"#))), 400);
    check(&world.respond(&publish(&world, open)), 400);
}

#[test]
fn an_unknown_gateway_is_404_before_the_body_is_parsed() {
    let world = World::new();
    for id in [GatewayId::random().to_string(), "not-a-uuid".to_owned(), "%00".to_owned()] {
        check(&world.respond(&Request::new("POST", format!("/api/v1/gateways/{id}/events")).body("?")), 404);
    }
}

#[test]
fn a_gateway_deleted_meanwhile_is_404() {
    let world = World::new();
    let request = publish(&world, r#"{"type":"a","payload":1}"#);
    check(&world.run(&request, |_| Answer::Shard(Reply::Published(Published::NoSuchGateway))), 404);
}

#[test]
fn a_gateway_that_is_not_connected_is_200_with_one_failure() {
    let world = World::new();
    let response = world.run(&publish(&world, r#"{"type":"a","payload":1}"#), |ask| {
        let Ask::Shard(_, Command::Publish(event)) = ask else { panic!("{ask:?}") };
        let failures = vec![Failure { connection_id: None, reason: Failure::NOT_CONNECTED }];
        Answer::Shard(Reply::Published(Published::Outcome(PublishOutcome {
            failures,
            ..outcome(event.correlation, 0, 0, 1)
        })))
    });
    check(&response, 200);
    let body = json(&response);
    assert_eq!((&body["connections"], &body["failed"]), (&0.into(), &1.into()));
    assert_eq!(body["failures"], serde_json::json!([{"connectionId": null, "reason": "gateway not connected"}]));
}

#[test]
fn a_publish_that_is_not_kept_or_not_answered_says_whether_it_may_be_kept() {
    let world = World::new();
    let not_kept = |kept, why| Answer::Shard(Reply::Published(Published::NotKept(NotKept { kept, why })));
    for (answer, kept) in [
        (not_kept(Kept::No, Why::Full), "no"),
        (not_kept(Kept::Unknown, Why::Io), "unknown"),
        (Answer::Overloaded, "no"),
        (Answer::TimedOut, "unknown"),
    ] {
        let mut answers = Some(answer);
        let response = world.run(&publish(&world, r#"{"type":"a","payload":1}"#), |_| answers.take().unwrap());
        check(&response, 503);
        assert!(response.fields.contains(&("Retry-After", "1".to_owned())), "{:?}", response.fields);
        assert_eq!(json(&response)["kept"], kept);
    }
}

#[test]
fn an_event_that_waits_for_its_gateway_is_no_failure() {
    let world = World::new();
    let response = world.run(&publish(&world, r#"{"type":"a","payload":1}"#), |ask| {
        let Ask::Shard(_, Command::Publish(event)) = ask else { panic!("{ask:?}") };
        let outcome = outcome(event.correlation, 0, 0, 0);
        Answer::Shard(Reply::Published(Published::Outcome(PublishOutcome { waiting: true, ..outcome })))
    });
    check(&response, 200);
    let body = json(&response);
    assert_eq!((&body["connections"], &body["failed"], &body["waiting"]), (&0.into(), &0.into(), &true.into()));
    assert!(body.get("processed").is_none(), "nobody has waited for that: {body}");
}

#[test]
fn a_publish_that_waits_says_whether_the_event_was_processed_or_who_is_missing() {
    let world = World::new();
    let connection = crate::model::ConnectionId::random();
    let check_answer = |awaiting: Awaiting, expected: Value| {
        let request =
            Request::new("POST", format!("/api/v1/gateways/{}/events?wait=30s&until=processed", world.gateway));
        let response = world.run(&request.body(r#"{"type":"a","payload":1}"#), |ask| {
            let Command::Publish(event) = waited_30s(ask) else { panic!("it publishes one event") };
            let outcome = PublishOutcome { awaiting: Some(awaiting.clone()), ..outcome(event.correlation, 1, 1, 0) };
            Answer::Shard(Reply::Published(Published::Outcome(outcome)))
        });
        check(&response, 200);
        let body = json(&response);
        let members = ["processed", "skipped", "missing"].map(|member| body[member].clone());
        assert_eq!(Value::from(members.to_vec()), expected, "{body}");
    };
    let processed = Awaiting { processed: true, skipped: None, missing: Vec::new() };
    check_answer(processed.clone(), serde_json::json!([true, null, null]));
    check_answer(Awaiting { skipped: Some("replay"), ..processed }, serde_json::json!([true, "replay", null]));
    let missing = vec![
        Missing { connection_id: Some(connection), reason: Missing::BEHIND, before: Some(3) },
        Missing { connection_id: None, reason: Failure::NOT_CONNECTED, before: None },
    ];
    let expected = serde_json::json!([false, null, [
        { "connectionId": connection, "reason": "behind", "before": 3 },
        { "connectionId": null, "reason": "gateway not connected" },
    ]]);
    check_answer(Awaiting { processed: false, skipped: None, missing }, expected);
}

#[test]
fn a_wait_that_the_hub_does_not_offer_is_400_and_publishes_nothing() {
    let world = World::new();
    for query in ["wait=61s", "wait=0ms", "wait=30", "wait=1s&wait=2s", "wait=1s&until=settled", "until=processed"] {
        let request = Request::new("POST", format!("/api/v1/gateways/{}/events?{query}", world.gateway));
        let response = world.respond(&request.body(r#"{"type":"a","payload":1}"#));
        check(&response, 400);
        assert!(description(&response).starts_with("query parameter `"), "{query}: {}", description(&response));
    }
}
