//! The statistics (contract section 3): members, sums and pages.

use crate::harness::{TestHub, on_one_and_four, on_own_one_and_four};
use serde_json::{Value, json};
use std::collections::HashSet;

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count"))
}

#[test]
fn a_row_has_gateway_connection_time_address_and_counters() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        hub.publish(&gateway.id, "t", "{}");
        peer.event();
        let stats = hub.stats(&format!("?gatewayId={}", gateway.id));
        assert_eq!(keys(&stats), ["eventDelivery", "gatewayConnections", "shards"]);
        assert_eq!(keys(&stats["gatewayConnections"]), ["connections", "maxConnections", "totalActive"]);
        assert_eq!(stats["gatewayConnections"]["maxConnections"], hub.config.connections_max);
        let row = &stats["gatewayConnections"]["connections"][0];
        let wanted = "connectedAt connectionId delivery deliveryStats gatewayId lastHeartbeat missed processed processing \
                      queuedBytes remoteAddress roundTripMs shard status unprocessed";
        assert_eq!(keys(row), wanted.split_whitespace().collect::<Vec<_>>(), "{row}");
        assert_eq!((&row["gatewayId"], &row["connectionId"]), (&json!(gateway.id), &json!(peer.connection_id())));
        assert_eq!((&row["status"], &row["queuedBytes"]), (&json!("connected"), &json!(0)), "{row}");
        assert_eq!(row["remoteAddress"], peer.wire.local_addr().to_string());
        assert!(number(&row["shard"]) < u64::from(hub.config.cores.unwrap()), "{row}");
        for time in ["connectedAt", "lastHeartbeat"] {
            let text = row[time].as_str().unwrap();
            assert!(text.len() == 24 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(), "{row}");
        }
        let delivery =
            json!({ "totalEventsSent": 1, "failedDeliveries": 0, "lastFailureTime": null, "lastFailureReason": null });
        assert_eq!(row["deliveryStats"], delivery);
    });
}

#[test]
fn sums_include_all_shards_and_ended_connections() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            assert_totals(hub, (0, 0), (0, 0));
            let gateways: Vec<_> = (0..8).map(|_| hub.register()).collect();
            let mut peers: Vec<_> = gateways.iter().flat_map(|g| [hub.connect(&g.key), hub.connect(&g.key)]).collect();
            for gateway in &gateways {
                hub.publish(&gateway.id, "t", "{}");
            }
            peers.iter_mut().for_each(|peer| drop(peer.event()));
            assert_totals(hub, (16, 8), (16, 0));
            for peer in peers.drain(..14) {
                peer.leave();
            }
            for gateway in &gateways[..7] {
                hub.await_rows(&gateway.id, 0);
            }
            assert_totals(hub, (2, 1), (16, 0));
            let failed = hub.publish(&gateways[0].id, "t", "{}");
            assert_eq!(failed["failed"], 1);
            assert_totals(hub, (2, 1), (16, 1));
            let delivery = &hub.stats("")["eventDelivery"];
            assert_eq!(delivery["lastFailureReason"], "gateway not connected");
            assert!(delivery["lastFailureTime"].as_str().is_some_and(|t| t.ends_with('Z')), "{delivery}");
        },
    );
}

/// Checks the numbers of connections, gateways, sent and failed events, in total and as sums over the shards.
fn assert_totals(hub: &TestHub, (connections, gateways): (u64, u64), (sent, failed): (u64, u64)) {
    let stats = hub.stats("");
    assert_eq!(number(&stats["gatewayConnections"]["totalActive"]), connections, "{stats}");
    assert_eq!(stats["gatewayConnections"]["connections"].as_array().unwrap().len() as u64, connections, "{stats}");
    let delivery = &stats["eventDelivery"];
    assert_eq!(
        (number(&delivery["totalEventsSent"]), number(&delivery["failedDeliveries"])),
        (sent, failed),
        "{stats}"
    );
    let shards = stats["shards"].as_array().unwrap();
    assert_eq!(shards.len(), usize::from(hub.config.cores.unwrap()), "{stats}");
    let sum = |name: &str| shards.iter().map(|shard| number(&shard[name])).sum::<u64>();
    assert_eq!((sum("connections"), sum("gateways")), (connections, gateways), "{stats}");
    assert_eq!(sum("eventsSent"), sent, "{stats}");
    assert!(shards.iter().enumerate().all(|(n, shard)| shard["shard"] == n), "{stats}");
}

#[test]
fn pages_list_every_connection_once() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let gateways: Vec<_> = (0..5).map(|_| hub.register()).collect();
            let peers: Vec<_> = (0..23).map(|n| hub.connect(&gateways[n % 5].key)).collect();
            let wanted: HashSet<String> = peers.iter().map(|p| p.connection_id().to_owned()).collect();
            for limit in [1, 4, 7, 23, 1_000] {
                let mut seen = Vec::new();
                for offset in (0..23).step_by(limit) {
                    let stats = hub.stats(&format!("?limit={limit}&offset={offset}"));
                    assert_eq!(stats["gatewayConnections"]["totalActive"], 23);
                    let rows = stats["gatewayConnections"]["connections"].as_array().unwrap();
                    assert_eq!(rows.len(), limit.min(23 - offset), "limit {limit}, offset {offset}");
                    seen.extend(rows.iter().map(|r| r["connectionId"].as_str().unwrap().to_owned()));
                }
                assert_eq!(seen.len(), 23, "limit {limit}: a row is repeated");
                assert_eq!(seen.into_iter().collect::<HashSet<_>>(), wanted, "limit {limit}");
            }
            assert_eq!(hub.rows(&gateways[0].id).len(), 5);
            assert_eq!(hub.stats("?offset=23")["gatewayConnections"]["connections"], json!([]));
            assert_eq!(hub.rows(&uuid::Uuid::new_v4().to_string()).len(), 0);
            for bad in ["?limit=0x", "?limit=-1", "?offset=a", "?gatewayId=x", "?limit=99999999999999999999"] {
                let answer = hub.call("GET", &format!("/api/internal/v1/stats{bad}"), "");
                assert_eq!(answer.status, 400, "{bad}: {answer:?}");
            }
        },
    );
}

#[test]
fn a_round_trip_is_shown_once_a_ping_is_answered() {
    on_own_one_and_four(
        |config| config.heartbeat_interval = std::time::Duration::from_millis(100),
        |hub| {
            let (gateway, mut peer) = hub.connect_new();
            let before = hub.rows(&gateway.id)[0]["connectedAt"].clone();
            for _ in 0..200 {
                peer.message_within(std::time::Duration::from_millis(20));
                let row = &hub.rows(&gateway.id)[0];
                if let Some(ms) = row["roundTripMs"].as_f64() {
                    assert!((0.0..20_000.0).contains(&ms), "{row}");
                    assert!(row["lastHeartbeat"].as_str() >= before.as_str(), "{row}");
                    return;
                }
            }
            panic!("pings were answered, but no round trip is shown");
        },
    );
}

#[test]
fn a_repeated_correlation_id_of_a_gateway_is_counted() {
    on_own_one_and_four(
        |_| {},
        |hub| {
            let (gateway, mut peer) = hub.connect_new();
            let repeated = || -> u64 {
                let text = hub.call("GET", "/metrics", "").text();
                let samples = text.lines().filter(|line| line.starts_with("gatecast_correlation_ids_repeated_total{"));
                samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
            };
            let publish = |gateway: &str, correlation: &str| {
                let body = json!({ "type": "t", "payload": {}, "correlationId": correlation }).to_string();
                let answer = hub.try_publish(gateway, &body);
                assert_eq!(answer.status, 200, "{answer:?}");
                answer.json()["correlationId"].as_str().unwrap().to_owned()
            };
            let ids = [(); 3].map(|()| uuid::Uuid::new_v4().to_string());
            ids.iter().for_each(|id| drop(publish(&gateway.id, id)));
            assert_eq!(repeated(), 0);
            publish(&gateway.id, &ids[0]);
            publish(&gateway.id, &ids[0].to_uppercase());
            assert_eq!(repeated(), 2);
            // An id that the hub made counts as well if a publisher sends it again.
            let own = hub.publish(&gateway.id, "t", "{}")["correlationId"].as_str().unwrap().to_owned();
            publish(&gateway.id, &own);
            assert_eq!(repeated(), 3);
            (0..7).for_each(|_| drop(peer.event()));

            let (other, _peer) = hub.connect_new();
            publish(&other.id, &ids[0]);
            let away = hub.register();
            publish(&away.id, &ids[0]);
            publish(&away.id, &ids[0]);
            assert_eq!(repeated(), 3, "not counted for another gateway, or for one that was not connected");
        },
    );
}
