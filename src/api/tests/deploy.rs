//! Tests of the deployment hook.

use super::*;

const API: &str = "5e1f0c3e-7f5a-4a64-9a53-0b6d6f1f6a10";

fn deploy(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", format!("/api/v1/apis/{API}/deploy-revision?revisionId=rev%201")).body(body)
}

fn target(gateway: GatewayId) -> String {
    format!(r#"{{"gatewayId":"{gateway}","vhost":"a.example"}}"#)
}

#[test]
fn the_event_contains_api_revision_vhost_and_environment() {
    let world = World::new();
    let check_payload = |environment: &str, expected: &str| {
        let body = format!(r#"[{{"gatewayId":"{}","vhost":"a.example"{environment}}}]"#, world.gateway);
        let ask = world.asks(&deploy(body)).pop().unwrap();
        let Ask::Shard(_, Command::Deploy(events)) = ask else { panic!("{ask:?}") };
        assert_eq!((events[0].kind.as_str(), events[0].gateway), ("api.deployed", world.gateway));
        let payload = format!(
            r#"{{"apiUuid":"{API}","revisionId":"rev 1","vhost":"a.example","environment":"{expected}","apiId":"{API}","deploymentId":"rev 1"}}"#
        );
        assert_eq!(events[0].payload, payload.as_bytes());
    };
    check_payload("", "production");
    check_payload(r#","environment":null"#, "production");
    check_payload(r#","environment":"stage","displayOnDevportal":true"#, "stage");
}

#[test]
fn items_are_in_the_order_of_the_targets_and_no_failure_fails_the_call() {
    let mut world = World::new();
    let gateways = world.gateway_of_each_shard();
    let unknown = GatewayId::random();
    let order = [gateways[2], unknown, gateways[0], gateways[1], gateways[2], gateways[2], gateways[2]];
    let body = format!("[{}]", order.map(target).join(","));
    let mut script = vec![(2, 2, 0), (3, 1, 2), (0, 0, 1), (2, 1, 0)].into_iter();
    let response = world.run(&deploy(body), |ask| match ask {
        Ask::Shard(ShardId(0), _) => Answer::Overloaded,
        Ask::Shard(ShardId(1), _) => Answer::TimedOut,
        Ask::Shard(_, Command::Deploy(events)) => {
            let outcomes = events
                .iter()
                .zip(&mut script)
                .map(|(e, (n, d, f))| Published::Outcome(outcome(e.correlation, n, d, f)));
            Answer::Shard(Reply::PublishedMany(outcomes.collect()))
        }
        other => panic!("{other:?}"),
    });
    check(&response, 200);
    let items = json(&response);
    let brief: Vec<_> = items.as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(brief, ["success", "failed", "failed", "pending", "partial", "failed", "pending"]);
    for (item, gateway) in items.as_array().unwrap().iter().zip(order) {
        assert_eq!(item["gatewayId"], gateway.to_string());
        assert!(CorrelationId::parse(item["correlationId"].as_str().unwrap()).is_some());
    }
    assert_eq!(items[4]["liveGatewayCount"], 3);
    assert_eq!(items[4]["deployedGatewayCount"], 1);
    assert_eq!(items[4]["failedGatewayCount"], 2);
    assert_eq!(items[6]["pendingGatewayCount"], 1);
    assert_eq!(items[1]["error"], "there is no such gateway");
}

#[test]
fn a_call_with_only_unknown_gateways_is_answered_without_asks() {
    let world = World::new();
    let response = world.respond(&deploy(format!("[{}]", target(GatewayId::random()))));
    check(&response, 200);
    assert_eq!(json(&response)[0]["status"], "failed");
}

#[test]
fn an_invalid_call_is_400_and_publishes_nothing() {
    let world = World::new();
    let good = target(world.gateway);
    let check_bad = |body: String, says: &str| {
        let response = world.respond(&deploy(body));
        check(&response, 400);
        assert!(description(&response).contains(says), "{}", description(&response));
    };
    check_bad(String::new(), "array");
    check_bad("{}".to_owned(), "array");
    check_bad(format!("\"{}\"", "x".repeat(100_000)), "array");
    check_bad("[]".to_owned(), "1 to 1000");
    check_bad(format!("[{}]", vec![good.as_str(); 1001].join(",")), "1 to 1000");
    check_bad("[1]".to_owned(), "item 0");
    check_bad(format!(r#"[["{}","v"]]"#, world.gateway), "item 0");
    check_bad(format!(r#"[{good},{{"vhost":"v"}}]"#), "item 1 of the array: missing field `gatewayId`");
    check_bad(format!(r#"[{good},{{"gatewayId":"x","vhost":"v"}}]"#), "item 1 of the array: `gatewayId`");
    check_bad(format!(r#"[{{"gatewayId":"{}"}}]"#, world.gateway), "`vhost`");
    check_bad(format!(r#"[{{"gatewayId":"{}","vhost":" "}}]"#, world.gateway), "`vhost`");
    check_bad(format!(r#"[{{"gatewayId":"{}","vhost":"{}"}}]"#, world.gateway, "v".repeat(254)), "`vhost`");
    check_bad(format!(r#"[{{"gatewayId":"{}","vhost":"v","environment":""}}]"#, world.gateway), "`environment`");
    check_bad("[".repeat(limits::DEPLOY_BODY_BYTES_MAX), "column");
}

#[test]
fn api_and_revision_are_required() {
    let world = World::new();
    let body = format!("[{}]", target(world.gateway));
    for (target, says) in [
        ("/api/v1/apis/x/deploy-revision?revisionId=1".to_owned(), "UUID"),
        (format!("/api/v1/apis/{API}/deploy-revision"), "`revisionId`"),
        (format!("/api/v1/apis/{API}/deploy-revision?revisionId="), "`revisionId`"),
        (format!("/api/v1/apis/{API}/deploy-revision?revisionId=%ff"), "`revisionId`"),
        (format!("/api/v1/apis/{API}/deploy-revision?revisionId=1&revisionId=2"), "`revisionId`"),
    ] {
        let response = world.respond(&Request::new("POST", target).body(body.clone()));
        check(&response, 400);
        assert!(description(&response).contains(says));
    }
}

#[test]
fn a_deployment_to_a_gateway_that_is_away_waits_for_it() {
    let world = World::new();
    let path = format!("/api/v1/apis/{API}/deploy-revision?revisionId=1&wait=30s&until=processed");
    let body = format!("[{},{}]", target(world.gateway), target(world.gateway));
    let response = world.run(&Request::new("POST", path).body(body), |ask| {
        let Command::Deploy(events) = waited_30s(ask) else { panic!("it deploys") };
        let awaiting = |processed| crate::model::Awaiting { processed, skipped: None, missing: Vec::new() };
        let outcomes = [
            PublishOutcome { awaiting: Some(awaiting(true)), ..outcome(events[0].correlation, 1, 1, 0) },
            PublishOutcome {
                waiting: true,
                awaiting: Some(awaiting(false)),
                ..outcome(events[1].correlation, 0, 0, 0)
            },
        ];
        Answer::Shard(Reply::PublishedMany(outcomes.map(Published::Outcome).into()))
    });
    check(&response, 200);
    let items = json(&response);
    let brief = |item: &Value| serde_json::json!([item["status"], item["failedGatewayCount"], item["processed"]]);
    let expected = [serde_json::json!(["success", 0, true]), serde_json::json!(["waiting", 0, false])];
    assert_eq!(items.as_array().unwrap().iter().map(brief).collect::<Vec<_>>(), expected);
    let body = format!("[{}]", target(world.gateway));
    let path = format!("/api/v1/apis/{API}/deploy-revision?revisionId=1&wait=soon");
    check(&world.respond(&Request::new("POST", path).body(body)), 400);
}
