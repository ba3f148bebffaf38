//! Tests of the route table: paths, methods, sizes of bodies, health.

use super::*;

#[test]
fn only_the_exact_path_is_routed() {
    let world = World::new();
    let check_missing = |path: String| check(&world.respond(&Request::new("GET", path)), 404);
    for path in [
        "",
        "*",
        "/",
        "//",
        "/health/",
        "//health",
        "/Health",
        "/health%00",
        "/api/internal/v1//stats",
        "//api/internal/v1/stats",
        "/ws/../api/internal/v1/stats",
        "/api/internal/v1/./stats",
        "/api/internal/v1/%73tats",
        "/api%2finternal/v1/stats",
        "/api/internal/v1/stats/",
        "/api/internal/v1/stats;x",
        "/api/internal/v1/stats#x",
        "http://hub/api/internal/v1/stats",
        "/ws/../stats",
        "//stats",
        "/stats",
        "/api/v1/gateways/",
        "/api/v1/gateways//tokens",
        "/api/v1/gateways/{}/tokens/x/y",
        "/api/v1/gateways/../gateways",
        "/api/v1/gateways/x/eventss",
        "/api/v1/gateways/x/events/",
        "/api/v1/gateways/x/event",
        "/api/v1/gateways/x/events/1/resends",
        "/api/v1/gateways/x/events//resend",
        "/api/v1/gateways//events/1/resend",
        "/api/v1/apis/x/deploy-revision/",
        "/api/v1/apis//deploy-revision",
        "/internal/gateway/.well-known",
    ] {
        check_missing(path.to_owned());
    }
    let id = world.gateway;
    for path in
        [format!("/api/v1/gateways/{id}/"), format!("/api/v1/gateways/{id}%00"), format!("/api/v1/gateways%2f{id}")]
    {
        check_missing(path);
    }
}

#[test]
fn the_well_known_path_of_another_product_is_404_for_any_method() {
    let world = World::new();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        check(&world.respond(&Request::new(method, "/internal/gateway/.well-known")), 404);
    }
}

#[test]
fn a_method_that_is_not_allowed_is_405_with_the_allowed_ones() {
    let world = World::new();
    let id = world.gateway;
    let check_allow = |path: &str, allow: &str| {
        let methods = ["PUT", "OPTIONS", "TRACE", "PATCH", "CONNECT"];
        for method in methods.into_iter().filter(|method| !allow.contains(method)) {
            let response = world.respond(&Request::new(method, path).authorization(None));
            check(&response, 405);
            assert_eq!(field(&response, "Allow"), Some(allow), "{path}");
        }
    };
    check_allow("/health", "GET, HEAD");
    check_allow("/ready", "GET, HEAD");
    check_allow("/metrics", "GET, HEAD");
    check_allow("/api/internal/v1/stats", "GET, HEAD");
    check_allow("/api/v1/events", "POST");
    check_allow("/api/v1/gateways", "GET, HEAD, POST");
    check_allow(&format!("/api/v1/gateways/{id}"), "GET, HEAD, PATCH, DELETE");
    check_allow(&format!("/api/v1/gateways/{id}/tokens"), "GET, HEAD, POST");
    check_allow(&format!("/api/v1/gateways/{id}/tokens/{id}"), "DELETE");
    check_allow(&format!("/api/v1/gateways/{id}/events"), "GET, HEAD, POST");
    check_allow(&format!("/api/v1/apis/{id}/deploy-revision"), "POST");
    check_allow(&format!("/api/internal/v1/gateways/{id}/manifest"), "POST");
}

#[test]
fn head_is_routed_as_get_and_never_as_post() {
    let world = World::new();
    check(&world.respond(&Request::new("HEAD", "/health")), 200);
    check(&world.respond(&Request::new("HEAD", "/api/v1/events")), 405);
    check(&world.respond(&Request::new("HEAD", "/metrics").authorization(None)), 401);
}

#[test]
fn the_maximum_size_of_a_body_is_known_from_the_head() {
    let world = World::new();
    let bounds: Vec<_> = every_call(&world).iter().map(|request| world.preflight(request).unwrap()).collect();
    let small = limits::BODY_BYTES_MAX;
    let expected = [
        [0, 0, 0, 0, limits::MANIFEST_BYTES_MAX].as_slice(),
        &[0, small, 0, small, 0, small, small],
        &[0, limits::PUBLISH_BODY_BYTES_MAX, small, limits::BATCH_BODY_BYTES_MAX, limits::DEPLOY_BODY_BYTES_MAX],
    ];
    assert_eq!(bounds, expected.concat());
}

#[test]
fn a_body_that_is_too_large_is_413_for_every_call() {
    let world = World::new();
    for request in every_call(&world) {
        let bound = world.preflight(&request).unwrap();
        check(&world.respond(&request.body(vec![b' '; bound + 1])), 413);
    }
}

#[test]
fn health_is_200_in_every_phase_and_ready_only_when_ready() {
    for (phase, ready) in [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503)] {
        let world = World::in_phase(phase);
        check(&world.respond(&Request::new("GET", "/health").authorization(None)), 200);
        check(&world.respond(&Request::new("GET", "/ready").authorization(None)), ready);
    }
}

#[test]
fn a_hub_whose_store_or_log_cannot_write_is_ready_and_reports_degraded() {
    for (degraded, health, expected) in [
        (false, "", r#"{"status":"ready"}"#),
        (true, "", r#"{"status":"degraded","reason":"the store cannot write"}"#),
        (false, "no room", r#"{"status":"degraded","reason":"no room"}"#),
        (true, "no room", r#"{"status":"degraded","reason":"the store cannot write; no room"}"#),
    ] {
        let world = World { degraded, ..World::new() };
        world.log.set_health(health.to_owned());
        let response = world.respond(&Request::new("GET", "/ready").authorization(None));
        assert_eq!((response.status, std::str::from_utf8(&response.body)), (200, Ok(expected)));
    }
}

#[test]
fn a_hub_with_a_stuck_core_is_alive_but_not_ready_and_names_the_core() {
    let world = World { stuck: Some(ShardId(2)), ..World::new() };
    check(&world.respond(&Request::new("GET", "/health").authorization(None)), 200);
    let response = world.respond(&Request::new("GET", "/ready").authorization(None));
    check(&response, 503);
    assert!(response.fields.contains(&("Retry-After", "1".to_owned())), "{:?}", response.fields);
    let body = String::from_utf8(response.body).unwrap();
    assert!(body.contains("core 2 is stuck"), "{body}");
    let drains = World { phase: Phase::Draining, ..world };
    let body = String::from_utf8(drains.respond(&Request::new("GET", "/ready").authorization(None)).body).unwrap();
    assert!(body.contains("draining"), "{body}");
}
