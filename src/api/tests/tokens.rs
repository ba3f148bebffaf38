//! Tests of creating, listing and revoking tokens.

use super::*;
use crate::model::TokenRecord;

fn create(world: &World, body: &str) -> Request {
    Request::new("POST", format!("/api/v1/gateways/{}/tokens", world.gateway)).body(body)
}

#[test]
fn a_token_is_shown_once_and_only_its_hash_goes_to_the_store() {
    let world = World::new();
    let mut stored = None;
    let response = world.run(&create(&world, ""), |ask| {
        let Ask::Store(StoreOp::CreateToken { gateway, token, hash, created_at }) = ask else { panic!("{ask:?}") };
        assert_eq!(gateway, world.gateway);
        stored = Some(hash);
        Answer::Store(StoreOutcome::Token(TokenRecord { id: token, created_at }))
    });
    check(&response, 201);
    let body = json(&response);
    let token = body["token"].as_str().unwrap();
    assert_eq!(token.len(), 43, "32 bytes in base64url without padding");
    assert_eq!(stored, Some(KeyHash::of(token.as_bytes())));
    assert!(TokenId::parse(body["id"].as_str().unwrap()).is_some());
    assert_eq!(body["createdAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(body.as_object().unwrap().len(), 3);
}

#[test]
fn tokens_are_different_and_debug_hides_them() {
    let world = World::new();
    let steps = [(); 2].map(|()| world.begin(&create(&world, "{}")));
    let hashes = steps.map(|step| {
        let shown = format!("{step:?}");
        assert!(shown.contains("Secret(…)"), "{shown}");
        match step {
            Step::Ask(mut asks, _) => match asks.pop() {
                Some(Ask::Store(StoreOp::CreateToken { hash, .. })) => hash,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    });
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn a_token_is_imported_by_its_hash_without_a_secret() {
    let world = World::new();
    let hex: String = KeyHash::of(b"old").0.iter().map(|b| format!("{b:02x}")).collect();
    let response = world.run(&create(&world, &format!(r#"{{"sha256":"{hex}"}}"#)), |ask| {
        let Ask::Store(StoreOp::CreateToken { token, hash, created_at, .. }) = ask else { panic!("{ask:?}") };
        assert_eq!(hash, KeyHash::of(b"old"));
        Answer::Store(StoreOutcome::Token(TokenRecord { id: token, created_at }))
    });
    check(&response, 201);
    assert!(json(&response).get("token").is_none());
    for bad in [r#"{"sha256":""}"#, r#"{"sha256":"abc"}"#, r#"{"sha256":7}"#, "[]", "nonsense"] {
        check(&world.respond(&create(&world, bad)), 400);
    }
    check(&world.respond(&create(&world, &format!(r#"{{"sha256":"{}"}}"#, "g".repeat(64)))), 400);
}

#[test]
fn a_third_token_is_409_and_an_unknown_gateway_404() {
    let world = World::new();
    let conflict = |_| Answer::Store(StoreOutcome::Conflict("the gateway has two live tokens".to_owned()));
    check(&world.run(&create(&world, ""), conflict), 409);
    let missing = |_| Answer::Store(StoreOutcome::NotFound("there is no such gateway"));
    check(&world.run(&create(&world, ""), missing), 404);
    for method in ["GET", "POST"] {
        check(&world.respond(&Request::new(method, "/api/v1/gateways/x/tokens")), 404);
    }
}

#[test]
fn tokens_are_listed_without_their_secrets() {
    let world = World::new();
    let id = TokenId::random();
    let response = world.run(&Request::new("GET", format!("/api/v1/gateways/{}/tokens", world.gateway)), |ask| {
        assert!(matches!(ask, Ask::Store(StoreOp::Tokens(gateway)) if gateway == world.gateway));
        Answer::Store(StoreOutcome::Tokens(vec![TokenRecord { id, created_at: Timestamp(0) }]))
    });
    check(&response, 200);
    let expected = serde_json::json!({"count": 1, "list": [{"id": id, "createdAt": "1970-01-01T00:00:00.000Z"}]});
    assert_eq!(json(&response), expected);
}

#[test]
fn revoking_a_token_is_204_or_404() {
    let world = World::new();
    let id = TokenId::random();
    let revoke = Request::new("DELETE", format!("/api/v1/gateways/{}/tokens/{id}", world.gateway));
    let response = world.run(&revoke, |ask| {
        let Ask::Store(StoreOp::RevokeToken { gateway, token }) = ask else { panic!("{ask:?}") };
        assert_eq!((gateway, token), (world.gateway, id));
        Answer::Store(StoreOutcome::Done)
    });
    assert_eq!(response, Response::empty(204));
    check(&world.run(&revoke, |_| Answer::Store(StoreOutcome::NotFound("there is no such token"))), 404);
    let path = format!("/api/v1/gateways/{}/tokens/7", world.gateway);
    check(&world.respond(&Request::new("DELETE", path)), 404);
}
