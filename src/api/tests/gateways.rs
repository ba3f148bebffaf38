//! Tests of creating, listing, showing, changing and deleting gateways.

use super::*;
use crate::model::{DeliveryMode, GatewayRecord};

fn record(id: GatewayId, name: &str) -> GatewayRecord {
    let created_at = Timestamp(1_700_000_000_007);
    GatewayRecord { id, name: name.to_owned(), display_name: None, organization_id: None, delivery: None, created_at }
}

fn create(body: &str) -> Request {
    Request::new("POST", "/api/v1/gateways").body(body)
}

/// A store in which every job succeeds.
fn succeed(ask: Ask) -> Answer {
    match ask {
        Ask::Store(StoreOp::CreateGateway(record)) => Answer::Store(StoreOutcome::Gateway(record, None)),
        Ask::Store(StoreOp::DeleteGateway(_)) => Answer::Store(StoreOutcome::Done),
        other => panic!("{other:?}"),
    }
}

#[test]
fn creating_a_gateway_returns_it_with_its_location() {
    let world = World::new();
    let id = GatewayId::random();
    let body = format!(
        r#"{{"name":"edge","displayName":"Edge","organizationId":"acme","id":"{id}","delivery":"processed","x":1}}"#
    );
    let response = world.run(&create(&body), succeed);
    check(&response, 201);
    assert_eq!(field(&response, "Location"), Some(format!("/api/v1/gateways/{id}").as_str()));
    let expected = serde_json::json!({
        "id": id, "name": "edge", "displayName": "Edge", "organizationId": "acme",
        "delivery": "processed", "createdAt": "2023-11-14T22:13:20.000Z",
    });
    assert_eq!(json(&response), expected);
    let bare = json(&world.run(&create(r#"{"name":"edge"}"#), succeed));
    assert!(GatewayId::parse(bare["id"].as_str().unwrap()).is_some());
    assert!(bare["displayName"].is_null() && bare["organizationId"].is_null());
    for (value, expected) in [("\"written\"", "\"written\""), ("null", "null"), (r#""\u0077ritten""#, "\"written\"")] {
        let made = json(&world.run(&create(&format!(r#"{{"name":"edge","delivery":{value}}}"#)), succeed));
        assert_eq!(made["delivery"].to_string(), expected, "{value}");
    }
    assert!(bare.as_object().unwrap().contains_key("delivery") && bare["delivery"].is_null());
}

fn patch(gateway: impl std::fmt::Display, body: &str) -> Request {
    Request::new("PATCH", format!("/api/v1/gateways/{gateway}")).body(body)
}

#[test]
fn a_change_of_a_gateway_keeps_absent_members_and_resets_those_that_are_null() {
    let world = World::new();
    let check_change = |body: &str, name: Option<Option<&str>>, mode: Option<Option<DeliveryMode>>| {
        let response = world.run(&patch(world.gateway, body), |ask| match ask {
            Ask::Store(StoreOp::ChangeGateway { gateway, display_name, delivery }) => {
                assert_eq!(gateway, world.gateway);
                assert_eq!((display_name.as_ref().map(Option::as_deref), delivery), (name, mode), "{body}");
                let record = GatewayRecord { delivery: delivery.flatten(), ..record(gateway, "edge") };
                Answer::Store(StoreOutcome::Gateway(record, None))
            }
            other => panic!("{other:?}"),
        });
        check(&response, 200);
        let shown = json(&response);
        assert_eq!(shown["id"], world.gateway.to_string());
        assert_eq!(shown["delivery"].as_str(), mode.flatten().map(DeliveryMode::as_str));
    };
    check_change(r#"{"delivery":"processed"}"#, None, Some(Some(DeliveryMode::Processed)));
    check_change(r#"{"delivery":"written","x":[1]}"#, None, Some(Some(DeliveryMode::Written)));
    check_change(r#"{"delivery":null}"#, None, Some(None));
    check_change(r#"{"displayName":"Edge"}"#, Some(Some("Edge")), None);
    check_change(r#"{"displayName":null}"#, Some(None), None);
    check_change(r#"{ "displayName" : null, "delivery" : null }"#, Some(None), Some(None));
}

#[test]
fn an_invalid_change_of_a_gateway_is_400_that_says_what_was_expected() {
    let world = World::new();
    let check_bad = |body: &str, says: &str| {
        let response = world.respond(&patch(world.gateway, body));
        check(&response, 400);
        assert!(description(&response).contains(says), "{body}: {}", description(&response));
    };
    let nothing = "nothing to change: expected `delivery`, `displayName` or both";
    check_bad("{}", nothing);
    check_bad(r#"{"name":"edge","organizationId":"acme"}"#, nothing);
    check_bad("", "object");
    check_bad("[]", "object");
    for value in ["\"Processed\"", "\"\"", "\"default\"", "1", "true", "[\"written\"]", "{}", "\"written \""] {
        let expected = r#"invalid `delivery`: expected "written" or "processed", or null for the hub's default"#;
        check_bad(&format!(r#"{{"delivery":{value}}}"#), expected);
        let created = world.respond(&create(&format!(r#"{{"name":"n","delivery":{value}}}"#)));
        check(&created, 400);
        assert!(description(&created).contains(expected), "{value}: {}", description(&created));
    }
    check_bad(r#"{"delivery":"written","delivery":"written"}"#, "duplicate");
    check_bad(r#"{"displayName":" "}"#, "`displayName`");
    check_bad(r#"{"displayName":"a\nb"}"#, "`displayName`");
    check_bad(&format!(r#"{{"displayName":"{}"}}"#, "n".repeat(129)), "`displayName`");
    check_bad(r#"{"displayName":7}"#, "column");
}

#[test]
fn an_invalid_gateway_is_400_that_names_the_member() {
    let world = World::new();
    let check_bad = |body: &str, says: &str| {
        let response = world.respond(&create(body));
        check(&response, 400);
        assert!(description(&response).contains(says), "{}", description(&response));
    };
    check_bad("", "object");
    check_bad("[\"edge\"]", "object");
    check_bad("{}", "`name`");
    check_bad(r#"{"name":""}"#, "`name`");
    check_bad(r#"{"name":"  "}"#, "`name`");
    check_bad(r#"{"name":"a\u0000"}"#, "`name`");
    check_bad(r#"{"name":"a\nb"}"#, "`name`");
    check_bad(&format!(r#"{{"name":"{}"}}"#, "n".repeat(129)), "`name`");
    check_bad(&format!(r#"{{"name":"n","displayName":"{}"}}"#, "n".repeat(129)), "`displayName`");
    check_bad(r#"{"name":"n","organizationId":""}"#, "`organizationId`");
    check_bad(r#"{"name":"n","id":"7"}"#, "`id`");
    check_bad(r#"{"name":"n","name":"n"}"#, "duplicate");
    check_bad(r#"{"name":7}"#, "column");
}

#[test]
fn outcomes_of_the_store_become_statuses() {
    let world = World::new();
    let check_outcome = |request: &Request, outcome: StoreOutcome, status| {
        check(&world.run(request, |_| Answer::Store(outcome.clone())), status);
    };
    check_outcome(&create(r#"{"name":"n"}"#), StoreOutcome::Conflict("the name is taken".to_owned()), 409);
    check_outcome(&create(r#"{"name":"n"}"#), StoreOutcome::Unavailable("disk full".to_owned(), Kept::No), 503);
    let delete = Request::new("DELETE", format!("/api/v1/gateways/{}", world.gateway));
    check_outcome(&delete, StoreOutcome::Done, 204);
    check_outcome(&delete, StoreOutcome::NotFound("there is no such gateway"), 404);
    check_outcome(&delete, StoreOutcome::Unavailable("read-only".to_owned(), Kept::No), 503);
    let change = patch(world.gateway, r#"{"delivery":null}"#);
    check_outcome(&change, StoreOutcome::NotFound("there is no such gateway"), 404);
    check_outcome(&change, StoreOutcome::Unavailable("failing".to_owned(), Kept::Unknown), 503);
    for method in ["GET", "PATCH", "DELETE"] {
        check(&world.respond(&Request::new(method, "/api/v1/gateways/not-a-uuid")), 404);
    }
}

#[test]
fn deleting_a_gateway_is_204_without_a_body() {
    let world = World::new();
    let response = world.run(&Request::new("DELETE", format!("/api/v1/gateways/{}", world.gateway)), succeed);
    assert_eq!(response, Response::empty(204));
}

#[test]
fn a_page_shows_each_gateway_with_its_live_connections() {
    let world = World::new();
    let delivery = |n: usize| [None, Some(DeliveryMode::Written), Some(DeliveryMode::Processed)][n % 3];
    let made = |n: usize| GatewayRecord { delivery: delivery(n), ..record(GatewayId::random(), &format!("g{n}")) };
    let records: Vec<_> = (0..50).map(made).collect();
    let connections_of = |id: GatewayId| u32::try_from(id.0.as_u128() % 10).unwrap();
    let response = world.run(&Request::new("GET", "/api/v1/gateways?limit=50&offset=7"), |ask| match ask {
        Ask::Store(StoreOp::Gateways { limit: 50, offset: 7 }) => {
            Answer::Store(StoreOutcome::Gateways(records.clone(), 99))
        }
        Ask::Shard(owner, Command::Live(ids)) => {
            assert!(ids.iter().all(|id| world.placement.of_gateway(*id) == owner));
            Answer::Shard(Reply::Live(ids.into_iter().map(connections_of).collect()))
        }
        other => panic!("{other:?}"),
    });
    check(&response, 200);
    let body = json(&response);
    assert_eq!(body["count"], 50);
    assert_eq!(body["pagination"], serde_json::json!({"total": 99, "offset": 7, "limit": 50}));
    for (row, record) in body["list"].as_array().unwrap().iter().zip(&records) {
        assert_eq!(row["id"], record.id.to_string());
        assert_eq!(row["connections"], connections_of(record.id));
        assert_eq!(row["createdAt"], "2023-11-14T22:13:20.007Z");
        assert_eq!(row["delivery"].as_str(), record.delivery.map(DeliveryMode::as_str));
    }
}

#[test]
fn an_empty_page_has_no_asks_to_shards() {
    let world = World::new();
    let response = world.run(&Request::new("GET", "/api/v1/gateways"), |ask| match ask {
        Ask::Store(StoreOp::Gateways { limit: limits::PAGE_ROWS_DEFAULT, offset: 0 }) => {
            Answer::Store(StoreOutcome::Gateways(Vec::new(), 0))
        }
        other => panic!("{other:?}"),
    });
    let expected = r#"{"count":0,"list":[],"pagination":{"total":0,"offset":0,"limit":100}}"#;
    assert_eq!(String::from_utf8(response.body).unwrap(), expected);
}

#[test]
fn a_page_out_of_bounds_is_400() {
    let world = World::new();
    for query in ["limit=0", "limit=1001", "limit=x", "offset=-1", "limit=1&limit=1"] {
        check(&world.respond(&Request::new("GET", format!("/api/v1/gateways?{query}"))), 400);
    }
}

#[test]
fn a_gateway_is_shown_with_its_manifest_byte_for_byte() {
    let world = World::new();
    let check_manifest = |manifest: Option<&str>, shown: &str| {
        let request = Request::new("GET", format!("/api/v1/gateways/{}", world.gateway));
        let response = world.run(&request, |ask| match ask {
            Ask::Store(StoreOp::Gateway(id)) => {
                Answer::Store(StoreOutcome::Gateway(record(id, "edge"), manifest.map(str::to_owned)))
            }
            Ask::Shard(owner, Command::Live(ids)) => {
                assert_eq!((owner, ids), (world.placement.of_gateway(world.gateway), vec![world.gateway]));
                Answer::Shard(Reply::Live(vec![3]))
            }
            other => panic!("{other:?}"),
        });
        check(&response, 200);
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.ends_with(&format!(r#","connections":3,"manifest":{shown}}}"#)), "{text}");
    };
    check_manifest(None, "null");
    check_manifest(Some(r#"{"b": 1.0,"a":[]}"#), r#"{"b": 1.0,"a":[]}"#);
    check_manifest(Some("broken"), "null");
}
