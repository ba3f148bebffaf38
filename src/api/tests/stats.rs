//! The statistics: two rounds, one answer.

use super::*;
use crate::{
    model::{ConnectionId, CorrelationId, DeliveryMode, Position},
    shard::command::{ConnectionRow, ConnectionStatus, ProcessingRow, Rows},
};

const LIVE: [usize; 3] = [3, 0, 4];

fn row(shard: ShardId, gateway: GatewayId, number: usize) -> ConnectionRow {
    ConnectionRow {
        gateway_id: gateway,
        connection_id: ConnectionId(uuid::Uuid::from_u128(number as u128)),
        connected_at: Timestamp(0),
        last_heartbeat: Timestamp(1),
        status: ConnectionStatus::Connected,
        remote_address: ([192, 0, 2, 1], 4711).into(),
        shard,
        round_trip_ms: Some(1.2),
        queued_bytes: 5,
        delivery: DeliveryMode::Processed,
        processing: Some(ProcessingRow {
            position: Position { epoch: 1, offset: 8 },
            kind: "api.deployed".to_owned(),
            correlation_id: CorrelationId(uuid::Uuid::nil()),
            since: Timestamp(2),
        }),
        processed: Some(Position { epoch: 1, offset: 7 }),
        unprocessed: Some(3),
        missed: 2,
        delivery_stats: DeliveryStats::default(),
    }
}

/// Three shards with 3, 0 and 4 connections; connection n of shard s has the id 10 s + n.
fn hub(world: &World) -> impl FnMut(Ask) -> Answer {
    let gateway = world.gateway;
    move |ask| match ask {
        Ask::Shard(shard, Command::Totals(None)) => {
            let index = shard.index();
            Answer::Shard(Reply::Totals(totals(shard, LIVE[index], 100 * index as u64, index as u64)))
        }
        Ask::Shard(shard, Command::Totals(Some(_))) => Answer::Shard(Reply::Totals(totals(shard, 2, 1, 0))),
        Ask::Shard(shard, Command::Connections { from, skip, take, .. }) => {
            assert!(take > 0, "a shard that the page does not meet is not asked");
            let rows = (from + skip..from + skip + take).map(|n| row(shard, gateway, 10 * shard.index() + n));
            Answer::Shard(Reply::Connections(Rows { rows: rows.collect(), next: from + skip + take }))
        }
        other => panic!("{other:?}"),
    }
}

fn stats(query: &str) -> Request {
    Request::new("GET", format!("/api/internal/v1/stats?{query}"))
}

#[test]
fn the_answer_has_the_members_of_the_contract() {
    let world = World::new();
    let response = world.run(&stats("limit=1"), hub(&world));
    check(&response, 200);
    let delivery = |sent, failed| {
        serde_json::json!({
            "totalEventsSent": sent, "failedDeliveries": failed, "lastFailureTime": null, "lastFailureReason": null,
        })
    };
    let expected = serde_json::json!({
        "gatewayConnections": {"totalActive": 7, "maxConnections": 1000, "connections": [{
            "gatewayId": world.gateway, "connectionId": "00000000-0000-0000-0000-000000000000",
            "connectedAt": "1970-01-01T00:00:00.000Z", "lastHeartbeat": "1970-01-01T00:00:00.001Z",
            "status": "connected", "remoteAddress": "192.0.2.1:4711", "shard": 0, "roundTripMs": 1.2,
            "queuedBytes": 5, "delivery": "processed", "processed": "0000000000000001-7", "unprocessed": 3, "missed": 2,
            "processing": {
                "position": "0000000000000001-8", "type": "api.deployed", "since": "1970-01-01T00:00:00.002Z",
                "correlationId": "00000000-0000-0000-0000-000000000000",
            },
            "deliveryStats": delivery(0, 0),
        }]},
        "eventDelivery": delivery(300, 3),
        "shards": [
            {"shard": 0, "connections": 3, "gateways": 1, "eventsSent": 0},
            {"shard": 1, "connections": 0, "gateways": 0, "eventsSent": 100},
            {"shard": 2, "connections": 4, "gateways": 1, "eventsSent": 200},
        ],
    });
    assert_eq!(json(&response), expected);
}

#[test]
fn a_page_runs_through_the_shards_one_after_the_other() {
    let world = World::new();
    let check_page = |query: &str, expected: &[u128]| {
        let body = json(&world.run(&stats(query), hub(&world)));
        assert_eq!(body["gatewayConnections"]["totalActive"], 7);
        let rows = body["gatewayConnections"]["connections"].as_array().unwrap();
        let ids =
            rows.iter().map(|row| ConnectionId::parse(row["connectionId"].as_str().unwrap()).unwrap().0.as_u128());
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{query}");
    };
    check_page("", &[0, 1, 2, 20, 21, 22, 23]);
    check_page("limit=3", &[0, 1, 2]);
    check_page("limit=4", &[0, 1, 2, 20]);
    check_page("limit=2&offset=2", &[2, 20]);
    check_page("limit=2&offset=3", &[20, 21]);
    check_page("limit=1000&offset=6", &[23]);
    check_page("offset=7", &[]);
    check_page("offset=4294967295", &[]);
}

#[test]
fn a_large_page_is_read_in_slices_and_goes_on_where_the_slice_before_ended() {
    let world = World::new();
    let mut asked = Vec::new();
    let response = world.run(&stats("offset=10&limit=300"), |ask| match ask {
        Ask::Shard(shard, Command::Totals(None)) => Answer::Shard(Reply::Totals(totals(shard, 90, 1, 0))),
        Ask::Shard(shard, Command::Connections { from, skip, take, .. }) => {
            asked.push((shard.0, from, skip, take));
            // Two of the first shard's have gone since it was counted.
            let end = if shard.0 == 0 { 88 } else { 90 };
            let begin = from + skip;
            let rows: Vec<_> = (begin..end.min(begin + take)).map(|n| row(shard, world.gateway, n)).collect();
            Answer::Shard(Reply::Connections(Rows { next: begin + rows.len(), rows }))
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(asked[..3], [(0, 0, 10, 42), (1, 0, 0, 42), (2, 0, 0, 42)]);
    assert_eq!(asked[3..6], [(0, 52, 0, 38), (1, 42, 0, 42), (2, 42, 0, 42)]);
    assert_eq!(asked[6..], [(1, 84, 0, 6), (2, 84, 0, 6)]);
    let rows = json(&response)["gatewayConnections"]["connections"].as_array().unwrap().clone();
    let expected: Vec<_> = [(0, 10..88), (1, 0..90), (2, 0..90)]
        .into_iter()
        .flat_map(|(shard, rows)| rows.map(move |n| (shard, n)))
        .collect();
    let number = |row: &serde_json::Value| {
        let id = ConnectionId::parse(row["connectionId"].as_str().unwrap()).unwrap().0.as_u128();
        (row["shard"].as_u64().unwrap(), id)
    };
    assert_eq!(rows.iter().map(number).collect::<Vec<_>>(), expected);
}

#[test]
fn one_gateway_is_counted_by_its_owner_and_the_deliveries_by_all() {
    let world = World::new();
    let mut page_asked = Vec::new();
    let mut answer = hub(&world);
    let response = world.run(&stats(&format!("gatewayId={}", world.gateway)), |ask| {
        if let Ask::Shard(owner, Command::Connections { gateway, from: 0, skip: 0, take: 2 }) = &ask {
            page_asked.push((*owner, *gateway));
        }
        answer(ask)
    });
    check(&response, 200);
    let body = json(&response);
    assert_eq!(page_asked, [(world.placement.of_gateway(world.gateway), Some(world.gateway))]);
    assert_eq!(body["gatewayConnections"]["totalActive"], 2);
    assert_eq!(body["gatewayConnections"]["connections"].as_array().unwrap().len(), 2);
    assert_eq!(body["eventDelivery"]["totalEventsSent"], 300);
    assert_eq!(body["shards"].as_array().unwrap().len(), 3);
}

#[test]
fn the_last_failure_is_the_latest_of_all_shards() {
    let world = World::new();
    let mut answer = hub(&world);
    let response = world.run(&stats("offset=100"), |ask| match answer(ask) {
        Answer::Shard(Reply::Totals(mut totals)) => {
            let at = [5, 9, 7][totals.shard.index()];
            totals.deliveries.last_failure_time = Some(Timestamp(at));
            totals.deliveries.last_failure_reason = Some(["a", "slow consumer", "b"][totals.shard.index()]);
            Answer::Shard(Reply::Totals(totals))
        }
        other => other,
    });
    let delivery = &json(&response)["eventDelivery"];
    assert_eq!(delivery["lastFailureTime"], "1970-01-01T00:00:00.009Z");
    assert_eq!(delivery["lastFailureReason"], "slow consumer");
}

#[test]
fn one_silent_shard_makes_it_503_in_either_round() {
    let world = World::new();
    for silent_round in [0, 1] {
        let mut answer = hub(&world);
        let response = world.run(&stats(""), |ask| {
            let round = usize::from(matches!(ask, Ask::Shard(_, Command::Connections { .. })));
            let silent = round == silent_round && matches!(ask, Ask::Shard(ShardId(2), _));
            if silent { Answer::TimedOut } else { answer(ask) }
        });
        check(&response, 503);
    }
}

#[test]
fn rows_that_came_between_the_rounds_do_not_stretch_the_page() {
    let world = World::new();
    let response = world.run(&stats("limit=2"), |ask| match ask {
        Ask::Shard(shard, Command::Totals(None)) => Answer::Shard(Reply::Totals(totals(shard, 1, 0, 0))),
        Ask::Shard(shard, _) => {
            let rows = (0..5).map(|n| row(shard, world.gateway, n)).collect();
            Answer::Shard(Reply::Connections(Rows { rows, next: 5 }))
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(json(&response)["gatewayConnections"]["connections"].as_array().unwrap().len(), 2);
}

#[test]
fn nonsense_in_the_query_is_400() {
    let world = World::new();
    for query in ["gatewayId=", "gatewayId=7", "limit=0", "limit=-1", "offset=a", "gatewayId=%zz"] {
        check(&world.respond(&stats(query)), 400);
    }
}
