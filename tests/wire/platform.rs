//! The platform's calls over the wire (contract section 2): gateways, keys, manifests and authorization.

use crate::{
    harness::{TestHub, eventually, on_one_and_four, on_own_one_and_four},
    request::{Answer, Request},
};
use gatecast::{limits, model::Position};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

const MANIFEST: &str = r#"{"apis":[{"id":"a","n":1.50}]}"#;

fn put_manifest(hub: &TestHub, gateway: &str, key: &str, manifest: &str) -> Answer {
    let path = format!("/api/internal/v1/gateways/{gateway}/manifest");
    hub.ask(&Request::new("POST", &path).with("api-key", key).body(manifest))
}

#[test]
fn the_platforms_calls_need_the_admin_token() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let calls = [
            ("GET", "/api/v1/gateways".to_owned()),
            ("POST", "/api/v1/gateways".to_owned()),
            ("GET", format!("/api/v1/gateways/{}", gateway.id)),
            ("PATCH", format!("/api/v1/gateways/{}", gateway.id)),
            ("DELETE", format!("/api/v1/gateways/{}", gateway.id)),
            ("GET", format!("/api/v1/gateways/{}/tokens", gateway.id)),
            ("POST", format!("/api/v1/gateways/{}/events", gateway.id)),
            ("POST", "/api/v1/events".to_owned()),
            ("GET", "/api/internal/v1/stats".to_owned()),
        ];
        for (method, path) in &calls {
            let bare = Request::new(method, path);
            let bare = if *method == "POST" { bare.body("{}") } else { bare };
            for (name, request) in [
                ("nothing", bare.clone()),
                ("a gateway's key as bearer", bare.clone().bearer(&gateway.key)),
                ("a gateway's key", bare.clone().with("api-key", &gateway.key)),
                ("an empty token", bare.clone().bearer("")),
                ("a longer token", bare.clone().bearer(&format!("{}x", hub.admin_token()))),
                ("another scheme", bare.clone().set("Authorization", format!("Basic {}", hub.admin_token()))),
            ] {
                let answer = hub.ask(&request);
                assert_eq!(answer.status, 401, "{method} {path} with {name}: {answer:?}");
            }
        }
        assert_eq!(hub.call("GET", &format!("/api/v1/gateways/{}", gateway.id), "").status, 200);
    });
}

#[test]
fn an_idempotency_key_is_refused_and_nothing_is_done() {
    on_one_and_four(|hub| {
        let (gateway, mut peer) = hub.connect_new();
        let event = r#"{"type":"keyed","payload":{}}"#;
        let line = json!({ "gatewayId": gateway.id, "type": "keyed", "payload": {} }).to_string();
        let calls = [
            ("POST", format!("/api/v1/gateways/{}/events", gateway.id), event.to_owned()),
            ("POST", "/api/v1/events".to_owned(), line),
            ("POST", "/api/v1/gateways".to_owned(), r#"{"name":"keyed"}"#.to_owned()),
            ("PATCH", format!("/api/v1/gateways/{}", gateway.id), r#"{"displayName":"keyed"}"#.to_owned()),
            ("DELETE", format!("/api/v1/gateways/{}", gateway.id), String::new()),
        ];
        for (method, path, body) in &calls {
            let request = hub.platform_request(method, path, body).with("Idempotency-Key", "k-1");
            // Two of these fields are refused as well.
            for request in [request.clone(), request.with("Idempotency-Key", "k-2")] {
                let answer = hub.ask(&request);
                assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
                assert!(answer.text().contains("Idempotency-Key"), "{method} {path}: {answer:?}");
            }
        }
        let manifest = format!("/api/internal/v1/gateways/{}/manifest", gateway.id);
        let request =
            Request::new("POST", &manifest).with("api-key", &gateway.key).with("Idempotency-Key", "k-1").body("{}");
        assert_eq!(hub.ask(&request).status, 400, "a gateway's manifest");
        let read = hub.platform_request("GET", "/api/v1/gateways", "").with("Idempotency-Key", "k-1");
        assert_eq!(hub.ask(&read).status, 200, "a call that only reads may be repeated");
        hub.publish(&gateway.id, "unkeyed", "{}");
        assert_eq!(peer.event().kind, "unkeyed");
    });
}

#[test]
fn health_and_readiness_need_no_token() {
    on_one_and_four(|hub| {
        for path in ["/health", "/ready"] {
            assert_eq!(hub.ask(&Request::new("GET", path)).status, 200, "{path}");
        }
    });
}

#[test]
fn the_notification_path_of_another_product_is_404() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let request = Request::new("GET", "/internal/gateway/.well-known");
        assert_eq!(hub.ask(&request).status, 404);
        assert_eq!(hub.ask(&request.with("api-key", &gateway.key)).status, 404);
    });
}

#[test]
fn a_manifest_is_accepted_from_its_own_gateway_only() {
    on_one_and_four(|hub| {
        let (gateway, other) = (hub.register(), hub.register());
        for key in [&other.key, "wrong", "", hub.admin_token()] {
            let answer = put_manifest(hub, &gateway.id, key, MANIFEST);
            assert_eq!(answer.status, 401, "{answer:?}");
        }
        assert_eq!(put_manifest(hub, &gateway.id, &gateway.key, r#"{"first":true}"#).status, 204);
        assert_eq!(put_manifest(hub, &gateway.id, &gateway.key, MANIFEST).status, 204);
        let shown = hub.call("GET", &format!("/api/v1/gateways/{}", gateway.id), "");
        assert!(shown.text().contains(MANIFEST), "the latest manifest, unchanged: {}", shown.text());
        assert_eq!(put_manifest(hub, &gateway.id, &gateway.key, "{").status, 400);
    });
}

#[test]
fn a_newer_manifest_replaces_a_gateways_older_one_and_delays_no_platform_call() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let path = format!("/api/internal/v1/gateways/{}/manifest", gateway.id);
        let head = Request::new("POST", &path).with("api-key", &gateway.key).with("Content-Length", "1000000").bytes();
        let unfinished: Vec<_> = (0..100)
            .map(|_| {
                let mut wire = hub.wire();
                wire.send(&[&head[..], &[b' '; 100_000]].concat());
                wire
            })
            .collect();
        assert_eq!(put_manifest(hub, &gateway.id, &gateway.key, MANIFEST).status, 204);
        assert_eq!(hub.publish(&gateway.id, "t", &"1".repeat(1_000_000))["connections"], 0);
        let shards = hub.stats("")["shards"].as_array().unwrap().len();
        let mut refused = 0;
        for mut wire in unfinished {
            if wire.fill(Instant::now() + Duration::from_millis(500)) {
                let answer = Answer::read_last(&mut wire);
                assert_eq!((answer.status, answer.retry_after()), (503, Some(1)), "{answer:?}");
                refused += 1;
            }
        }
        assert!(refused >= 100 - shards, "{refused} of 100 were refused, expected all but the newest of each core");
    });
}

#[test]
fn unfinished_manifests_use_up_the_gateways_budget_and_not_the_platforms() {
    const MANIFESTS: usize = limits::GATEWAYS_BODIES_BYTES_MAX / limits::MANIFEST_BYTES_MAX;
    on_own_one_and_four(
        // No unfinished manifest ends during the test.
        |config| config.handshake_deadline = Duration::from_secs(120),
        |hub| {
            let gateway = hub.register();
            let (mut unfinished, mut refused) = (Vec::new(), 0);
            for _ in 0..MANIFESTS + 8 {
                let gateway = hub.register();
                let path = format!("/api/internal/v1/gateways/{}/manifest", gateway.id);
                let head = Request::new("POST", &path).with("api-key", &gateway.key).with("Expect", "100-continue");
                let mut wire = hub.wire();
                wire.send(&head.with("Content-Length", limits::MANIFEST_BYTES_MAX.to_string()).bytes());
                let answer = Answer::read(&mut wire).expect("an answer to the head");
                match answer.status {
                    100 => unfinished.push(wire),
                    _ => {
                        assert_eq!((answer.status, answer.retry_after()), (503, Some(1)), "{answer:?}");
                        refused += 1;
                    }
                }
            }
            // Each of four cores has a quarter of the budget, and the kernel chooses the core.
            assert!(unfinished.len() <= MANIFESTS, "{} MiB are reserved", unfinished.len());
            if hub.config.cores == Some(1) {
                assert_eq!((unfinished.len(), refused), (MANIFESTS, 8));
            }
            let answer = hub.publish(&gateway.id, "t", &"1".repeat(1_000_000));
            assert_eq!(answer["failures"][0]["reason"], "gateway not connected", "{answer}");
            drop(unfinished);
            eventually("the budget is free again", || {
                put_manifest(hub, &gateway.id, &gateway.key, MANIFEST).status == 204
            });
        },
    );
}

#[test]
fn a_manifest_of_one_mebibyte_passes_and_one_byte_more_is_refused() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let of = |bytes: usize| format!(r#"{{"m":"{}"}}"#, "x".repeat(bytes - 8));
        assert_eq!(put_manifest(hub, &gateway.id, &gateway.key, &of(limits::MANIFEST_BYTES_MAX)).status, 204);
        assert_eq!(put_manifest(hub, &gateway.id, &gateway.key, &of(limits::MANIFEST_BYTES_MAX + 1)).status, 413);
    });
}

#[test]
fn a_gateways_name_is_unique_and_its_id_may_be_given() {
    on_one_and_four(|hub| {
        let create = |body: serde_json::Value| hub.call("POST", "/api/v1/gateways", &body.to_string());
        let id = uuid::Uuid::new_v4().to_string();
        let answer = create(json!({ "name": id, "displayName": "One", "organizationId": "o", "id": id }));
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json()["id"], id);
        assert_eq!(create(json!({ "name": id, "organizationId": "o" })).status, 409, "the name is taken there");
        assert_eq!(create(json!({ "name": id, "organizationId": "p" })).status, 201, "and free elsewhere");
        assert_eq!(create(json!({ "name": "other", "organizationId": id, "id": id })).status, 409, "the id is taken");
        for bad in
            [json!({}), json!({ "name": "" }), json!({ "name": "n", "id": "x" }), json!({ "name": 7 }), json!([])]
        {
            assert_eq!(create(bad.clone()).status, 400, "{bad}");
        }
        let shown = hub.call("GET", &format!("/api/v1/gateways/{id}"), "").json();
        assert_eq!((&shown["displayName"], &shown["organizationId"]), (&json!("One"), &json!("o")), "{shown}");
        assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{id}"), "").status, 204);
        for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/tokens")] {
            assert_eq!(hub.call(method, &format!("/api/v1/gateways/{id}{path}"), "").status, 404, "{method} {path}");
        }
        assert_eq!(hub.try_publish(&id, r#"{"type":"t","payload":{}}"#).status, 404);
    });
}

#[test]
fn the_delivery_and_the_display_name_of_a_gateway_can_be_changed() {
    on_one_and_four(|hub| {
        let name = uuid::Uuid::new_v4().to_string();
        let body = json!({ "name": name, "displayName": "One", "delivery": "written" }).to_string();
        let created = hub.call("POST", "/api/v1/gateways", &body);
        assert_eq!((created.status, &created.json()["delivery"]), (201, &json!("written")), "{created:?}");
        let path = format!("/api/v1/gateways/{}", created.json()["id"].as_str().unwrap());
        let check = |change: serde_json::Value, delivery: serde_json::Value, display_name: serde_json::Value| {
            let answer = hub.call("PATCH", &path, &change.to_string());
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut expected = created.json();
            (expected["delivery"], expected["displayName"]) = (delivery, display_name);
            assert_eq!(answer.json(), expected, "{change}");
            let shown = hub.call("GET", &path, "").json();
            for member in ["id", "name", "displayName", "organizationId", "delivery", "createdAt"] {
                assert_eq!(shown[member], expected[member], "{change}");
            }
            let total = hub.call("GET", "/api/v1/gateways?limit=1", "").json()["pagination"]["total"].as_u64().unwrap();
            let last = format!("/api/v1/gateways?limit=1000&offset={}", total.saturating_sub(500));
            let listed = hub.call("GET", &last, "").json();
            let row = listed["list"].as_array().unwrap().iter().find(|row| row["id"] == expected["id"]).unwrap();
            assert_eq!(row["delivery"], expected["delivery"], "{row}");
        };
        check(json!({ "displayName": "Two" }), json!("written"), json!("Two"));
        check(json!({ "delivery": "processed" }), json!("processed"), json!("Two"));
        check(json!({ "delivery": null }), json!(null), json!("Two"));
        check(json!({ "displayName": null, "delivery": "written" }), json!("written"), json!(null));
        for bad in [json!({}), json!({ "name": "n" }), json!({ "delivery": "sent" }), json!({ "displayName": "" })] {
            assert_eq!(hub.call("PATCH", &path, &bad.to_string()).status, 400, "{bad}");
        }
        let put = hub.call("PUT", &path, r#"{"delivery":"written"}"#);
        assert_eq!((put.status, put.field("Allow")), (405, Some("GET, HEAD, PATCH, DELETE")), "{put:?}");
        assert_eq!(hub.call("DELETE", &path, "").status, 204);
        assert_eq!(hub.call("PATCH", &path, r#"{"delivery":null}"#).status, 404);
    });
}

#[test]
fn a_gateway_created_again_with_the_same_id_never_repeats_a_position() {
    on_one_and_four(|hub| {
        let id = uuid::Uuid::new_v4().to_string();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let body = json!({ "name": id, "id": id }).to_string();
            assert_eq!(hub.call("POST", "/api/v1/gateways", &body).status, 201);
            let mut peer = hub.connect(&hub.make_key(&id).1);
            for _ in 0..2 {
                let answer = hub.publish(&id, "t", "{}");
                assert_eq!(answer["position"], json!(peer.event().position), "{answer}");
                seen.push(Position::parse(answer["position"].as_str().unwrap()).unwrap());
            }
            assert_eq!(hub.call("DELETE", &format!("/api/v1/gateways/{id}"), "").status, 204);
            peer.closed();
        }
        assert_eq!(seen.iter().map(|position| position.offset).collect::<Vec<_>>(), [1, 2, 1, 2, 1, 2]);
        let epochs: std::collections::BTreeSet<_> = seen.iter().map(|position| position.epoch).collect();
        assert_eq!(epochs.len(), 3, "each gateway of that id has an epoch of its own: {seen:?}");
    });
}

#[test]
fn gateways_are_listed_in_pages() {
    on_one_and_four(|hub| {
        let ids: Vec<_> = (0..5).map(|_| hub.register().id).collect();
        let page = |limit: usize, offset: usize| {
            let answer = hub.call("GET", &format!("/api/v1/gateways?limit={limit}&offset={offset}"), "");
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()
        };
        let first = page(2, 0);
        let total = first["pagination"]["total"].as_u64().unwrap();
        assert!(total >= 5);
        assert_eq!((&first["count"], &first["pagination"]["limit"]), (&json!(2), &json!(2)), "{first}");
        let mut seen = Vec::new();
        for offset in (0..usize::try_from(total).unwrap() + 50).step_by(3) {
            let rows = page(3, offset)["list"].as_array().unwrap().clone();
            seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        }
        for id in &ids {
            assert_eq!(seen.iter().filter(|s| *s == id).count(), 1, "{id} is on exactly one page");
        }
    });
}

#[test]
fn a_gateway_has_at_most_two_live_tokens() {
    on_one_and_four(|hub| {
        let gateway = hub.register();
        let path = format!("/api/v1/gateways/{}/tokens", gateway.id);
        let (_, second) = hub.make_key(&gateway.id);
        assert_eq!((second.len(), second == gateway.key), (43, false), "32 bytes in base64url");
        assert_eq!(hub.call("POST", &path, "{}").status, 409);
        let listed = hub.call("GET", &path, "").text();
        assert!(listed.contains(&gateway.token_id) && !listed.contains(&gateway.key) && !listed.contains(&second));
        assert_eq!(hub.call("DELETE", &format!("{path}/{}", gateway.token_id), "").status, 204);
        assert_eq!(hub.call("DELETE", &format!("{path}/{}", gateway.token_id), "").status, 404);

        let brought = format!("{}", uuid::Uuid::new_v4());
        let hash: String = Sha256::digest(brought.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        let answer = hub.call("POST", &path, &json!({ "sha256": hash }).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        hub.connect(&brought).leave();
        hub.connect(&second).leave();
        assert_eq!(hub.try_connect(&gateway.key).err().map(|a| a.status), Some(401));
        assert_eq!(hub.call("POST", &path, r#"{"sha256":"beef"}"#).status, 400);
    });
}

#[test]
fn a_token_hash_that_the_hub_has_already_is_409() {
    on_one_and_four(|hub| {
        let (first, second) = (hub.register(), hub.register());
        let import = |gateway: &str, token: &str| {
            let hash: String = Sha256::digest(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
            hub.call("POST", &format!("/api/v1/gateways/{gateway}/tokens"), &json!({ "sha256": hash }).to_string())
        };
        let imported = uuid::Uuid::new_v4().to_string();
        assert_eq!(import(&first.id, &imported).status, 201);
        for (name, token) in [("imported", &imported), ("made by the hub", &first.key)] {
            let answer = import(&second.id, token);
            assert_eq!(answer.status, 409, "{name}, for another gateway: {answer:?}");
        }
        let own = import(&second.id, &second.key);
        assert_eq!(own.status, 409, "for the same gateway: {own:?}");
        let listed = hub.call("GET", &format!("/api/v1/gateways/{}/tokens", second.id), "").json();
        assert_eq!(listed["count"], 1, "nothing was added: {listed}");
        let peer = hub.connect(&imported);
        assert_eq!(peer.ack["gatewayId"], first.id, "the token still belongs to the first gateway");
    });
}
