//! Tests of publishing a batch.

use super::*;

fn batch(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "/api/v1/events").body(body)
}

fn line(gateway: GatewayId, payload: &str) -> String {
    format!(r#"{{"gatewayId":"{gateway}","type":"a","payload":{payload}}}"#)
}

/// The lines of the response.
#[track_caller]
fn rows(response: &Response) -> Vec<Value> {
    assert_eq!((response.status, response.content_type), (200, Some("application/x-ndjson")));
    let text = std::str::from_utf8(&response.body).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn results_are_in_the_order_of_the_lines() {
    let world = World::new();
    let lines = [
        line(world.gateway, "1"),
        "not json".to_owned(),
        line(world.other, "2"),
        line(GatewayId::random(), "3"),
        String::new(),
        line(world.gateway, "4").replace("\"a\"", "\"a b\""),
        r#"{"type":"a","payload":1}"#.to_owned(),
        r#"{"gatewayId":"x","type":"a","payload":1}"#.to_owned(),
        line(world.gateway, &format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX))),
        line(world.gateway, "5") + "\r",
    ];
    let rows = rows(&world.run(&batch(lines.join("\n") + "\n"), deliver));
    let statuses: Vec<_> = rows.iter().map(|row| row["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 400, 200, 404, 400, 400, 400, 400, 413, 200]);
    for row in &rows {
        match row["status"].as_u64() {
            Some(200) => assert_eq!(row["delivered"], 2),
            _ => assert!(row["error"].is_string() && row.as_object().unwrap().len() == 2),
        }
    }
}

#[test]
fn a_result_is_the_publish_answer_with_its_status() {
    let world = World::new();
    let correlation = CorrelationId::random();
    let body = line(world.gateway, &format!(r#"1,"correlationId":"{correlation}""#));
    let expected = serde_json::json!({
        "status": 200, "correlationId": correlation, "position": "0000000000000001-2", "connections": 2,
        "delivered": 2, "failed": 0,
    });
    assert_eq!(rows(&world.run(&batch(body), deliver)), [expected]);
}

#[test]
fn each_owner_is_asked_once_with_its_events_in_order() {
    let mut world = World::new();
    let gateways = world.gateway_of_each_shard();
    let lines: Vec<_> = (0..30).map(|n| line(gateways[n * 7 % 3], &n.to_string())).collect();
    let asks = world.asks(&batch(lines.join("\n")));
    assert_eq!(asks.len(), 3);
    for ask in asks {
        let Ask::Shard(owner, Command::PublishMany(events)) = ask else { panic!("{ask:?}") };
        let sent: Vec<usize> =
            events.iter().map(|e| std::str::from_utf8(&e.payload).unwrap().parse().unwrap()).collect();
        assert!(sent.is_sorted() && sent.len() == 10, "{sent:?}");
        assert!(events.iter().all(|e| world.placement.of_gateway(e.gateway) == owner));
    }
}

#[test]
fn a_shard_without_an_answer_fails_only_its_own_lines() {
    let mut world = World::new();
    let gateways = world.gateway_of_each_shard();
    let lines: Vec<_> = (0..6).map(|n| line(gateways[n % 3], "1")).collect();
    let response = world.run(&batch(lines.join("\n")), |ask| match ask {
        Ask::Shard(ShardId(0), _) => Answer::Overloaded,
        Ask::Shard(ShardId(1), _) => Answer::TimedOut,
        other => deliver(other),
    });
    let statuses: Vec<_> = rows(&response).iter().map(|row| row["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [503, 503, 200, 503, 503, 200]);
}

#[test]
fn a_batch_without_a_valid_line_has_no_asks() {
    let world = World::new();
    assert_eq!(rows(&world.respond(&batch("?\n?"))).len(), 2);
    assert_eq!(rows(&world.respond(&batch("\n\n"))).len(), 2);
    check(&world.respond(&batch("")), 400);
    check(&world.respond(&batch("\n")), 400);
}

#[test]
fn the_maximum_of_lines_is_accepted_and_one_more_is_413() {
    let world = World::new();
    let lines = |count: usize| "{}\n".repeat(count);
    assert_eq!(rows(&world.respond(&batch(lines(limits::BATCH_LINES_MAX)))).len(), limits::BATCH_LINES_MAX);
    check(&world.respond(&batch(lines(limits::BATCH_LINES_MAX + 1))), 413);
}

#[test]
fn the_failures_listed_in_one_answer_are_bounded_and_the_counts_stay_exact() {
    let world = World::new();
    let lines = [line(world.gateway, "1"), line(world.gateway, "2"), line(world.gateway, "3")].join("\n");
    let half = limits::BATCH_FAILURES_LISTED_MAX / 2 + 1;
    let response = world.run(&batch(lines), |ask| {
        let Ask::Shard(_, Command::PublishMany(events)) = ask else { panic!("{ask:?}") };
        let failure = crate::model::Failure { connection_id: None, reason: "slow consumer" };
        let failed = u32::try_from(half).unwrap();
        let outcome = |e: &crate::model::Event| PublishOutcome {
            failures: vec![failure.clone(); half],
            ..outcome(e.correlation, failed, 0, failed)
        };
        Answer::Shard(Reply::PublishedMany(events.iter().map(outcome).map(Published::Outcome).collect()))
    });
    let rows = rows(&response);
    assert!(rows.iter().all(|row| row["failed"] == half));
    let listed = rows.iter().filter_map(|row| row["failures"].as_array()).map(Vec::len).sum::<usize>();
    assert_eq!(listed, limits::BATCH_FAILURES_LISTED_MAX);
}

#[test]
fn only_the_line_of_a_gateway_deleted_meanwhile_is_404() {
    let world = World::new();
    let lines = [line(world.gateway, "1"), line(world.gateway, "2")].join("\n");
    let response = world.run(&batch(lines), |ask| {
        let Ask::Shard(_, Command::PublishMany(events)) = ask else { panic!("{ask:?}") };
        Answer::Shard(Reply::PublishedMany(vec![
            Published::Outcome(outcome(events[0].correlation, 1, 1, 0)),
            Published::NoSuchGateway,
        ]))
    });
    let rows = rows(&response);
    assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&200.into(), &404.into()));
    assert_eq!(rows[1]["error"], "there is no such gateway");
}

#[test]
fn only_the_line_that_is_not_utf_8_fails() {
    let world = World::new();
    let mut body = line(world.gateway, "1").into_bytes();
    body.extend(b"\n{\"\xff\"}\n");
    body.extend(line(world.gateway, "2").into_bytes());
    let statuses: Vec<_> =
        rows(&world.run(&batch(body), deliver)).iter().map(|row| row["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 400, 200]);
}

#[test]
fn each_slice_of_a_batch_that_waits_waits() {
    let world = World::new();
    let lines = vec![line(world.gateway, "1"); limits::BATCH_SLICE_LINES + 1].join("\n");
    let mut slices = 0;
    let request = Request::new("POST", "/api/v1/events?wait=30s").body(lines);
    let response = world.run(&request, |ask| {
        let Command::PublishMany(events) = waited_30s(ask) else { panic!("it publishes many events") };
        slices += 1;
        let processed = crate::model::Awaiting { processed: true, skipped: None, missing: Vec::new() };
        let outcome = |event: &crate::model::Event| PublishOutcome {
            awaiting: Some(processed.clone()),
            ..outcome(event.correlation, 1, 1, 0)
        };
        Answer::Shard(Reply::PublishedMany(events.iter().map(outcome).map(Published::Outcome).collect()))
    });
    assert_eq!(slices, 2);
    assert!(rows(&response).iter().all(|row| row["processed"] == true));
    check(&world.respond(&Request::new("POST", "/api/v1/events?wait=61s").body(line(world.gateway, "1"))), 400);
}

#[test]
fn a_batch_lists_a_bounded_number_of_missing_connections() {
    let world = World::new();
    let count = limits::BATCH_FAILURES_LISTED_MAX / limits::FAILURES_LISTED_MAX + 5;
    let request =
        Request::new("POST", "/api/v1/events?wait=30s").body(vec![line(world.gateway, "1"); count].join("\n"));
    let response = world.run(&request, |ask| {
        let Command::PublishMany(events) = waited_30s(ask) else { panic!("it publishes many events") };
        let behind = crate::model::Missing { connection_id: None, reason: crate::model::Missing::BEHIND, before: None };
        let missing = vec![behind; limits::FAILURES_LISTED_MAX];
        let awaiting = crate::model::Awaiting { processed: false, skipped: None, missing };
        let outcome = |event: &crate::model::Event| PublishOutcome {
            awaiting: Some(awaiting.clone()),
            ..outcome(event.correlation, 100, 100, 0)
        };
        Answer::Shard(Reply::PublishedMany(events.iter().map(outcome).map(Published::Outcome).collect()))
    });
    let listed = |row: &Value| row["missing"].as_array().map_or(0, Vec::len);
    let rows = rows(&response);
    assert_eq!(rows.iter().map(listed).sum::<usize>(), limits::BATCH_FAILURES_LISTED_MAX);
    assert!(rows.iter().all(|row| row["processed"] == false), "each line says so all the same");
}
