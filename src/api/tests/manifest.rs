//! Tests of the manifest call. A gateway ends its process if it gets an unexpected status here.

use super::*;

fn post(gateway: impl std::fmt::Display, body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", format!("/api/internal/v1/gateways/{gateway}/manifest")).body(body).api_key(KEY)
}

#[test]
fn a_manifest_is_stored_byte_for_byte() {
    let world = World::new();
    let manifest = "{ \"b\":1.0, \"a\":[] }\n";
    let response = world.run(&post(world.gateway, manifest), |ask| {
        let Ask::Store(StoreOp::PutManifest { gateway, manifest: kept, received_at }) = ask else { panic!("{ask:?}") };
        assert_eq!((gateway, kept.as_str()), (world.gateway, manifest));
        assert_eq!(received_at, world.view().now.wall);
        Answer::Store(StoreOutcome::Done)
    });
    assert_eq!(response, Response::empty(204));
}

#[test]
fn any_key_but_the_gateways_own_is_401() {
    let mut world = World::new();
    let change = Change::TokenCreated { gateway: world.other, token: TokenId::random(), hash: KeyHash::of(b"other") };
    world.directory.apply(change);
    let gateway = world.gateway;
    let mut answers = Vec::new();
    for key in ["", "wrong", "other", ADMIN, &"k".repeat(8000)] {
        answers.push(world.respond(&post(gateway, "{}").api_key(key)));
    }
    answers.push(world.respond(&Request { api_key: None, ..post(gateway, "{}") }));
    answers.push(world.respond(&Request::new("POST", format!("/api/internal/v1/gateways/{gateway}/manifest"))));
    answers.push(world.respond(&post(world.other, "{}")));
    answers.push(world.respond(&post(GatewayId::random(), "{}")));
    answers.push(world.respond(&post("not-a-uuid", "{}")));
    for answer in &answers {
        check(answer, 401);
        assert_eq!(answer, &answers[0], "all refusals look the same");
    }
}

#[test]
fn an_error_of_the_store_is_never_404() {
    let world = World::new();
    let request = post(world.gateway, "{}");
    check(&world.run(&request, |_| Answer::Store(StoreOutcome::Unavailable("busy".to_owned(), Kept::No))), 503);
    check(&world.run(&request, |_| Answer::Store(StoreOutcome::NotFound("there is no such gateway"))), 401);
    check(&world.run(&request, |_| Answer::Overloaded), 503);
    check(&world.run(&request, |_| Answer::TimedOut), 503);
}

#[test]
fn only_a_json_object_is_a_manifest() {
    let world = World::new();
    for bad in ["", "[]", "null", "7", "\"x\"", "{", "{} {}", "{\"a\":}"] {
        check(&world.respond(&post(world.gateway, bad)), 400);
    }
    check(&world.respond(&post(world.gateway, b"{\"\xff\":1}".to_vec())), 400);
    let open = limits::MANIFEST_BYTES_MAX - "{\"a\":".len();
    check(&world.respond(&post(world.gateway, format!("{{\"a\":{}", "[".repeat(open)))), 400);
}
