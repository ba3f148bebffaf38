//! Tests of authentication and phases.

use super::*;

fn is_open(request: &Request) -> bool {
    matches!(request.path.as_str(), "/health" | "/ready")
}

#[test]
fn every_call_but_health_needs_its_credential_before_the_body_is_read() {
    let world = World::new();
    for request in every_call(&world) {
        let stripped = Request { api_key: None, ..request.clone().authorization(None) };
        let refused = world.preflight(&stripped);
        if is_open(&request) {
            assert!(refused.is_ok());
            continue;
        }
        let refusal = refused.unwrap_err();
        check(&refusal, 401);
        assert!(field(&refusal, "WWW-Authenticate").is_some(), "RFC 9110 section 15.5.2");
        assert_eq!(world.respond(&stripped), refusal, "the same once the body is there");
    }
}

#[test]
fn no_credential_but_the_admin_token_opens_an_admin_call() {
    let world = World::new();
    let stats = Request::new("GET", "/api/internal/v1/stats");
    for bad in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer admin-toke"),
        Some("Bearer admin-token2"),
        Some("Bearer Admin-Token"),
        Some("Bearer gateway-key"),
        Some("Basic admin-token"),
        Some("admin-token"),
    ] {
        let response = world.respond(&stats.clone().authorization(bad));
        check(&response, 401);
        assert_eq!(field(&response, "WWW-Authenticate"), Some("Bearer"));
    }
    check(&world.respond(&stats.clone().api_key(KEY)), 401);
    check(&world.respond(&stats.clone().api_key(ADMIN)), 401);
    for good in ["Bearer admin-token", "bearer admin-token", "BEARER  admin-token"] {
        assert_eq!(world.asks(&stats.clone().authorization(Some(good))).len(), 3);
    }
}

#[test]
fn a_starting_hub_answers_503_and_never_rejects_a_key() {
    let mut world = World::in_phase(Phase::Starting);
    world.directory = Directory::default();
    for request in every_call(&world) {
        check(&world.respond(&request), if request.path == "/health" { 200 } else { 503 });
    }
}

#[test]
fn a_draining_hub_refuses_changes_and_answers_reads() {
    let world = World::in_phase(Phase::Draining);
    for request in every_call(&world) {
        match (request.method, request.path.as_str()) {
            ("GET", "/health") => check(&world.respond(&request), 200),
            ("GET", "/ready") => check(&world.respond(&request), 503),
            ("GET", _) => assert!(!world.asks(&request).is_empty()),
            _ => check(&world.respond(&request), 503),
        }
    }
}

#[test]
fn an_overloaded_or_silent_hub_is_503_for_every_call_with_one_ask() {
    let world = World::new();
    for request in every_call(&world) {
        let fans_out = request.path.ends_with("/deploy-revision") || request.path == "/api/v1/events";
        if is_open(&request) || fans_out {
            continue;
        }
        check(&world.run(&request, |_| Answer::Overloaded), 503);
        check(&world.run(&request, |_| Answer::TimedOut), 503);
    }
}

#[test]
fn an_error_of_a_change_says_whether_the_change_was_made() {
    fn unavailable(kept: Kept) -> Answer {
        Answer::Store(StoreOutcome::Unavailable("busy".to_owned(), kept))
    }
    // An answer can be given once, so it is made anew for each call.
    let answer = |case| match case {
        0 => (Answer::Overloaded, "no"),
        1 => (Answer::TimedOut, "unknown"),
        2 => (unavailable(Kept::No), "no"),
        _ => (unavailable(Kept::Unknown), "unknown"),
    };
    let world = World::new();
    for request in every_call(&world) {
        if is_open(&request) || !world.asks(&request).iter().any(|ask| matches!(ask, Ask::Store(_))) {
            continue;
        }
        for case in 0..4 {
            let response = world.run(&request, |_| answer(case).0);
            let (_, kept) = answer(case);
            check(&response, 503);
            let expected = (request.method != "GET").then_some(kept);
            assert_eq!(json(&response).get("kept").and_then(Value::as_str), expected, "{request:?}");
        }
    }
}

#[test]
fn no_error_names_a_file_a_version_or_a_secret() {
    let world = World::new();
    let failing =
        |_| Answer::Store(StoreOutcome::Unavailable("/var/lib/hub/store.db: disk I/O error".to_owned(), Kept::No));
    let response = world.run(&Request::new("POST", "/api/v1/gateways").body(r#"{"name":"edge"}"#), failing);
    check(&response, 503);
    let text = String::from_utf8(response.body).unwrap();
    assert!(!text.contains('/') && !text.contains(env!("CARGO_PKG_VERSION")) && !text.contains(ADMIN), "{text}");
}
